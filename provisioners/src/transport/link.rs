//! A libssh2 session that waits for events: the session never blocks by itself, every wait is a `poll` on the
//! socket and on the bell of the cancel switch.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::AddressFamily;
use ssh2::{BlockDirections, ErrorCode, Session};

use super::TransportError;
use crate::cancel::{Cancel, StopSignal};

/// `LIBSSH2_ERROR_EAGAIN` of libssh2.h.
const AGAIN: i32 = -37;
/// `LIBSSH2_ERROR_SOCKET_SEND`, `_SOCKET_DISCONNECT`, `_SOCKET_RECV`, `_BAD_SOCKET`.
const BROKEN: [i32; 4] = [-7, -13, -43, -45];

/// How long, and for whom, an operation waits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// Until when.
    pub(super) until: Option<Instant>,
    /// Whether cancelling ends it.
    pub(super) cancellable: bool,
}

impl Patience {
    pub(super) const ENDLESS: Self = Self { until: None, cancellable: true };

    pub(super) fn until(instant: Instant) -> Self {
        Self { until: Some(instant), cancellable: true }
    }

    /// For what must still be done after cancelling.
    pub(super) fn closing(time: Duration) -> Self {
        Self { until: Some(Instant::now() + time), cancellable: false }
    }
}

/// What ended a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// The socket is ready, or may be.
    Socket,
    /// The other descriptor is ready.
    Other,
    /// The switch was thrown.
    Cancelled,
    /// The time is over.
    TimedOut,
}

pub(super) struct Link {
    pub(super) session: Session,
    socket: Arc<OwnedFd>,
    tcp: bool,
    cancel: Cancel,
}

impl Link {
    pub(super) fn new(stream: OwnedFd, cancel: Cancel) -> Result<Self, TransportError> {
        let refused = |what| move |source| TransportError::Io { what, source };
        let family = rustix::net::sockopt::socket_domain(&stream)
            .map_err(|e| refused("looking at the stream to the machine")(e.into()))?;
        let tcp = matches!(family, AddressFamily::INET | AddressFamily::INET6);
        if tcp {
            rustix::net::sockopt::set_tcp_nodelay(&stream, true)
                .map_err(|e| refused("setting TCP_NODELAY")(e.into()))?;
        }
        let socket = Arc::new(stream);
        let mut session = Session::new()
            .map_err(|source| TransportError::Protocol { during: "making a session", source })?;
        session.set_tcp_stream(Arc::clone(&socket));
        session.set_blocking(false);
        Ok(Self { session, socket, tcp, cancel })
    }

    pub(super) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// What a command that is cancelled is asked with to end.
    pub(super) fn stop_signal(&self) -> StopSignal {
        self.cancel.signal()
    }

    /// The switch that ends what is done over this.
    pub(super) fn cancel(&self) -> Cancel {
        self.cancel.clone()
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.cancel.is_cancelled()
    }

    /// Repeats `op` until it no longer wants to wait.
    pub(super) fn drive<T>(
        &self,
        during: &'static str,
        patience: Patience,
        mut op: impl FnMut(&Session) -> Result<T, ssh2::Error>,
    ) -> Result<T, TransportError> {
        let began = Instant::now();
        loop {
            if patience.cancellable && self.cancel.is_cancelled() {
                return Err(TransportError::Interrupted);
            }
            match op(&self.session) {
                Ok(value) => return Ok(value),
                Err(e) if e.code() == ErrorCode::Session(AGAIN) => {}
                Err(e) => return Err(classify(during, e)),
            }
            match self.wait(patience, None)? {
                Event::Socket | Event::Other => {}
                Event::Cancelled => return Err(TransportError::Interrupted),
                Event::TimedOut => {
                    return Err(TransportError::TimedOut { during, patience: began.elapsed() });
                }
            }
        }
    }

    /// Waits until the socket can do what the session wants of it, or `other` can be read, or patience ends.
    pub(super) fn wait(
        &self,
        patience: Patience,
        other: Option<BorrowedFd<'_>>,
    ) -> Result<Event, TransportError> {
        self.acknowledge_quickly();
        let interest = match self.session.block_directions() {
            BlockDirections::Outbound => PollFlags::OUT,
            BlockDirections::Both => PollFlags::IN | PollFlags::OUT,
            BlockDirections::Inbound | BlockDirections::None => PollFlags::IN,
        };
        let bell = self.cancel.bell();
        loop {
            let timeout = match patience.until {
                None => None,
                Some(until) => match until.checked_duration_since(Instant::now()) {
                    None => return Ok(Event::TimedOut),
                    Some(left) => Some(Timespec::try_from(left).unwrap_or(FOREVER)),
                },
            };
            let mut fds = Vec::with_capacity(3);
            fds.push(PollFd::from_borrowed_fd(self.socket(), interest));
            // A bell that rang for good would wake every wait after it.
            let heed = if patience.cancellable { PollFlags::IN } else { PollFlags::empty() };
            fds.push(PollFd::from_borrowed_fd(bell, heed));
            if let Some(other) = other {
                fds.push(PollFd::from_borrowed_fd(other, PollFlags::IN));
            }
            match poll(&mut fds, timeout.as_ref()) {
                Ok(0) => return Ok(Event::TimedOut),
                Ok(_) if !fds[1].revents().is_empty() => return Ok(Event::Cancelled),
                Ok(_) if !fds[0].revents().is_empty() => return Ok(Event::Socket),
                Ok(_) => return Ok(Event::Other),
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => {
                    return Err(TransportError::Io { what: "waiting for the machine", source: e.into() });
                }
            }
        }
    }

    /// A delayed acknowledgement costs 40 ms in each of the handshake's pauses. The kernel falls back to
    /// delaying by itself, so the wish is renewed before each wait.
    fn acknowledge_quickly(&self) {
        if self.tcp {
            // Only speed is lost where the kernel refuses.
            let _ = rustix::net::sockopt::set_tcp_quickack(&*self.socket, true);
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // libssh2 frees a session only when it can end its channels, or knows its socket dead. The socket
        // may be gone already, and then all is well.
        let _ = rustix::net::shutdown(&*self.socket, rustix::net::Shutdown::Both);
    }
}

/// As good as without a timeout.
const FOREVER: Timespec = Timespec { tv_sec: 1 << 30, tv_nsec: 0 };

/// Tells a broken connection from a server that refuses.
pub(super) fn classify(during: &'static str, error: ssh2::Error) -> TransportError {
    match error.code() {
        ErrorCode::Session(code) if BROKEN.contains(&code) => TransportError::Lost { during },
        _ => TransportError::Protocol { during, source: error },
    }
}

/// Makes "not now" of an I/O result of a channel.
pub(super) fn not_now<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(e) => Err(e),
    }
}
