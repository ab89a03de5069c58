//! How commands and files get into a machine.

use std::fmt;
use std::io::Read;
use std::os::fd::BorrowedFd;

use crate::output::{LineSplitter, OutputSink, OutputStream};

mod error;
mod exec;
mod feed;
mod link;
mod ssh;
mod upload;
mod wrap;

pub use error::TransportError;
pub use ssh::{Login, Ssh};
pub use upload::{upload_dir, upload_file};

/// What a command reads from its standard input.
pub enum Stdin<'a> {
    /// Nothing: it reads its end at once.
    Empty,
    /// These bytes.
    Bytes(&'a [u8]),
    /// All that this yields. Reading from it may block, so it should be something quick, as a local file.
    Reader(&'a mut dyn Read),
    /// What comes from a terminal, pipe or socket of ours, as it comes.
    Fd(BorrowedFd<'a>),
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExitStatus {
    /// It ended by itself, with this status.
    Code(i32),
    /// A signal ended it; its name without `SIG` (RFC 4254, section 6.10).
    Signal(String),
}

impl ExitStatus {
    /// Whether it ended with status 0.
    #[must_use]
    pub fn success(&self) -> bool {
        *self == Self::Code(0)
    }
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit status {code}"),
            Self::Signal(name) => write!(f, "signal {name}"),
        }
    }
}

/// Takes a command's output in the pieces it comes in.
pub type Output<'a> = &'a mut dyn FnMut(OutputStream, &[u8]);

/// A way to run commands in a machine. Blocking; one command at a time.
pub trait Transport: Send {
    /// Runs `command` in the login user's shell and waits for its end, or for its cancellation.
    ///
    /// The command has ended when its process has: a background process that keeps its output open is not
    /// waited for, and what it prints later is lost.
    ///
    /// # Errors
    /// [`TransportError::Interrupted`] where it was cancelled: its process group is gone then.
    /// [`TransportError::Lost`] where the connection broke. An exit status other than 0 is no error.
    fn run(
        &mut self,
        command: &str,
        stdin: Stdin<'_>,
        output: Output<'_>,
    ) -> Result<ExitStatus, TransportError>;

    /// Runs a short command that cleans up, also after cancelling; what it prints is dropped.
    ///
    /// # Errors
    /// Those of [`run`](Transport::run), and [`TransportError::TimedOut`] where it is not short.
    fn tidy(&mut self, command: &str) -> Result<ExitStatus, TransportError> {
        self.run(command, Stdin::Empty, &mut |_, _| {})
    }

    /// As [`run`](Transport::run), with the output cut into lines.
    ///
    /// # Errors
    /// Those of [`run`](Transport::run).
    fn exec(
        &mut self,
        command: &str,
        stdin: Stdin<'_>,
        output: &dyn OutputSink,
    ) -> Result<ExitStatus, TransportError> {
        let (mut out, mut err) = (LineSplitter::default(), LineSplitter::default());
        let status = self.run(command, stdin, &mut |stream, bytes| {
            let splitter = match stream {
                OutputStream::Stdout => &mut out,
                OutputStream::Stderr => &mut err,
            };
            splitter.push(bytes, |line| output.line(stream, line));
        });
        out.finish(|line| output.line(OutputStream::Stdout, line));
        err.finish(|line| output.line(OutputStream::Stderr, line));
        status
    }
}

/// Runs a command that is expected to print little.
pub(crate) fn capture(
    transport: &mut dyn Transport,
    command: &str,
    stdin: Stdin<'_>,
) -> Result<Captured, TransportError> {
    /// More than that is not kept: it would be no message of ours.
    const ENOUGH: usize = 64 * 1024;
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let status = transport.run(command, stdin, &mut |stream, bytes| {
        let kept = if stream == OutputStream::Stdout { &mut out } else { &mut err };
        let room = ENOUGH.saturating_sub(kept.len());
        kept.extend_from_slice(&bytes[..bytes.len().min(room)]);
    })?;
    Ok(Captured { status, out: lossy(&out), err: lossy(&err) })
}

/// What a short command did and said.
pub(crate) struct Captured {
    pub(crate) status: ExitStatus,
    pub(crate) out: String,
    pub(crate) err: String,
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
