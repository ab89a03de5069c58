//! A device's own thread: waits for descriptors and lets the device handle what is ready, until it is told to stop.

use std::io;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::mpsc;
use std::thread::JoinHandle;

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::jail;

/// The token by which a worker knows its own stop event.
const STOP: u64 = u64::MAX;

/// What kind of work a thread does; decides which system calls it may make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ThreadKind {
    /// Runs a vCPU.
    Vcpu,
    /// Reads and writes disk images.
    Block,
    /// Carries frames.
    Net,
    /// Serves files of the host.
    Fs,
    /// Carries bytes between descriptors and queues: console, vsock, entropy, balloon.
    Stream,
}

/// What a worker waits for.
#[derive(Debug)]
pub struct Poll(OwnedFd);

impl Poll {
    /// Wakes the worker with `token` when `fd` is ready for `interest` (level-triggered unless `ET` is set).
    /// `token` is anything but `u64::MAX`.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn add(&self, fd: impl AsFd, token: u64, interest: EventFlags) -> io::Result<()> {
        Ok(epoll::add(&self.0, fd, EventData::new_u64(token), interest)?)
    }

    /// Wakes the worker with `token` when `event` is written to.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn add_event(&self, event: &EventFd, token: u64) -> io::Result<()> {
        // SAFETY: `event` is open as long as it is borrowed, and the borrow made of it ends with this call.
        let fd = unsafe { rustix::fd::BorrowedFd::borrow_raw(event.as_raw_fd()) };
        self.add(fd, token, EventFlags::IN)
    }

    /// Changes what `fd` is waited for.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn modify(&self, fd: impl AsFd, token: u64, interest: EventFlags) -> io::Result<()> {
        Ok(epoll::modify(&self.0, fd, EventData::new_u64(token), interest)?)
    }

    /// Waits for `fd` no more.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn remove(&self, fd: impl AsFd) -> io::Result<()> {
        Ok(epoll::delete(&self.0, fd)?)
    }
}

/// What one descriptor is waited for at present. Where that is nothing, its hang-up is not heard either, so that a
/// peer that is gone, with something left to be read, does not keep the worker awake.
#[derive(Debug)]
pub struct Watch {
    token: u64,
    wanted: EventFlags,
}

impl Watch {
    /// Nothing is waited for yet; events will come with `token`.
    #[must_use]
    pub fn new(token: u64) -> Self {
        Self { token, wanted: EventFlags::empty() }
    }

    /// Waits for what is `wanted` of `fd`, always the same one, from now on.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn set(&mut self, poll: &Poll, fd: impl AsFd, wanted: EventFlags) -> io::Result<()> {
        if wanted == self.wanted {
            return Ok(());
        }
        if wanted.is_empty() {
            poll.remove(fd)?;
        } else if self.wanted.is_empty() {
            poll.add(fd, self.token, wanted)?;
        } else {
            poll.modify(fd, self.token, wanted)?;
        }
        self.wanted = wanted;
        Ok(())
    }
}

/// The work of a worker.
pub trait Handler: Send + 'static {
    /// Says what is to be waited for; called once, first thing in the thread.
    ///
    /// # Errors
    /// What the kernel says.
    fn register(&mut self, poll: &Poll) -> io::Result<()>;

    /// Handles one descriptor that is ready. `Break` ends the thread: the device then stays still until reset.
    fn handle(&mut self, token: u64, ready: EventFlags, poll: &Poll) -> ControlFlow<()>;
}

/// A running worker. Dropping it stops it and waits until it has ended.
#[derive(Debug)]
pub struct Worker {
    stop: EventFd,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    /// Starts a thread, named `name` (at most 15 bytes are shown), that serves `handler`.
    ///
    /// # Errors
    /// Where a descriptor or the thread cannot be had.
    pub fn start(kind: ThreadKind, name: &str, handler: impl Handler) -> io::Result<Self> {
        Self::start_with(kind, name, move || Ok(handler))
    }

    /// As [`start`](Self::start), with a handler that is made on its own thread: what making it takes may be more than
    /// the caller's thread is let do.
    ///
    /// # Errors
    /// What `make` says, and as [`start`](Self::start).
    pub fn start_with<H: Handler>(
        kind: ThreadKind,
        name: &str,
        make: impl FnOnce() -> io::Result<H> + Send + 'static,
    ) -> io::Result<Self> {
        let stop = EventFd::new(EFD_NONBLOCK)?;
        let poll = Poll(epoll::create(CreateFlags::CLOEXEC)?);
        poll.add_event(&stop, STOP)?;
        let (made, ready) = mpsc::sync_channel(1);
        let thread = jail::spawn(kind, name, move || {
            let handler = make().and_then(|mut handler| handler.register(&poll).map(|()| handler));
            let (handler, outcome) = match handler {
                Ok(handler) => (Some(handler), Ok(())),
                Err(error) => (None, Err(error)),
            };
            // Who started it waits for it.
            let _ = made.send(outcome);
            if let Some(mut handler) = handler {
                serve(&poll, &mut handler);
            }
        })?;
        let worker = Self { stop, thread: Some(thread) };
        ready.recv().unwrap_or_else(|_| Err(io::Error::other("a device's thread ended early")))?;
        Ok(worker)
    }
}

#[cfg(test)]
impl Worker {
    /// How much processor time its thread has used.
    pub(crate) fn cpu_time(&self) -> std::time::Duration {
        use std::os::unix::thread::JoinHandleExt;
        let thread = self.thread.as_ref().expect("it runs").as_pthread_t();
        let mut clock = 0;
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the thread has not been joined; both calls write to what they are given.
        let result = unsafe {
            libc::pthread_getcpuclockid(thread, &raw mut clock) + libc::clock_gettime(clock, &raw mut time)
        };
        assert_eq!(result, 0, "the thread has ended");
        std::time::Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
    }
}

fn serve(poll: &Poll, handler: &mut impl Handler) {
    let mut events = [Event { flags: EventFlags::empty(), data: EventData::new_u64(0) }; 32];
    loop {
        let count = match epoll::wait(&poll.0, &mut events, None) {
            Ok(count) => count,
            Err(Errno::INTR) => continue,
            Err(_) => return,
        };
        for event in &events[..count] {
            let (token, ready) = (event.data.u64(), event.flags);
            if token == STOP || handler.handle(token, ready, poll).is_break() {
                return;
            }
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // An eventfd that is already set cannot take more, and need not.
        let _ = self.stop.write(1);
        if let Some(thread) = self.thread.take() {
            // A panic in there has been told by the panic hook already.
            let _ = thread.join();
        }
    }
}
