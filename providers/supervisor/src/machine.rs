//! The machine as its supervisor holds it, and what has to be known of a backend to serve it.
//!
//! ```text
//!   Starting ──► Running ◄──► Suspended
//!      │            ▼             │
//!      └───────► Ending ◄──────────┘      (Running ──► Starting when the machine reboots)
//!                   ▼
//!                 Ended
//! ```

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use posada_provider_api::{ForwardedPort, MachineState, Observer, Protocol, ProviderError};
use tokio::sync::{broadcast, watch};

use crate::protocol::{Failure, Status};

/// How long lies at most between two dials that nothing has asked for.
pub const SELDOM: Duration = Duration::from_secs(5);

/// How many console lines an error shows at most.
const TAIL: usize = 20;

/// A running machine of some backend.
#[async_trait]
pub trait Guest: Send + Sync + 'static {
    /// Process id of its init on the host, where it has one.
    fn init_pid(&self) -> Option<i32>;
    /// Asks its init to shut down, and returns at once.
    ///
    /// # Errors
    /// Where it cannot be asked.
    fn ask_to_stop(&self) -> io::Result<()>;
    /// Ends it.
    ///
    /// # Errors
    /// Where it cannot be ended.
    fn kill(&self) -> io::Result<()>;
    /// Freezes it.
    ///
    /// # Errors
    /// [`ProviderError::Unsupported`] and what the host says.
    fn suspend(&self) -> Result<(), ProviderError>;
    /// Lets it go on.
    ///
    /// # Errors
    /// As `suspend`.
    fn resume(&self) -> Result<(), ProviderError>;
    /// A connected stream or datagram socket to one of its ports.
    ///
    /// # Errors
    /// `ConnectionRefused` where nothing listens there.
    async fn dial(&self, protocol: Protocol, port: u16) -> io::Result<OwnedFd>;
    /// Where a port can begin to listen without anything that stirs: after how long it is first dialled again unasked.
    /// Each further time is twice as long after the one before, up to [`SELDOM`]. `None` where stirs tell all.
    fn unasked(&self) -> Option<Duration> {
        None
    }
}

/// Where a machine stands.
#[derive(Clone)]
pub enum Stage {
    /// On its way up.
    Starting,
    /// Its init runs.
    Running(Arc<dyn Guest>),
    /// Frozen.
    Suspended(Arc<dyn Guest>),
    /// Its init has ended, and what is left of it is being undone.
    Ending,
    /// Over: it could not start, died, or was stopped (`None`).
    Ended(Option<Failure>),
}

/// What happens, for whoever watches.
#[derive(Debug, Clone)]
pub enum Notice {
    /// A new phase has begun.
    Phase(String),
    /// Something the user should know.
    Warning(String),
    /// The console printed a line.
    Console(String),
}

/// A machine in its supervisor: shared by the backend that runs it and the server that answers for it.
pub struct Machine {
    stage: watch::Sender<Stage>,
    notices: broadcast::Sender<Notice>,
    /// Counts whatever may have made a port listen.
    stirs: watch::Sender<u64>,
    stopping: AtomicBool,
    shown: Mutex<Shown>,
}

#[derive(Default)]
struct Shown {
    past: Vec<Notice>,
    tail: VecDeque<String>,
    forwards: Vec<ForwardedPort>,
    ssh_port: Option<u16>,
}

impl Machine {
    /// A machine that is starting.
    #[must_use]
    pub fn starting() -> Arc<Self> {
        Arc::new(Self {
            stage: watch::Sender::new(Stage::Starting),
            notices: broadcast::Sender::new(1024),
            stirs: watch::Sender::new(0),
            stopping: AtomicBool::new(false),
            shown: Mutex::default(),
        })
    }

    /// Where it stands now.
    #[must_use]
    pub fn stage(&self) -> Stage {
        self.stage.borrow().clone()
    }

    /// Moves it on.
    pub fn enter(&self, stage: Stage) {
        self.stage.send_replace(stage);
        self.stir();
    }

    /// Follows where it stands.
    #[must_use]
    pub fn stages(&self) -> watch::Receiver<Stage> {
        self.stage.subscribe()
    }

    /// Says that it is meant to end: however it does so now, it did not fail.
    pub fn set_stopping(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    /// Whether it is meant to end.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Says that something happened after which a port may listen that did not before.
    pub fn stir(&self) {
        self.stirs.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Follows the stirs.
    #[must_use]
    pub fn stirs(&self) -> watch::Receiver<u64> {
        self.stirs.subscribe()
    }

    /// What has happened since this start began, and what will.
    #[must_use]
    pub fn notices(&self) -> (Vec<Notice>, broadcast::Receiver<Notice>) {
        let shown = self.shown();
        (shown.past.clone(), self.notices.subscribe())
    }

    /// Sets the forwards in force, and the host port that leads to sshd.
    pub fn set_forwards(&self, forwards: Vec<ForwardedPort>, ssh_port: Option<u16>) {
        let mut shown = self.shown();
        shown.forwards = forwards;
        shown.ssh_port = ssh_port;
    }

    /// How it is.
    #[must_use]
    pub fn status(&self) -> Status {
        let (state, init_pid) = match &*self.stage.borrow() {
            Stage::Starting | Stage::Ending | Stage::Ended(_) => (MachineState::Stopped, None),
            _ if self.is_stopping() => (MachineState::Stopped, None),
            Stage::Running(guest) => (MachineState::Running, guest.init_pid()),
            Stage::Suspended(guest) => (MachineState::Suspended, guest.init_pid()),
        };
        let shown = self.shown();
        Status {
            state,
            supervisor_pid: std::process::id(),
            init_pid,
            forwards: shown.forwards.clone(),
            ssh_port: shown.ssh_port,
        }
    }

    /// The console's last lines, oldest first.
    #[must_use]
    pub fn console_tail(&self) -> Vec<String> {
        self.shown().tail.iter().cloned().collect()
    }

    /// [`ProviderError::Machine`] with the console's last lines.
    #[must_use]
    pub fn error(&self, what: impl Into<String>) -> ProviderError {
        ProviderError::Machine { what: what.into(), console: self.console_tail() }
    }

    fn tell(&self, notice: Notice) {
        let mut shown = self.shown();
        if let Notice::Console(line) = &notice {
            if shown.tail.len() == TAIL {
                shown.tail.pop_front();
            }
            shown.tail.push_back(line.clone());
        } else if shown.past.len() < 64 {
            shown.past.push(notice.clone());
        }
        // Nobody listening is no error.
        let _ = self.notices.send(notice);
    }

    fn shown(&self) -> MutexGuard<'_, Shown> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer for Machine {
    fn phase(&self, text: &str) {
        self.tell(Notice::Phase(text.to_owned()));
    }

    fn warn(&self, text: &str) {
        self.tell(Notice::Warning(text.to_owned()));
    }

    fn console(&self, line: &str) {
        self.tell(Notice::Console(line.to_owned()));
        self.stir();
    }
}
