//! Ending long work early.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::process::Child;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use posada_fetch::Stop;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open, pidfd_send_signal};

/// A switch that ends the work it was handed to. Clones are the same switch.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    cancelled: bool,
    next: u64,
    watched: BTreeMap<u64, Watched>,
}

/// What is ended.
enum Watched {
    Child(OwnedFd),
    /// A child that leads a process group, all of which is killed.
    Group(OwnedFd, Pid),
    Work(Box<dyn Fn() + Send>),
}

impl std::fmt::Debug for Watched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Child(_) => "Child",
            Self::Group(..) => "Group",
            Self::Work(_) => "Work",
        })
    }
}

impl Watched {
    fn terminate(&self) {
        // A child that has just ended by itself needs no signal.
        match self {
            Self::Child(pidfd) => {
                let _ = pidfd_send_signal(pidfd, Signal::TERM);
            }
            Self::Group(pidfd, group) => {
                if pidfd_send_signal(pidfd, Signal::KILL).is_ok() {
                    let _ = kill_process_group(*group, Signal::KILL);
                }
            }
            Self::Work(end) => end(),
        }
    }
}

impl Cancel {
    /// Ends the work: the programs that do it are asked to terminate, and it returns
    /// [`crate::BoxError::Cancelled`] once all is cleaned up.
    pub fn cancel(&self) {
        let mut inner = self.inner();
        inner.cancelled = true;
        inner.watched.values().for_each(Watched::terminate);
    }

    /// Whether it was switched.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.inner().cancelled
    }

    /// Has `child` terminated when the switch is used, as long as the watch lives.
    pub(crate) fn watch(&self, child: &Child) -> io::Result<Watch> {
        Ok(self.insert(Watched::Child(pidfd(child)?)))
    }

    /// Has `child` and all of the process group that it leads killed.
    pub(crate) fn watch_group(&self, child: &Child) -> io::Result<Watch> {
        Ok(self.insert(Watched::Group(pidfd(child)?, Pid::from_child(child))))
    }

    /// Has `end` called when the switch is used, as long as the watch lives. It must not use the switch itself.
    pub(crate) fn on_cancel(&self, end: impl Fn() + Send + 'static) -> Watch {
        self.insert(Watched::Work(Box::new(end)))
    }

    /// A switch for transfers that is used along with this one, as long as the watch lives.
    pub(crate) fn stop(&self) -> (Stop, Watch) {
        let stop = Stop::default();
        let watch = self.on_cancel({
            let stop = stop.clone();
            move || stop.stop()
        });
        (stop, watch)
    }

    fn insert(&self, watched: Watched) -> Watch {
        let mut inner = self.inner();
        if inner.cancelled {
            watched.terminate();
        }
        let key = inner.next;
        inner.next += 1;
        inner.watched.insert(key, watched);
        Watch { cancel: self.clone(), key }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn pidfd(child: &Child) -> io::Result<OwnedFd> {
    Ok(pidfd_open(Pid::from_child(child), PidfdFlags::empty())?)
}

/// See [`Cancel::watch`].
#[derive(Debug)]
pub(crate) struct Watch {
    cancel: Cancel,
    key: u64,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.cancel.inner().watched.remove(&self.key);
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

    #[test]
    fn work_is_told_once_before_and_after_the_switch() {
        let (told, cancel) = (Arc::new(Mutex::new(0)), Cancel::default());
        let tell = |told: &Arc<Mutex<i32>>| {
            let told = told.clone();
            move || *told.lock().unwrap() += 1
        };
        drop(cancel.on_cancel(tell(&told)));
        let _before = cancel.on_cancel(tell(&told));
        cancel.cancel();
        let _after = cancel.on_cancel(tell(&told));
        assert_eq!(*told.lock().unwrap(), 2);
    }
}
