//! Asynchronous file I/O: operations are queued, begun together, and wake the future that waits for each.

use std::fs::File;
use std::future::Future;
use std::io;
use std::os::fd::BorrowedFd;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use super::Buffers;
use super::pool::Pool;
use super::ring::Ring;

/// The most pieces that one system call takes (`UIO_MAXIOV`).
pub(super) const MAX_PIECES: usize = 1024;

/// What is done to a file.
#[derive(Debug)]
pub(super) enum Action {
    /// Reads at an offset into buffers.
    Read(u64, Buffers),
    /// Writes at an offset from buffers.
    Write(u64, Buffers),
    /// Makes all that was written durable (`fdatasync`).
    Sync,
    /// `fallocate` with a mode, at an offset, of a length.
    Allocate(i32, u64, u64),
}

/// One operation; it owns what the kernel works on until it is over.
#[derive(Debug)]
pub(super) struct Operation {
    pub file: Arc<File>,
    pub action: Action,
}

/// Runs operations by number, and says later how each came out: bytes transferred, or the negative error.
pub(super) enum Driver {
    Ring(Box<Ring>),
    Pool(Pool),
}

/// An engine of its own for one image and those behind it.
pub struct Engine {
    state: Mutex<State>,
}

struct State {
    driver: Driver,
    slots: Vec<Slot>,
    free: Vec<usize>,
    done: Vec<(usize, i32)>,
}

enum Slot {
    Free,
    Busy { _operation: Arc<Operation>, waker: Option<Waker>, wanted: bool },
    Done(i32),
}

impl Engine {
    /// io_uring, or threads where the kernel or a policy does not allow it.
    ///
    /// # Errors
    /// Where descriptors or threads cannot be had.
    pub fn new() -> io::Result<Self> {
        match Ring::new() {
            Ok(ring) => Ok(Self::with(Driver::Ring(Box::new(ring)))),
            Err(error) if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)) => Err(error),
            Err(_) => Self::threaded(),
        }
    }

    /// Threads in any case.
    ///
    /// # Errors
    /// Where descriptors or threads cannot be had.
    pub fn threaded() -> io::Result<Self> {
        Ok(Self::with(Driver::Pool(Pool::new()?)))
    }

    fn with(driver: Driver) -> Self {
        let state = State { driver, slots: Vec::new(), free: Vec::new(), done: Vec::new() };
        Self { state: Mutex::new(state) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether io_uring serves.
    #[must_use]
    pub fn is_ring(&self) -> bool {
        matches!(self.lock().driver, Driver::Ring(_))
    }

    /// Hands what is readable when operations have ended to `with`.
    pub fn with_fd<T>(&self, with: impl FnOnce(BorrowedFd<'_>) -> T) -> T {
        match &self.lock().driver {
            Driver::Ring(ring) => with(ring.fd()),
            Driver::Pool(pool) => with(pool.fd()),
        }
    }

    /// Begins what was queued and wakes those whose operation has ended. Returns whether there was any.
    pub fn turn(&self) -> bool {
        self.advance(false)
    }

    /// As [`turn`](Self::turn), but waits for the end of an operation, if any is under way.
    pub fn wait(&self) {
        self.advance(true);
    }

    fn advance(&self, wait: bool) -> bool {
        let mut wakers = Vec::new();
        let mut state = self.lock();
        let State { driver, slots, free, done } = &mut *state;
        let wait = wait && slots.len() > free.len();
        match driver {
            Driver::Ring(ring) => ring.advance(wait, done),
            Driver::Pool(pool) => pool.advance(wait, done),
        }
        let any = !done.is_empty();
        for (index, result) in done.drain(..) {
            match std::mem::replace(&mut slots[index], Slot::Done(result)) {
                Slot::Busy { waker, wanted: true, .. } => wakers.extend(waker),
                _ => {
                    slots[index] = Slot::Free;
                    free.push(index);
                }
            }
        }
        drop(state);
        for waker in wakers {
            waker.wake();
        }
        any
    }

    fn begin(&self, file: &Arc<File>, action: Action) -> Pending<'_> {
        let operation = Arc::new(Operation { file: file.clone(), action });
        let mut state = self.lock();
        let State { driver, slots, free, .. } = &mut *state;
        let index = free.pop().unwrap_or_else(|| {
            slots.push(Slot::Free);
            slots.len() - 1
        });
        match driver {
            Driver::Ring(ring) => ring.queue(index, &operation),
            Driver::Pool(pool) => pool.queue(index, &operation),
        }
        slots[index] = Slot::Busy { _operation: operation, waker: None, wanted: true };
        Pending { engine: self, index }
    }

    /// Fills `buffers` from `offset`; what lies behind the file's end is zero.
    ///
    /// # Errors
    /// What the kernel says.
    pub async fn read(&self, file: &Arc<File>, offset: u64, buffers: &Buffers) -> io::Result<()> {
        let mut done = 0;
        while done < buffers.len() {
            let part = limited(buffers.slice(done, usize::MAX));
            let count = self.begin(file, Action::Read(offset + done as u64, part)).await?;
            if count == 0 {
                buffers.zero(done, usize::MAX);
                break;
            }
            done += count;
        }
        Ok(())
    }

    /// Writes all of `buffers` at `offset`.
    ///
    /// # Errors
    /// What the kernel says; some of it may have been written.
    pub async fn write(&self, file: &Arc<File>, offset: u64, buffers: &Buffers) -> io::Result<()> {
        let mut done = 0;
        while done < buffers.len() {
            let part = limited(buffers.slice(done, usize::MAX));
            let count = self.begin(file, Action::Write(offset + done as u64, part)).await?;
            if count == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            done += count;
        }
        Ok(())
    }

    /// Makes all that was written durable.
    ///
    /// # Errors
    /// What the kernel says.
    pub async fn sync(&self, file: &Arc<File>) -> io::Result<()> {
        self.begin(file, Action::Sync).await.map(drop)
    }

    /// Gives the space of a range back; it then reads as zeros.
    ///
    /// # Errors
    /// What the kernel says; not every file system can.
    pub async fn punch(&self, file: &Arc<File>, offset: u64, len: u64) -> io::Result<()> {
        let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        self.begin(file, Action::Allocate(mode, offset, len)).await.map(drop)
    }

    /// Makes a range read as zeros and keeps its space.
    ///
    /// # Errors
    /// What the kernel says.
    pub async fn zero(&self, file: &Arc<File>, offset: u64, len: u64) -> io::Result<()> {
        let mode = libc::FALLOC_FL_ZERO_RANGE | libc::FALLOC_FL_KEEP_SIZE;
        match self.begin(file, Action::Allocate(mode, offset, len)).await {
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {
                self.write_zeros(file, offset, len).await
            }
            result => result.map(drop),
        }
    }

    async fn write_zeros(&self, file: &Arc<File>, offset: u64, len: u64) -> io::Result<()> {
        const STEP: u64 = 256 << 10;
        let zeros = Buffers::zeroed(STEP.min(len) as usize);
        let mut done = 0;
        while done < len {
            let step = STEP.min(len - done);
            self.write(file, offset + done, &zeros.slice(0, step as usize)).await?;
            done += step;
        }
        Ok(())
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.is_ring() { "Engine(io_uring)" } else { "Engine(threads)" })
    }
}

/// As much of `buffers` as one system call takes.
fn limited(buffers: Buffers) -> Buffers {
    let len = buffers.pieces().iter().take(MAX_PIECES).map(|piece| piece.iov_len).sum();
    if buffers.pieces().len() > MAX_PIECES { buffers.slice(0, len) } else { buffers }
}

/// An operation under way. Dropped early, the operation goes on and keeps its memory until it has ended.
struct Pending<'a> {
    engine: &'a Engine,
    index: usize,
}

impl Future for Pending<'_> {
    type Output = io::Result<usize>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.engine.lock();
        match &mut state.slots[self.index] {
            Slot::Done(result) => {
                let result = *result;
                Poll::Ready(usize::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result)))
            }
            Slot::Busy { waker, .. } => {
                *waker = Some(context.waker().clone());
                Poll::Pending
            }
            Slot::Free => Poll::Ready(Err(io::ErrorKind::NotFound.into())),
        }
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        let mut state = self.engine.lock();
        match &mut state.slots[self.index] {
            Slot::Busy { wanted, .. } => *wanted = false,
            slot => {
                *slot = Slot::Free;
                state.free.push(self.index);
            }
        }
    }
}
