//! Ending long work early.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::process::Child;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open, pidfd_send_signal};

/// A switch that ends the work it was handed to. Clones are the same switch.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    cancelled: bool,
    next: u64,
    children: BTreeMap<u64, Watched>,
}

#[derive(Debug)]
struct Watched {
    pidfd: OwnedFd,
    /// Set where the child leads a process group, all of which is killed.
    group: Option<Pid>,
}

impl Watched {
    fn terminate(&self) {
        // One that has just ended by itself needs no signal.
        let Some(group) = self.group else {
            let _ = pidfd_send_signal(&self.pidfd, Signal::TERM);
            return;
        };
        if pidfd_send_signal(&self.pidfd, Signal::KILL).is_ok() {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

impl Cancel {
    /// Ends the work: the programs that do it are asked to terminate, and it returns
    /// [`crate::BoxError::Cancelled`] once all is cleaned up.
    pub fn cancel(&self) {
        let mut inner = self.inner();
        inner.cancelled = true;
        inner.children.values().for_each(Watched::terminate);
    }

    /// Whether it was switched.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.inner().cancelled
    }

    /// Has `child` terminated when the switch is used, as long as the watch lives.
    pub(crate) fn watch(&self, child: &Child) -> io::Result<Watch> {
        self.insert(child, None)
    }

    /// Has `child` and all of the process group that it leads killed.
    pub(crate) fn watch_group(&self, child: &Child) -> io::Result<Watch> {
        self.insert(child, Some(Pid::from_child(child)))
    }

    fn insert(&self, child: &Child, group: Option<Pid>) -> io::Result<Watch> {
        let pidfd = pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
        let watched = Watched { pidfd, group };
        let mut inner = self.inner();
        if inner.cancelled {
            watched.terminate();
        }
        let key = inner.next;
        inner.next += 1;
        inner.children.insert(key, watched);
        Ok(Watch { cancel: self.clone(), key })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// See [`Cancel::watch`].
#[derive(Debug)]
pub(crate) struct Watch {
    cancel: Cancel,
    key: u64,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.cancel.inner().children.remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    use super::*;

    #[test]
    fn children_before_and_after_the_switch_are_terminated() {
        let cancel = Cancel::default();
        let mut before = Command::new("sleep").arg("1000").spawn().unwrap();
        let _before = cancel.watch(&before).unwrap();
        cancel.cancel();
        let mut after = Command::new("sleep").arg("1000").spawn().unwrap();
        let _after = cancel.watch(&after).unwrap();
        for child in [&mut before, &mut after] {
            assert_eq!(child.wait().unwrap().signal(), Some(Signal::TERM.as_raw()));
        }
        assert!(cancel.is_cancelled());
    }
}
