//! Operations by a few threads, where there is no io_uring.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use super::engine::{Action, Operation};

/// How many operations are under way at a time.
const THREADS: usize = 4;

/// The threads and what they share. Dropping it lets them end what they have begun, and waits for that.
pub(super) struct Pool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    jobs: Mutex<Jobs>,
    wanted: Condvar,
    ended: Condvar,
    event: EventFd,
}

#[derive(Default)]
struct Jobs {
    queue: VecDeque<(usize, Arc<Operation>)>,
    done: Vec<(usize, i32)>,
    closed: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Jobs> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pool {
    /// Starts the threads.
    ///
    /// # Errors
    /// Where descriptor or threads cannot be had.
    pub fn new() -> io::Result<Self> {
        let event = EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?;
        let jobs = Mutex::default();
        let shared = Arc::new(Shared { jobs, wanted: Condvar::new(), ended: Condvar::new(), event });
        let mut pool = Self { shared, threads: Vec::new() };
        for number in 0..THREADS {
            let shared = pool.shared.clone();
            let thread = thread::Builder::new().name(format!("disk io {number}"));
            pool.threads.push(thread.spawn(move || serve(&shared))?);
        }
        Ok(pool)
    }

    /// Readable when operations have ended.
    pub fn fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the event owns the descriptor and is borrowed as long as this is.
        unsafe { BorrowedFd::borrow_raw(self.shared.event.as_raw_fd()) }
    }

    /// Queues one.
    pub fn queue(&mut self, index: usize, operation: &Arc<Operation>) {
        self.shared.lock().queue.push_back((index, operation.clone()));
        self.shared.wanted.notify_one();
    }

    /// Adds all ends to `done`, waiting for one where `wait` says so.
    pub fn advance(&mut self, wait: bool, done: &mut Vec<(usize, i32)>) {
        // Not set is as good as read.
        let _ = self.shared.event.read();
        let mut jobs = self.shared.lock();
        while wait && jobs.done.is_empty() {
            jobs = self.shared.ended.wait(jobs).unwrap_or_else(PoisonError::into_inner);
        }
        done.append(&mut jobs.done);
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let mut jobs = self.shared.lock();
        jobs.closed = true;
        jobs.queue.clear();
        drop(jobs);
        self.shared.wanted.notify_all();
        for thread in self.threads.drain(..) {
            // A panic in there has been told by the panic hook already.
            let _ = thread.join();
        }
    }
}

fn serve(shared: &Shared) {
    let mut jobs = shared.lock();
    while !jobs.closed {
        let Some((index, operation)) = jobs.queue.pop_front() else {
            jobs = shared.wanted.wait(jobs).unwrap_or_else(PoisonError::into_inner);
            continue;
        };
        drop(jobs);
        let result = perform(&operation);
        drop(operation);
        jobs = shared.lock();
        jobs.done.push((index, result));
        // An eventfd that is already set cannot take more, and need not.
        let _ = shared.event.write(1);
        shared.ended.notify_one();
    }
}

/// Does it in this thread, and says how it came out: bytes transferred, or the negative error.
pub(super) fn perform(operation: &Operation) -> i32 {
    let fd = operation.file.as_raw_fd();
    loop {
        let result = match &operation.action {
            Action::Read(offset, buffers) => {
                let pieces = buffers.pieces();
                // SAFETY: `operation` keeps file and buffers alive during the call.
                unsafe { libc::preadv(fd, pieces.as_ptr(), pieces.len() as i32, *offset as i64) as i64 }
            }
            Action::Write(offset, buffers) => {
                let pieces = buffers.pieces();
                // SAFETY: as above.
                unsafe { libc::pwritev(fd, pieces.as_ptr(), pieces.len() as i32, *offset as i64) as i64 }
            }
            // SAFETY: no memory is concerned.
            Action::Sync => i64::from(unsafe { libc::fdatasync(fd) }),
            Action::Allocate(mode, offset, len) => {
                // SAFETY: no memory is concerned.
                i64::from(unsafe { libc::fallocate(fd, *mode, *offset as i64, *len as i64) })
            }
        };
        if result >= 0 {
            return i32::try_from(result).unwrap_or(i32::MAX);
        }
        let error = io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO);
        if error != libc::EINTR {
            return -error;
        }
    }
}
