//! A handle that stops a running command from another thread, or from a signal handler.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use rustix::event::{EventfdFlags, eventfd};

/// Stops what a transport is doing. Clones share one switch; once thrown it stays thrown.
#[derive(Debug, Clone)]
pub struct Cancel(Arc<Switch>);

/// What a command that is stopped is asked with first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StopSignal {
    /// SIGTERM.
    #[default]
    Terminate,
    /// SIGINT, as by Ctrl-C.
    Interrupt,
    /// SIGHUP.
    HangUp,
}

impl StopSignal {
    const ALL: [Self; 3] = [Self::Terminate, Self::Interrupt, Self::HangUp];

    /// Its name for kill(1).
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Terminate => "TERM",
            Self::Interrupt => "INT",
            Self::HangUp => "HUP",
        }
    }
}

#[derive(Debug)]
struct Switch {
    thrown: AtomicBool,
    /// The [`StopSignal`] to begin with.
    signal: AtomicU8,
    bell: OwnedFd,
}

impl Cancel {
    /// A switch that is not thrown.
    ///
    /// # Errors
    /// Where the process has no file descriptor left.
    pub fn new() -> io::Result<Self> {
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self(Arc::new(Switch { thrown: AtomicBool::new(false), signal: AtomicU8::new(0), bell })))
    }

    /// Throws the switch, and has the command asked with `signal` to end before it is terminated. Once the
    /// switch is thrown, this changes nothing.
    pub fn cancel_by(&self, signal: StopSignal) {
        if !self.is_cancelled() {
            self.0.signal.store(signal as u8, Ordering::SeqCst);
        }
        self.cancel();
    }

    /// What a command is asked with to end.
    pub(crate) fn signal(&self) -> StopSignal {
        StopSignal::ALL[usize::from(self.0.signal.load(Ordering::SeqCst))]
    }

    /// Throws the switch. Only an atomic store and a `write`: a signal handler may call it.
    pub fn cancel(&self) {
        self.0.thrown.store(true, Ordering::SeqCst);
        // The only way this fails is a full counter, and then the bell rings already.
        let _ = rustix::io::write(&self.0.bell, &1_u64.to_ne_bytes());
    }

    /// Whether the switch is thrown.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.thrown.load(Ordering::SeqCst)
    }

    /// Becomes and stays readable when the switch is thrown.
    pub(crate) fn bell(&self) -> BorrowedFd<'_> {
        self.0.bell.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_share_the_switch_and_the_bell_stays_readable() {
        let one = Cancel::new().unwrap();
        let other = one.clone();
        assert!(!other.is_cancelled());
        one.cancel();
        one.cancel();
        assert!(other.is_cancelled());
        for _ in 0..2 {
            let bell = other.bell();
            let mut fds = [rustix::event::PollFd::new(&bell, rustix::event::PollFlags::IN)];
            let zero = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
            assert_eq!(rustix::event::poll(&mut fds, Some(&zero)).unwrap(), 1);
        }
    }
}
