//! The frame a command runs in, so that its process group can be ended and its end be seen.
//!
//! libssh2 can neither send a signal to a command nor tell that an exit status of 0 has come before the output
//! is closed. So a small shell stands around the command: it says its process id (sshd has made it the leader
//! of a session, and so of a process group), runs the command, and says its status. Both go to standard error
//! behind a mark that nothing else can contain, and are taken out of the stream again. The status goes to standard output
//! as well: what the command itself wrote to either has come when it is there, whatever a process that it left behind may
//! write yet.

use ssh_key::rand_core::{OsRng, RngCore};

use super::ExitStatus;
use crate::quote;

/// What the frame says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Notice {
    /// The process group of the command.
    Group(i32),
    /// The command has ended with this status; 128 and a signal's number where a signal ended it.
    Ended(i32),
}

/// What a status says that the frame has told: over 128 it stands for a signal, where that is one of RFC 4254, section 6.10, by
/// Linux's numbers (signal(7)).
pub(super) fn ended(status: i32) -> ExitStatus {
    let name = match status - 128 {
        1 => "HUP",
        2 => "INT",
        3 => "QUIT",
        4 => "ILL",
        6 => "ABRT",
        8 => "FPE",
        9 => "KILL",
        10 => "USR1",
        11 => "SEGV",
        12 => "USR2",
        13 => "PIPE",
        14 => "ALRM",
        15 => "TERM",
        _ => return ExitStatus::Code(status),
    };
    ExitStatus::Signal(name.to_owned())
}

/// Takes the notices out of one of a command's output streams.
pub(super) struct Frame {
    mark: Vec<u8>,
    held: Vec<u8>,
}

/// Longer than any notice; what goes on for longer is none.
const NOTICE_MAX: usize = 32;

impl Frame {
    pub(super) fn new() -> Self {
        // A record separator first: plain text then never has to wait for what may become a mark.
        Self { mark: format!("\u{1e}posada:{:016x}:", OsRng.next_u64()).into_bytes(), held: Vec::new() }
    }

    /// The same for the command's other stream.
    pub(super) fn twin(&self) -> Self {
        Self { mark: self.mark.clone(), held: Vec::new() }
    }

    /// The command line that runs `command` inside the frame; any POSIX shell, and fish, understands it.
    pub(super) fn wrap(&self, command: &str) -> String {
        let mark = String::from_utf8_lossy(&self.mark);
        // The shell that sshd started has read ~/.bashrc; at its level bash would read it once more.
        // A status over 128 is passed on as the signal it stands for, where it is one.
        let frame = format!(
            "printf '%s\\n' \"{mark}g$$\" >&2; SHLVL=1 \"${{SHELL:-/bin/sh}}\" -c \"$1\"; s=$?; \
             printf '%s\\n' \"{mark}e$s\"; printf '%s\\n' \"{mark}e$s\" >&2; \
             if [ $s -gt 128 ]; then kill -$((s-128)) $$ 2>/dev/null; fi; exit $s"
        );
        format!("exec /bin/sh -c {} posada {}", quote::word(&frame), quote::word(command))
    }

    /// Takes the next bytes; gives plain text to `text` and what the frame says to `notice`.
    pub(super) fn push(&mut self, bytes: &[u8], mut text: impl FnMut(&[u8]), mut notice: impl FnMut(Notice)) {
        self.held.extend_from_slice(bytes);
        let mut done = 0;
        loop {
            let rest = &self.held[done..];
            let Some(at) = find_or_prefix(rest, &self.mark) else {
                emit(rest, &mut text);
                done = self.held.len();
                break;
            };
            emit(&rest[..at], &mut text);
            done += at;
            let Some(said) = self.held[done..].strip_prefix(self.mark.as_slice()) else { break };
            let Some(end) = said.iter().position(|b| *b == b'\n') else {
                if said.len() <= NOTICE_MAX {
                    break;
                }
                emit(&self.mark, &mut text);
                done += self.mark.len();
                continue;
            };
            match parse(&said[..end]) {
                Some(said) => notice(said),
                None => emit(&self.held[done..=done + self.mark.len() + end], &mut text),
            }
            done += self.mark.len() + end + 1;
        }
        self.held.drain(..done);
    }

    /// What was kept back and has not become a notice.
    pub(super) fn finish(&mut self, mut text: impl FnMut(&[u8])) {
        emit(&self.held, &mut text);
        self.held.clear();
    }
}

fn emit(bytes: &[u8], text: &mut impl FnMut(&[u8])) {
    if !bytes.is_empty() {
        text(bytes);
    }
}

fn parse(said: &[u8]) -> Option<Notice> {
    let said = std::str::from_utf8(said).ok()?;
    match said.split_at_checked(1)? {
        ("g", number) => number.parse().ok().filter(|pid| *pid > 1).map(Notice::Group),
        ("e", number) => number.parse().ok().map(Notice::Ended),
        _ => None,
    }
}

/// Where `mark` begins in `bytes`, or what may become it at their end.
fn find_or_prefix(bytes: &[u8], mark: &[u8]) -> Option<usize> {
    let mut from = 0;
    while let Some(at) = bytes[from..].iter().position(|b| *b == mark[0]).map(|at| from + at) {
        let rest = &bytes[at..];
        if rest.starts_with(mark) || mark.starts_with(rest) {
            return Some(at);
        }
        from = at + 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_status_over_128_is_the_signal_it_stands_for() {
        assert_eq!(ended(137), ExitStatus::Signal("KILL".to_owned()));
        assert_eq!(ended(143), ExitStatus::Signal("TERM".to_owned()));
        for code in [0, 1, 128, 145, 255] {
            assert_eq!(ended(code), ExitStatus::Code(code));
        }
    }

    fn run(frame: &mut Frame, pieces: &[&[u8]]) -> (Vec<u8>, Vec<Notice>) {
        let (mut text, mut notices) = (Vec::new(), Vec::new());
        for piece in pieces {
            frame.push(piece, |t| text.extend_from_slice(t), |n| notices.push(n));
        }
        frame.finish(|t| text.extend_from_slice(t));
        (text, notices)
    }

    #[test]
    fn the_frame_speaks_through_a_real_shell() {
        for (command, code, said) in [("echo hi >&2; exit 3", Some(3), 3), ("kill -9 $$", None, 137)] {
            let mut frame = Frame::new();
            let out = std::process::Command::new("sh")
                .args(["-c", &frame.wrap(command)])
                .env("SHELL", "/bin/sh")
                .output()
                .unwrap();
            let (text, notices) = run(&mut frame.twin(), &[&out.stdout]);
            assert!(text.is_empty() && notices == [Notice::Ended(said)], "{notices:?}");
            let (text, notices) = run(&mut frame, &[&out.stderr]);
            assert_eq!(out.status.code(), code);
            assert!(matches!(notices[..], [Notice::Group(_), Notice::Ended(s)] if s == said), "{notices:?}");
            assert!(text.is_empty() || text.starts_with(b"hi\n") || code.is_none());
        }
    }

    #[test]
    fn plain_text_is_never_kept_back() {
        let mut frame = Frame::new();
        let mut text = Vec::new();
        frame.push(b"posada: no line end", |t| text.extend_from_slice(t), |_| panic!());
        assert_eq!(text, b"posada: no line end");
    }

    proptest! {
        #[test]
        fn notices_are_found_wherever_the_stream_is_cut(
            before in "[a-z\n\u{1e}]{0,20}", after in "[a-z\n\u{1e}]{0,20}", cuts in prop::collection::vec(0_usize..100, 0..6)
        ) {
            let mut frame = Frame::new();
            let mut stream = before.clone().into_bytes();
            stream.extend_from_slice(&frame.mark.clone());
            stream.extend_from_slice(b"g4711\n");
            stream.extend_from_slice(after.as_bytes());
            let mut cuts: Vec<usize> = cuts.into_iter().map(|c| c.min(stream.len())).collect();
            cuts.sort_unstable();
            cuts.push(stream.len());
            let mut from = 0;
            let pieces: Vec<&[u8]> = cuts.iter().map(|&to| { let p = &stream[from..to]; from = to; p }).collect();
            let (text, notices) = run(&mut frame, &pieces);
            prop_assert_eq!(text, [before.as_bytes(), after.as_bytes()].concat());
            prop_assert_eq!(notices, vec![Notice::Group(4711)]);
        }
    }
}
