//! Asks a supervisor on its control socket.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use posada_provider_api::{MachineDir, MachineState, Observer, ProviderError, Silent, Stopped};
use tokio::net::UnixStream;
use tokio::time::{Instant, timeout};

use crate::fdpass::{self, LineReader};
use crate::liveness;
use crate::protocol::{Answer, Envelope, Reply, Request, Status, VERSION, to_line};
use crate::server::stopped;

/// How long a supervisor may take to answer what it has at hand. It is idle but for its machine; one that is not heard
/// for so long was stopped, or starves.
const ANSWER_PATIENCE: Duration = Duration::from_secs(10);

/// A client of one machine's supervisor. Holds no connection: each request makes its own.
#[derive(Debug, Clone)]
pub struct Client {
    dir: MachineDir,
}

impl Client {
    /// A client of the supervisor of the machine in `dir`, whether it runs or not.
    #[must_use]
    pub fn new(dir: &MachineDir) -> Self {
        Self { dir: dir.clone() }
    }

    /// Carries out `request`, telling `observer` what happens meanwhile; the descriptor is the one that came with
    /// the answer.
    ///
    /// # Errors
    /// What the supervisor says; [`ProviderError::State`] where none lives, or it ends before it has answered.
    pub async fn ask(
        &self,
        request: Request,
        observer: &dyn Observer,
    ) -> Result<(Answer, Option<OwnedFd>), ProviderError> {
        let at_hand = match request {
            Request::Status | Request::Suspend | Request::Resume | Request::Console => Some(ANSWER_PATIENCE),
            Request::Connect { patience_ms, .. } => {
                Duration::from_millis(patience_ms).checked_add(ANSWER_PATIENCE)
            }
            Request::Watch | Request::Stop { .. } => None,
        };
        let asked = async {
            let stream = self.open().await?;
            self.converse(&stream, &request, observer).await
        };
        let result = match at_hand {
            Some(patience) => timeout(patience, asked).await.unwrap_or_else(|_| Err(self.silent())),
            None => asked.await,
        };
        if matches!(request, Request::Stop { .. }) && result.is_ok() {
            liveness::ended(&self.dir).await.map_err(|error| unreadable(&error))?;
        }
        result
    }

    /// How the machine is, or `None` where no supervisor lives.
    ///
    /// # Errors
    /// What the supervisor says.
    pub async fn status(&self) -> Result<Option<Status>, ProviderError> {
        match self.ask(Request::Status, &Silent).await {
            Ok((answer, _)) => Ok(answer.status),
            Err(ProviderError::State { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Stops the machine and returns when its supervisor has ended; `None` where none lived. A supervisor that does
    /// not answer is killed where `patience_ms` is 0.
    ///
    /// # Errors
    /// What the supervisor says; [`ProviderError::Host`] where it does not answer.
    pub async fn stop(&self, patience_ms: u64) -> Result<Option<Stopped>, ProviderError> {
        let began = Instant::now();
        match self.status().await {
            Err(ProviderError::Host { .. }) if patience_ms == 0 => {
                // With its supervisor the machine ends.
                liveness::kill(&self.dir).await.map_err(|error| internal("end the supervisor", &error))?;
                return Ok(Some(stopped(began, true)));
            }
            Err(error @ ProviderError::Host { .. }) => return Err(error),
            // What else it says, it says again.
            _ => {}
        }
        match self.ask(Request::Stop { patience_ms }, &Silent).await {
            Ok((answer, _)) => Ok(answer.stopped),
            Err(ProviderError::State { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn silent(&self) -> ProviderError {
        let (who, free) = match liveness::holder(&self.dir) {
            Some(pid) => {
                let pid = pid.as_raw_nonzero();
                (
                    format!(" (process {pid})"),
                    format!("; if it was stopped, `kill -CONT {pid}` lets it go on"),
                )
            }
            None => (String::new(), String::new()),
        };
        ProviderError::Host {
            what: format!("the machine's supervisor{who} does not answer"),
            remedy: format!("`posada halt --force` ends it and the machine{free}"),
        }
    }

    async fn open(&self) -> Result<UnixStream, ProviderError> {
        let dir = match fs_err::File::open(self.dir.path()) {
            Ok(dir) => dir,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(absent()),
            Err(error) => return Err(unreadable(&error)),
        };
        match UnixStream::connect(short_path(&dir)).await {
            Ok(stream) => Ok(stream),
            Err(error) if is_absent(&error) => Err(absent()),
            Err(error) => {
                Err(ProviderError::Internal { what: format!("connect to the supervisor: {error}") })
            }
        }
    }

    async fn converse(
        &self,
        stream: &UnixStream,
        request: &Request,
        observer: &dyn Observer,
    ) -> Result<(Answer, Option<OwnedFd>), ProviderError> {
        let envelope = Envelope { version: VERSION, request: request.clone() };
        let line = to_line(&envelope).map_err(|error| internal("write a request", &error))?;
        fdpass::send(stream, &line, None).await.map_err(|_| absent())?;
        let mut reader = LineReader::new();
        loop {
            let line = reader.line(stream).await.map_err(|_| absent())?.ok_or_else(absent)?;
            let reply =
                serde_json::from_slice(&line).map_err(|error| internal("read a reply", &error.into()))?;
            match reply {
                Reply::Phase { text } => observer.phase(&text),
                Reply::Warning { text } => observer.warn(&text),
                Reply::Console { line } => observer.console(&line),
                Reply::Done(answer) => return Ok((answer, reader.take_fds().pop())),
                Reply::Failed(failure) => return Err(failure.into()),
            }
        }
    }

    /// The error that says that the supervisor died before it could answer, with the end of its log.
    #[must_use]
    pub fn died(&self) -> ProviderError {
        let log = fs_err::read_to_string(self.dir.supervisor_log()).unwrap_or_default();
        let lines: Vec<_> = log.lines().map(str::to_owned).collect();
        let tail = lines[lines.len().saturating_sub(10)..].to_vec();
        ProviderError::Machine { what: "the machine's supervisor died".to_owned(), console: tail }
    }
}

/// A path to the control socket of an open machine directory that fits into `sockaddr_un` (108 bytes, unix(7))
/// however long the directory's own path is.
pub(crate) fn short_path(dir: &fs_err::File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}/control.sock", dir.as_raw_fd()))
}

/// Whether a failed connection says that nobody is there, or not any more.
fn is_absent(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionRefused, ConnectionReset, NotFound};
    matches!(error.kind(), NotFound | ConnectionRefused | ConnectionReset | BrokenPipe)
}

fn absent() -> ProviderError {
    ProviderError::State { is: MachineState::Stopped, must: "running" }
}

fn unreadable(error: &io::Error) -> ProviderError {
    internal("read the machine's directory", error)
}

fn internal(what: &str, error: &io::Error) -> ProviderError {
    ProviderError::Internal { what: format!("{what}: {error}") }
}
