//! What the host changes in synced folders, told to the guest over a port of its console. What is told is raised there by
//! a service of the seed; the words are those of [`posada_templates::Changes`].
//!
//! Nothing waits for a guest that does not read: what finds no room is made up for by raising the folder itself.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use posada_vmm::config::ChangeListener;
use posada_vmm::fuse::watch::{Changes, Kind};

/// The port's name in the guest.
pub(crate) const PORT: &str = "org.posada.changes";

/// About how long a line may be, bytes: the paths of one are the arguments of one command in the guest.
const LONGEST_LINE: usize = 32 << 10;

/// Tells a guest what changes in its folders.
#[derive(Clone)]
pub(crate) struct Teller(Arc<Mutex<Port>>);

impl Teller {
    /// One that writes to `stream`, which must not block.
    pub(crate) fn new(stream: OwnedFd) -> Self {
        Self(Arc::new(Mutex::new(Port { stream, rest: Vec::new() })))
    }

    /// Who hears of the folder with this tag.
    pub(crate) fn listener(&self, tag: String) -> ChangeListener {
        let folder = Mutex::new(Folder { port: Arc::clone(&self.0), tag, missed: false });
        ChangeListener::new(move |changes| {
            folder.lock().unwrap_or_else(PoisonError::into_inner).tell(changes);
        })
    }
}

struct Folder {
    port: Arc<Mutex<Port>>,
    tag: String,
    /// Whether the last time left something untold.
    missed: bool,
}

impl Folder {
    fn tell(&mut self, changes: &Changes) {
        let mut port = self.port.lock().unwrap_or_else(PoisonError::into_inner);
        let lines = lines(&self.tag, changes, changes.lost || self.missed);
        self.missed = !lines.iter().all(|line| port.tell(line));
    }
}

struct Port {
    stream: OwnedFd,
    /// The end of a line of which the rest has been taken; it goes before the next one.
    rest: Vec<u8>,
}

impl Port {
    /// Returns whether the line was taken.
    fn tell(&mut self, line: &str) -> bool {
        let sent = self.send(&self.rest);
        self.rest.drain(..sent);
        if !self.rest.is_empty() {
            return false;
        }
        let sent = self.send(line.as_bytes());
        if sent > 0 {
            self.rest.extend_from_slice(&line.as_bytes()[sent..]);
        }
        sent > 0
    }

    /// How much there was room for.
    fn send(&self, bytes: &[u8]) -> usize {
        // A guest that is gone takes nothing either.
        if bytes.is_empty() { 0 } else { rustix::io::write(&self.stream, bytes).unwrap_or(0) }
    }
}

/// The lines that tell `changes`, with the folder itself where `all` may have changed.
fn lines(tag: &str, changes: &Changes, all: bool) -> Vec<String> {
    let top = Path::new("");
    let mut paths: BTreeSet<&Path> = all.then_some(top).into_iter().collect();
    paths.extend(changes.paths.iter().map(|(path, kind)| match kind {
        Kind::Created | Kind::Modified => path.as_path(),
        // There is nothing to raise it of but its folder.
        Kind::Removed => path.parent().unwrap_or(top),
    }));
    let mut lines: Vec<String> = Vec::new();
    for path in paths {
        if lines.last().is_none_or(|line| line.len() >= LONGEST_LINE) {
            lines.push(tag.to_owned());
        }
        if let Some(line) = lines.last_mut() {
            line.push_str(" .");
            for part in path {
                line.push('/');
                encode(part.as_bytes(), line);
            }
        }
    }
    lines.iter_mut().for_each(|line| line.push('\n'));
    lines
}

fn encode(bytes: &[u8], line: &mut String) {
    for byte in bytes {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'_' | b'-' => line.push(char::from(*byte)),
            // Writing to a string does not fail.
            byte => drop(write!(line, "\\0{byte:03o}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::io::Read;
    use std::os::unix::ffi::OsStringExt;
    use std::os::unix::net::UnixStream;
    use std::path::PathBuf;
    use std::process::Command;

    use proptest::prelude::*;

    use super::*;

    fn changed(paths: &[(&str, Kind)]) -> Changes {
        Changes { paths: paths.iter().map(|(path, kind)| (path.into(), *kind)).collect(), lost: false }
    }

    #[test]
    fn what_is_gone_is_told_of_its_folder() {
        let changes = changed(&[
            ("a", Kind::Removed),
            ("b c/d", Kind::Removed),
            ("b c/e", Kind::Removed),
            ("f\n", Kind::Created),
        ]);
        assert_eq!(lines("folder0", &changes, false), ["folder0 . ./b\\0040c ./f\\0012\n"]);
        assert_eq!(lines("folder0", &changed(&[]), true), ["folder0 .\n"]);
        assert!(lines("folder0", &changed(&[]), false).is_empty());
    }

    #[test]
    fn many_are_told_in_several_lines() {
        let paths: Vec<_> = (0..4096).map(|at| (format!("{at:0200}").into(), Kind::Modified)).collect();
        let lines = lines("folder7", &Changes { paths, lost: false }, false);
        assert!(lines.iter().all(|line| line.len() < LONGEST_LINE + 300 && line.starts_with("folder7 ./")));
        assert_eq!(lines.iter().map(|line| line.split(' ').count() - 1).sum::<usize>(), 4096);
    }

    #[test]
    fn a_guest_that_does_not_read_holds_up_nothing_and_hears_of_the_folder_later() {
        let (ours, mut guest) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        guest.set_nonblocking(true).unwrap();
        let port = Teller::new(ours.into()).0;
        let mut folder = Folder { port, tag: "f".into(), missed: false };
        let large = Changes {
            paths: (0..1000).map(|at| (format!("{at:0200}").into(), Kind::Modified)).collect(),
            lost: false,
        };
        while !folder.missed {
            folder.tell(&large);
        }
        folder.tell(&large);
        let mut read = Vec::new();
        let _ = guest.read_to_end(&mut read);
        folder.tell(&changed(&[("last", Kind::Modified)]));
        assert!(!folder.missed);
        let _ = guest.read_to_end(&mut read);
        let text = String::from_utf8(read).unwrap();
        assert!(text.ends_with("\nf . ./last\n"), "the folder itself is told");
        let whole = |word: &str| matches!(word.len(), 202 | 1 | 6) && word.starts_with('.');
        assert!(text.lines().all(|line| line.starts_with("f ") && line[2..].split(' ').all(whole)));
    }

    /// Words as the guest's shell reads them back.
    fn decoded(line: &str) -> Vec<u8> {
        let script = "set -f; read -r tag paths; for path in $paths; do printf '%b\\n' \"$path\"; done";
        let mut child = Command::new("sh")
            .args(["-c", script])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), line.as_bytes()).unwrap();
        child.wait_with_output().unwrap().stdout
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn any_name_is_read_back(name in prop::collection::vec(1_u8.., 1..40)) {
            let name: Vec<u8> = name.into_iter().filter(|byte| *byte != b'/').collect();
            prop_assume!(!matches!(name.as_slice(), b"" | b"." | b".."));
            let path = PathBuf::from(OsString::from_vec(name.clone()));
            let changes = Changes { paths: vec![(path, Kind::Modified)], lost: false };
            let line = lines("folder0", &changes, false).concat();
            prop_assert_eq!(line.matches('\n').count(), 1);
            prop_assert_eq!(decoded(&line), [b"./", name.as_slice(), b"\n"].concat());
        }
    }
}
