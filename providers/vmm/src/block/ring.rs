//! Operations by io_uring, but for writes: most file systems take buffered writes only from a thread that may wait,
//! so that the kernel hands each to a thread of its own, which costs several times what the copy to the page cache
//! does. They are done at once where they are queued, until one had to wait (for the host's disk, when too much
//! is unwritten): then the ring has them for a while, so that reads do not wait with them.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use io_uring::{IoUring, Probe, opcode, squeue, types};

use super::engine::{Action, Operation};
use super::pool::perform;

/// Entries of the submission queue; what does not fit waits with us.
const ENTRIES: u32 = 256;
/// A write that takes longer than this has waited for the disk.
const PATIENCE: Duration = Duration::from_millis(50);
/// How many writes the ring has after one that waited.
const RESPITE: u32 = 64;

/// A ring, and what did not fit into it yet.
pub(super) struct Ring {
    ring: IoUring,
    waiting: VecDeque<squeue::Entry>,
    /// Submitted and not reaped; bounded by the completion queue, which so never overflows.
    flying: usize,
    /// Done where they were queued, and not told yet.
    done: Vec<(usize, i32)>,
    /// So many writes go by the ring.
    respite: u32,
}

impl Ring {
    /// A ring that can do all we ask for.
    ///
    /// # Errors
    /// Where there is no io_uring, or one too old.
    pub fn new() -> io::Result<Self> {
        let ring =
            IoUring::builder().setup_coop_taskrun().build(ENTRIES).or_else(|_| IoUring::new(ENTRIES))?;
        let mut probe = Probe::new();
        ring.submitter().register_probe(&mut probe)?;
        let needed = [
            opcode::Read::CODE,
            opcode::Readv::CODE,
            opcode::Write::CODE,
            opcode::Writev::CODE,
            opcode::Fsync::CODE,
            opcode::Fallocate::CODE,
        ];
        if !needed.iter().all(|&code| probe.is_supported(code)) {
            return Err(io::ErrorKind::Unsupported.into());
        }
        Ok(Self { ring, waiting: VecDeque::new(), flying: 0, done: Vec::new(), respite: 0 })
    }

    /// Readable when operations have ended.
    pub fn fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the ring owns the descriptor and is borrowed as long as this is.
        unsafe { BorrowedFd::borrow_raw(self.ring.as_raw_fd()) }
    }

    /// Queues one, to be begun by the next `advance`. The engine keeps the operation until its end is told.
    pub fn queue(&mut self, index: usize, operation: &Arc<Operation>) {
        if let Action::Write(..) = operation.action {
            if self.respite == 0 {
                let begun = Instant::now();
                self.done.push((index, perform(operation)));
                if begun.elapsed() > PATIENCE {
                    self.respite = RESPITE;
                }
                return;
            }
            self.respite -= 1;
        }
        self.waiting.push_back(entry(operation).user_data(index as u64));
    }

    /// Begins what is queued, waits for one end where `wait` says so, and adds all ends to `done`.
    pub fn advance(&mut self, wait: bool, done: &mut Vec<(usize, i32)>) {
        self.fill();
        let wait = wait && self.done.is_empty();
        done.append(&mut self.done);
        let begun = if wait && self.flying > 0 { self.ring.submit_and_wait(1) } else { self.begin() };
        // What could not be begun now (interrupted, or the kernel short of memory) stays in the queue, and is begun
        // by the next turn: another end makes one, and without any under way `wait` does.
        let _ = begun;
        let before = done.len();
        for entry in self.ring.completion() {
            done.push((entry.user_data() as usize, entry.result()));
        }
        self.flying -= done.len() - before;
    }

    fn begin(&mut self) -> io::Result<usize> {
        if self.ring.submission().is_empty() { Ok(0) } else { self.ring.submit() }
    }

    fn fill(&mut self) {
        let room = ENTRIES as usize * 2 - self.flying;
        let mut queue = self.ring.submission();
        for _ in 0..room {
            if queue.is_full() {
                break;
            }
            let Some(entry) = self.waiting.pop_front() else { break };
            // SAFETY: the engine's slot owns file and buffers until this entry's completion was reaped, and
            // dropping the ring (below) waits for all of them.
            if unsafe { queue.push(&entry) }.is_err() {
                self.waiting.push_front(entry);
                break;
            }
            self.flying += 1;
        }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        self.waiting.clear();
        let mut done = Vec::new();
        while self.flying > 0 {
            if let Err(error) = self.ring.submit_and_wait(1)
                && error.kind() != io::ErrorKind::Interrupted
            {
                // Nothing is known of what the kernel still writes to: better to leave than to go on.
                std::process::abort();
            }
            let before = done.len();
            done.extend(self.ring.completion().map(|entry| entry.result()));
            self.flying -= done.len() - before;
        }
    }
}

fn entry(operation: &Operation) -> squeue::Entry {
    let fd = types::Fd(operation.file.as_raw_fd());
    match &operation.action {
        Action::Read(offset, buffers) => match buffers.pieces() {
            [piece] => opcode::Read::new(fd, piece.iov_base.cast(), length(piece)).offset(*offset).build(),
            pieces => opcode::Readv::new(fd, pieces.as_ptr(), pieces.len() as u32).offset(*offset).build(),
        },
        Action::Write(offset, buffers) => match buffers.pieces() {
            [piece] => opcode::Write::new(fd, piece.iov_base.cast(), length(piece)).offset(*offset).build(),
            pieces => opcode::Writev::new(fd, pieces.as_ptr(), pieces.len() as u32).offset(*offset).build(),
        },
        Action::Sync => opcode::Fsync::new(fd).flags(types::FsyncFlags::DATASYNC).build(),
        Action::Allocate(mode, offset, len) => {
            opcode::Fallocate::new(fd, *len).offset(*offset).mode(*mode).build()
        }
    }
}

/// A piece's length; what is beyond 2 GiB is left to the next round, as the kernel would leave it.
fn length(piece: &libc::iovec) -> u32 {
    piece.iov_len.min(0x7fff_f000) as u32
}
