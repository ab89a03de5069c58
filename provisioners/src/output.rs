//! What a running step prints, line by line.

use std::collections::VecDeque;
use std::sync::Mutex;

/// Which of its streams a command wrote to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OutputStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Takes a command's output as it comes.
///
/// Lines of one stream come in order. Between the two streams the order is that of arrival: SSH carries them
/// apart, so what was written to both in the same instant comes with standard output first.
pub trait OutputSink: Send + Sync {
    /// One line without its line end. Bytes that are not UTF-8 are replaced by U+FFFD.
    fn line(&self, stream: OutputStream, text: &str);
}

/// The longest line that is passed on in one piece, bytes. A longer one comes in pieces.
pub const MAX_LINE: usize = 16 * 1024;

/// Cuts a byte stream into lines the way a terminal would show them: text that a carriage return lets later
/// text overwrite (progress bars) is dropped.
#[derive(Debug, Default)]
pub struct LineSplitter {
    line: Vec<u8>,
    returned: bool,
}

impl LineSplitter {
    /// Takes the next bytes and hands every line they complete to `emit`.
    pub fn push(&mut self, bytes: &[u8], mut emit: impl FnMut(&str)) {
        for &byte in bytes {
            match byte {
                b'\n' => self.flush(&mut emit),
                b'\r' => self.returned = true,
                _ => {
                    if self.returned {
                        self.line.clear();
                        self.returned = false;
                    }
                    self.line.push(byte);
                    if self.line.len() >= MAX_LINE {
                        self.cut(&mut emit);
                    }
                }
            }
        }
    }

    /// Hands over the last line, where the stream ended without a line end.
    pub fn finish(&mut self, mut emit: impl FnMut(&str)) {
        if !self.line.is_empty() {
            self.flush(&mut emit);
        }
    }

    fn flush(&mut self, emit: &mut impl FnMut(&str)) {
        emit(&String::from_utf8_lossy(&self.line));
        self.line.clear();
        self.returned = false;
    }

    /// Emits a full buffer, but keeps back a character that is not complete yet.
    fn cut(&mut self, emit: &mut impl FnMut(&str)) {
        let tail = self.line.utf8_chunks().last().map_or(0, |chunk| {
            let invalid = chunk.invalid();
            // A lone prefix of a character can only be the last thing in the buffer.
            if invalid.len() < 4 && std::str::from_utf8(invalid).is_err_and(|e| e.error_len().is_none()) {
                invalid.len()
            } else {
                0
            }
        });
        let keep = self.line.split_off(self.line.len() - tail);
        emit(&String::from_utf8_lossy(&self.line));
        self.line = keep;
    }
}

/// A sink that passes lines on and keeps the last of them.
pub(crate) struct Tail<'a> {
    next: &'a dyn OutputSink,
    lines: Mutex<VecDeque<String>>,
}

/// How many of a step's last lines its error carries.
pub(crate) const TAIL_LINES: usize = 20;

impl<'a> Tail<'a> {
    pub(crate) fn new(next: &'a dyn OutputSink) -> Self {
        Self { next, lines: Mutex::default() }
    }

    pub(crate) fn into_lines(self) -> Vec<String> {
        self.lines.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner).into()
    }
}

impl OutputSink for Tail<'_> {
    fn line(&self, stream: OutputStream, text: &str) {
        self.next.line(stream, text);
        let mut lines = self.lines.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if lines.len() == TAIL_LINES {
            lines.pop_front();
        }
        lines.push_back(text.to_owned());
    }
}

/// A sink that lets nothing out.
pub(crate) struct Withheld;

impl OutputSink for Withheld {
    fn line(&self, _: OutputStream, _: &str) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lines(pieces: &[&[u8]]) -> Vec<String> {
        let mut splitter = LineSplitter::default();
        let mut out = Vec::new();
        for piece in pieces {
            splitter.push(piece, |l| out.push(l.to_owned()));
        }
        splitter.finish(|l| out.push(l.to_owned()));
        out
    }

    #[test]
    fn lines_are_joined_across_pieces() {
        assert_eq!(lines(&[b"ab", b"c\nd", b"\n\nlast"]), ["abc", "d", "", "last"]);
        assert_eq!(
            lines(&["h\u{e9}".as_bytes().split_at(2).0, &"\u{e9}".as_bytes()[1..], b"\n"]),
            ["h\u{e9}"]
        );
    }

    #[test]
    fn windows_line_ends_and_progress_bars() {
        assert_eq!(lines(&[b"a\r", b"\nb\r\n"]), ["a", "b"]);
        assert_eq!(lines(&[b" 10%\r 50%\r100%\ndone\n"]), ["100%", "done"]);
        assert_eq!(lines(&[b"100%\r"]), ["100%"]);
    }

    #[test]
    fn what_is_not_utf8_is_replaced() {
        assert_eq!(lines(&[b"a\xffb\n"]), ["a\u{fffd}b"]);
    }

    #[test]
    fn long_lines_come_in_pieces_that_lose_nothing() {
        let long = "\u{20ac}".repeat(MAX_LINE);
        let got = lines(&[long.as_bytes(), b"\nend\n"]);
        assert_eq!(got.len(), 5);
        assert!(got.iter().all(|l| l.len() <= MAX_LINE));
        assert_eq!(got[..4].concat(), long);
        let junk = vec![0xff_u8; MAX_LINE + 7];
        assert_eq!(lines(&[&junk]).concat().chars().count(), junk.len());
    }

    #[test]
    fn the_tail_is_bounded() {
        let tail = Tail::new(&Withheld);
        for n in 0..50 {
            tail.line(OutputStream::Stdout, &n.to_string());
        }
        let lines = tail.into_lines();
        assert_eq!((lines.len(), lines[0].as_str(), lines[19].as_str()), (20, "30", "49"));
    }

    proptest! {
        #[test]
        fn where_the_stream_is_cut_does_not_matter(text in "[a-z\u{20ac}\r\n]{0,200}", at in 0_usize..400) {
            let bytes = text.as_bytes();
            let (a, b) = bytes.split_at(at.min(bytes.len()));
            prop_assert_eq!(lines(&[a, b]), lines(&[bytes]));
        }

        #[test]
        fn plain_lines_survive(input in prop::collection::vec("[a-z ]{1,40}", 0..30)) {
            prop_assert_eq!(lines(&[(input.join("\n") + "\n").as_bytes()]).join("\n"), input.join("\n"));
        }
    }
}
