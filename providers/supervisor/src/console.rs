//! A machine's console: kept in a bounded file, told line by line, and lent to whoever attaches.

use std::fs::File;
use std::io::{self, Write};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use posada_provider_api::Observer;
use rustix::event::{Timespec, epoll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::{broadcast, mpsc, watch};
use tokio::task::JoinHandle;

/// The console log is turned over at this size, bytes; the file before it is kept as `console.log.1`.
pub const LOG_LIMIT: u64 = 1 << 20;

/// The longest line that is told in one piece, bytes.
const LINE_LIMIT: usize = 4096;

/// Keeps one machine's console; ends on drop.
#[derive(Debug)]
pub struct ConsoleHub {
    printed: broadcast::Sender<Arc<[u8]>>,
    typed: mpsc::Sender<Vec<u8>>,
    ended: watch::Receiver<()>,
    pump: JoinHandle<()>,
}

impl ConsoleHub {
    /// Takes the host's end of the console (a pty master or a socket), writes what it prints to `log`, and tells
    /// `observer` its lines. Must be called on a tokio runtime.
    ///
    /// # Errors
    /// Where the log cannot be opened.
    pub fn start(console: OwnedFd, log: &Path, observer: Arc<dyn Observer>) -> io::Result<Self> {
        let console = Terminal::new(console)?;
        let log = BoundedLog::open(log)?;
        let printed = broadcast::Sender::new(256);
        let (typed, keys) = mpsc::channel(64);
        let (end, ended) = watch::channel(());
        let pumping = pump(console, log, observer, printed.clone(), keys);
        let pump = tokio::spawn(async move {
            pumping.await;
            drop(end);
        });
        Ok(Self { printed, typed, ended, pump })
    }

    /// Returns when the machine has closed its end and all that it printed has been told.
    pub async fn ended(&self) {
        let _ = self.ended.clone().changed().await;
    }

    /// A stream to the console: what is written to it is typed, what is read from it was printed.
    ///
    /// # Errors
    /// Where no socket can be made.
    pub fn attach(&self) -> io::Result<OwnedFd> {
        let (ours, theirs) = UnixStream::pair()?;
        tokio::spawn(lend(ours, self.printed.subscribe(), self.typed.clone()));
        Ok(theirs.into_std()?.into())
    }
}

impl Drop for ConsoleHub {
    fn drop(&mut self) {
        self.pump.abort();
    }
}

async fn pump(
    console: Terminal,
    mut log: BoundedLog,
    observer: Arc<dyn Observer>,
    printed: broadcast::Sender<Arc<[u8]>>,
    mut keys: mpsc::Receiver<Vec<u8>>,
) {
    let mut lines = Lines::default();
    let mut pending = Vec::new();
    let mut chunk = [0u8; 4096];
    loop {
        while let Some(read) = console.read(&mut chunk) {
            let bytes = &chunk[..read];
            if bytes.is_empty() {
                return;
            }
            log.write(bytes);
            lines.feed(bytes, |line| observer.console(line));
            // Nobody attached is no error.
            let _ = printed.send(bytes.into());
            tokio::task::yield_now().await;
        }
        while !pending.is_empty()
            && let Some(written) = console.write(&pending)
        {
            pending.drain(..written);
        }
        tokio::select! {
            () = console.edge() => {}
            Some(typed) = keys.recv(), if pending.is_empty() => pending = typed,
        }
    }
}

/// The host's end of a console. A terminal that its machine hangs up (vhangup(2), as systemd does at its start)
/// comes back when the machine opens it again. The event loop takes a hang-up for the end and would spin on it,
/// so the terminal is watched by an epoll instance of its own, for edges, and that one by the event loop.
#[derive(Debug)]
struct Terminal {
    fd: OwnedFd,
    edges: AsyncFd<OwnedFd>,
}

impl Terminal {
    fn new(fd: OwnedFd) -> io::Result<Self> {
        fcntl_setfl(&fd, fcntl_getfl(&fd)? | OFlags::NONBLOCK)?;
        let edges = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let wanted = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::ET;
        epoll::add(&edges, &fd, epoll::EventData::new_u64(0), wanted)?;
        // SAFETY: the descriptor is owned by the `AsyncFd` and nothing else closes or replaces it.
        let edges = unsafe { AsyncFd::register_with_interest(edges, tokio::io::Interest::READABLE) }?;
        Ok(Self { fd, edges })
    }

    /// Returns when the terminal may have become readable or writable since the last time.
    async fn edge(&self) {
        loop {
            let Ok(mut ready) = self.edges.readable().await else { return };
            let mut events = [MaybeUninit::uninit()];
            let now = Timespec { tv_sec: 0, tv_nsec: 0 };
            let seen = epoll::wait(&self.edges, &mut events, Some(&now)).map_or(0, |(seen, _)| seen.len());
            ready.clear_ready();
            if seen > 0 {
                return;
            }
        }
    }

    /// What can be read now: `None` for nothing yet, 0 for never again.
    fn read(&self, chunk: &mut [u8]) -> Option<usize> {
        settled(rustix::io::read(&self.fd, chunk))
    }

    /// How much can be written now.
    fn write(&self, bytes: &[u8]) -> Option<usize> {
        settled(rustix::io::write(&self.fd, bytes))
    }
}

fn settled(moved: rustix::io::Result<usize>) -> Option<usize> {
    use rustix::io::Errno;
    match moved {
        Ok(moved) => Some(moved),
        Err(Errno::AGAIN | Errno::INTR | Errno::IO) => None,
        Err(_) => Some(0),
    }
}

async fn lend(stream: UnixStream, mut printed: broadcast::Receiver<Arc<[u8]>>, typed: mpsc::Sender<Vec<u8>>) {
    let (mut from, mut to) = stream.into_split();
    let mut chunk = [0u8; 1024];
    loop {
        tokio::select! {
            read = from.read(&mut chunk) => match read {
                Ok(0) | Err(_) => return,
                Ok(read) => if typed.send(chunk[..read].to_vec()).await.is_err() { return },
            },
            bytes = printed.recv() => match bytes {
                Ok(bytes) => if to.write_all(&bytes).await.is_err() { return },
                // A reader too slow for the console misses what it could not take.
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return,
            },
        }
    }
}

/// Cuts a byte stream into lines of text without control sequences.
#[derive(Debug, Default)]
struct Lines(Vec<u8>);

impl Lines {
    fn feed(&mut self, bytes: &[u8], mut tell: impl FnMut(&str)) {
        for byte in bytes {
            if *byte == b'\n' || self.0.len() == LINE_LIMIT {
                let line = plain(&String::from_utf8_lossy(&self.0));
                if !line.is_empty() {
                    tell(&line);
                }
                self.0.clear();
            }
            if *byte != b'\n' {
                self.0.push(*byte);
            }
        }
    }
}

/// `text` without escape sequences (ECMA-48, section 5.4) and control characters, so that a machine cannot draw
/// on the user's terminal.
pub fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c == '\u{1b}' {
            match chars.next() {
                Some('[') => while chars.next().is_some_and(|c| !('@'..='~').contains(&c)) {},
                Some(']') => {
                    while chars.next().is_some_and(|c| c != '\u{7}' && c != '\u{1b}') {}
                    chars.next_if_eq(&'\\');
                }
                _ => {}
            }
        } else if !c.is_control() || c == '\t' {
            out.push(c);
        }
    }
    out.trim_end().to_owned()
}

/// A log file of bounded size. A full disk loses log lines, never the machine.
#[derive(Debug)]
struct BoundedLog {
    path: PathBuf,
    file: File,
    size: u64,
}

impl BoundedLog {
    fn open(path: &Path) -> io::Result<Self> {
        let file = File::options().create(true).append(true).open(path)?;
        let size = file.metadata()?.len();
        Ok(Self { path: path.to_owned(), file, size })
    }

    fn write(&mut self, bytes: &[u8]) {
        if self.size + bytes.len() as u64 > LOG_LIMIT {
            let old = self.path.with_extension("log.1");
            if fs_err::rename(&self.path, old).is_ok()
                && let Ok(fresh) = File::options().create(true).append(true).open(&self.path)
            {
                self.file = fresh;
                self.size = 0;
            }
        }
        if self.file.write_all(bytes).is_ok() {
            self.size += bytes.len() as u64;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Default)]
    struct Heard(Mutex<Vec<String>>, tokio::sync::Notify);

    impl Observer for Heard {
        fn phase(&self, _: &str) {}
        fn warn(&self, _: &str) {}
        fn console(&self, line: &str) {
            self.0.lock().unwrap().push(line.to_owned());
            self.1.notify_one();
        }
    }

    #[tokio::test]
    async fn prints_are_logged_told_and_lent_and_keys_arrive() {
        let temp = tempfile::tempdir().unwrap();
        let log = temp.path().join("console.log");
        let (mut machine, host) = UnixStream::pair().unwrap();
        let heard = Arc::new(Heard::default());
        let hub = ConsoleHub::start(host.into_std().unwrap().into(), &log, heard.clone()).unwrap();
        let attached = std::os::unix::net::UnixStream::from(hub.attach().unwrap());
        attached.set_nonblocking(true).unwrap();
        let mut attached = UnixStream::from_std(attached).unwrap();

        machine.write_all(b"\x1b[32mhello\x1b[0m\r\npart").await.unwrap();
        heard.1.notified().await;
        assert_eq!(*heard.0.lock().unwrap(), ["hello"]);
        let mut seen = [0; 5];
        attached.read_exact(&mut seen).await.unwrap();
        assert_eq!(&seen, b"\x1b[32m", "an attached terminal sees every byte");

        attached.write_all(b"ls\n").await.unwrap();
        let mut keys = [0; 3];
        machine.read_exact(&mut keys).await.unwrap();
        assert_eq!(&keys, b"ls\n");

        machine.write_all(b"ed\nlast words\n").await.unwrap();
        drop(machine);
        hub.ended().await;
        assert_eq!(heard.0.lock().unwrap()[1..], ["parted", "last words"]);
        assert!(fs_err::read_to_string(&log).unwrap().contains("hello"));
    }

    #[tokio::test]
    async fn a_terminal_that_was_hung_up_comes_back() {
        use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let path = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
        let open = || {
            use std::os::unix::fs::OpenOptionsExt;
            let flags = OFlags::NOCTTY.bits().cast_signed();
            File::options().read(true).write(true).custom_flags(flags).open(&path).unwrap()
        };
        let terminal = Terminal::new(master).unwrap();
        open().write_all(b"before").unwrap();
        let mut chunk = [0; 16];
        while terminal.read(&mut chunk).is_some() {}
        for _ in 0..3 {
            // Closing the last slave is the hang-up.
            let slave = open();
            (&slave).write_all(b"x").unwrap();
            let read = loop {
                match terminal.read(&mut chunk) {
                    Some(read) => break read,
                    None => terminal.edge().await,
                }
            };
            assert_eq!(&chunk[..read], b"x");
        }
        assert_eq!(terminal.read(&mut chunk), None);
        let quiet = tokio::time::timeout(std::time::Duration::from_millis(50), async {
            let mut edges = 0u32;
            loop {
                terminal.edge().await;
                edges += 1;
                assert!(edges < 10, "a hang-up is told once");
            }
        });
        assert!(quiet.await.is_err());
    }

    #[test]
    fn escape_sequences_do_not_reach_the_user() {
        assert_eq!(plain("\u{1b}]0;title\u{7}a\u{1b}[1;31mb\u{1b}(c\u{8}d\t."), "abcd\t.");
        assert_eq!(plain("\u{1b}"), "");
    }

    #[test]
    fn the_log_is_bounded() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("console.log");
        let mut log = BoundedLog::open(&path).unwrap();
        for _ in 0..3 * LOG_LIMIT / 4096 {
            log.write(&[b'x'; 4096]);
        }
        assert!(fs_err::metadata(&path).unwrap().len() <= LOG_LIMIT);
        assert!(fs_err::metadata(temp.path().join("console.log.1")).unwrap().len() <= LOG_LIMIT);
    }
}
