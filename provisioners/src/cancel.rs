//! A handle that stops a running command from another thread, or from a signal handler.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{EventfdFlags, eventfd};

/// Stops what a transport is doing. Clones share one switch; once thrown it stays thrown.
#[derive(Debug, Clone)]
pub struct Cancel(Arc<Switch>);

#[derive(Debug)]
struct Switch {
    thrown: AtomicBool,
    bell: OwnedFd,
}

impl Cancel {
    /// A switch that is not thrown.
    ///
    /// # Errors
    /// Where the process has no file descriptor left.
    pub fn new() -> io::Result<Self> {
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self(Arc::new(Switch { thrown: AtomicBool::new(false), bell })))
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
