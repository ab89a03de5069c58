//! What changes in a folder on the host, told so that it can be raised in the guest: its kernel sees what the guest
//! does itself, and virtiofs of Linux has no way to be told more.
//!
//! ```text
//!   inotify ──event──► tree (which folder?) ──► own (the guest's doing?) ──► pending ──after a moment──► the sink
//! ```
//! A change is told when it is older than what the guest may rely on ([`VALIDITY`](super::VALIDITY)), so that whoever
//! looks, looks at the new file; several to one file within that time are one. All is bounded: folders beyond the
//! limit are not watched, and where more changes come than can be remembered, that is told instead.

mod own;
mod pending;
mod tree;

use std::io;
use std::ops::ControlFlow;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use rustix::event::epoll::EventFlags;
use rustix::fd::BorrowedFd;
use vmm_sys_util::timerfd::TimerFd;

pub use own::Own;
use pending::Pending;
use tree::{Seen, Tree};

use super::Share;
use super::identity::assume;
use crate::worker::{Handler, Poll, ThreadKind, Worker};

/// How many changed paths are remembered until they are told.
const MOST_PENDING: usize = 4096;

const EVENTS: u64 = 0;
const TIMER: u64 = 1;

/// What has happened to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It is there now, and was not, or was another.
    Created,
    /// Its content or attributes are other ones.
    Modified,
    /// It is gone.
    Removed,
}

/// Changes, in the order of their paths.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// What has changed, by path from the folder on. A path may hold any byte but 0.
    pub paths: Vec<(PathBuf, Kind)>,
    /// Whether there was more that could not be remembered, anywhere in the folder.
    pub lost: bool,
}

/// Watches a folder until it is dropped.
#[derive(Debug)]
pub struct Watch {
    share: Arc<Share>,
    begun: Receiver<()>,
    _worker: Worker,
}

impl Watch {
    /// Tells `sink` what changes in `share` on the host. At most `folders` are watched, those nearest to the top first.
    /// `sink` is called in a thread of its own, and holds up nothing but further changes.
    ///
    /// # Errors
    /// Where inotify or a thread cannot be had.
    pub fn start(
        share: Arc<Share>,
        folders: usize,
        sink: impl FnMut(Changes) + Send + 'static,
    ) -> io::Result<Self> {
        let tree = Tree::new(Arc::clone(&share), folders)?;
        let mut timer = TimerFd::new()?;
        // At once: a large tree is walked while the guest boots, and as its owner, which is that thread's.
        timer.reset(Duration::from_nanos(1), None)?;
        let (beginning, begun) = channel();
        share.own().enable(true);
        let watcher = Watcher {
            share: Arc::clone(&share),
            beginning: Some(beginning),
            tree,
            pending: Pending::new(MOST_PENDING),
            timer,
            sink,
        };
        let worker = Worker::start(ThreadKind::Fs, "fs-watch", watcher)?;
        Ok(Self { share, begun, _worker: worker })
    }

    /// Waits until the folders that are there are watched.
    pub fn wait(&self) {
        // An error says that it was heard before, or that the thread has ended.
        let _ = self.begun.recv();
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.share.own().enable(false);
    }
}

struct Watcher<F> {
    share: Arc<Share>,
    /// Until the folders are watched.
    beginning: Option<Sender<()>>,
    tree: Tree,
    pending: Pending,
    timer: TimerFd,
    sink: F,
}

impl<F: FnMut(Changes)> Watcher<F> {
    fn read(&mut self) {
        let now = Instant::now();
        for seen in self.tree.read() {
            match seen {
                Seen::Change { path, kind, folder, name, inode } => {
                    if !self.share.own().is_own(folder, name.as_bytes(), inode, now) {
                        self.pending.add(path, kind, now);
                    }
                }
                Seen::Lost => self.pending.lose(now),
            }
        }
    }

    fn arm(&mut self) -> io::Result<()> {
        // Either way, the timer is no more expired.
        let Some(due) = self.pending.due() else { return Ok(self.timer.clear()?) };
        let wait = due.saturating_duration_since(Instant::now());
        // Zero would disarm it.
        Ok(self.timer.reset(wait.max(Duration::from_nanos(1)), None)?)
    }
}

impl<F: FnMut(Changes) + Send + 'static> Handler for Watcher<F> {
    fn register(&mut self, poll: &Poll) -> io::Result<()> {
        poll.add(self.tree.events(), EVENTS, EventFlags::IN)?;
        // SAFETY: the timer is open as long as it is borrowed, and the borrow made of it ends with this call.
        let timer = unsafe { BorrowedFd::borrow_raw(self.timer.as_raw_fd()) };
        poll.add(timer, TIMER, EventFlags::IN)
    }

    fn handle(&mut self, token: u64, _: EventFlags, _: &Poll) -> ControlFlow<()> {
        if let Some(beginning) = self.beginning.take() {
            if assume(self.share.owners()).is_err() {
                return ControlFlow::Break(());
            }
            self.tree.begin();
            // Perhaps nobody waits.
            let _ = beginning.send(());
        }
        if token == EVENTS {
            self.read();
        } else {
            let changes = self.pending.take(Instant::now());
            if !changes.paths.is_empty() || changes.lost {
                (self.sink)(changes);
            }
        }
        if self.arm().is_err() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

#[cfg(test)]
mod tests;
