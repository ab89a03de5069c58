//! Locks, which are the host's own: guest and host see each other's.
//!
//! A POSIX lock belongs to a process. The processes of a guest are all one to the host, so each gets, for each inode it
//! locks, an open file of its own, and its locks are those of that open file (`F_OFD_SETLK`). A lock of `flock` belongs
//! to an open file in the guest as well as on the host.
//!
//! What has to wait does so in a thread, as there is no event to wait for; its end is told by [`Locks::event`]. A wait
//! that is given up stays blocked on the host until it gets its lock, and gives it back at once.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::server::{Finished, Limits, Outcome, Server};
use super::wire::{Args, Body, Header, reply_header};
use crate::jail;
use crate::worker::ThreadKind;

/// `FUSE_LK_FLOCK`: not a POSIX lock but one of `flock`.
const FLOCK: u32 = 1;

/// A lock that is asked for.
#[derive(Clone)]
enum Wish {
    /// On a range of bytes.
    Range(libc::flock),
    /// On the open file.
    Whole { exclusive: bool },
}

impl Wish {
    fn attempt(&self, file: &OwnedFd, wait: bool) -> Result<(), Errno> {
        let operation = match self {
            Self::Range(range) => {
                return control(file, if wait { libc::F_OFD_SETLKW } else { libc::F_OFD_SETLK }, range);
            }
            Self::Whole { exclusive: true } if wait => FlockOperation::LockExclusive,
            Self::Whole { exclusive: true } => FlockOperation::NonBlockingLockExclusive,
            Self::Whole { .. } if wait => FlockOperation::LockShared,
            Self::Whole { .. } => FlockOperation::NonBlockingLockShared,
        };
        flock(file, operation)
    }

    fn undo(&self, file: &OwnedFd) {
        // Nothing can be done where even that fails; the lock ends with the file.
        let _ = match self {
            Self::Range(range) => {
                control(file, libc::F_OFD_SETLK, &libc::flock { l_type: short(libc::F_UNLCK), ..*range })
            }
            Self::Whole { .. } => flock(file, FlockOperation::Unlock),
        };
    }
}

fn short(kind: libc::c_int) -> libc::c_short {
    libc::c_short::try_from(kind).unwrap_or(libc::c_short::MAX)
}

fn control(file: &OwnedFd, command: libc::c_int, range: &libc::flock) -> Result<(), Errno> {
    // SAFETY: `file` is open, and the kernel reads `range` only.
    let result = unsafe { libc::fcntl(file.as_raw_fd(), command, std::ptr::from_ref(range)) };
    if result < 0 { Err(last()) } else { Ok(()) }
}

fn last() -> Errno {
    Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO)
}

/// The protocol's range, of which the last byte belongs to it.
fn range(start: u64, end: u64, kind: u32) -> Result<libc::flock, Errno> {
    let (Ok(first), Ok(last)) = (i64::try_from(start), i64::try_from(end)) else { return Err(Errno::INVAL) };
    let len = match last {
        i64::MAX => 0,
        _ if last < first => return Err(Errno::INVAL),
        _ => last - first + 1,
    };
    let kind = libc::c_int::try_from(kind).map_err(|_| Errno::INVAL)?;
    if ![libc::F_RDLCK, libc::F_WRLCK, libc::F_UNLCK].contains(&kind) {
        return Err(Errno::INVAL);
    }
    Ok(libc::flock {
        l_type: short(kind),
        l_whence: short(libc::SEEK_SET),
        l_start: first,
        l_len: len,
        l_pid: 0,
    })
}

/// Where threads leave what has become of their wait.
#[derive(Debug)]
struct Ended {
    waits: Mutex<Vec<(u64, Result<(), Errno>)>>,
    event: EventFd,
}

#[derive(Debug)]
struct Wait {
    unique: u64,
    given_up: Arc<AtomicBool>,
}

/// The guest's locks and those who wait for one.
#[derive(Debug)]
pub struct Locks {
    /// The open files, by inode and owner.
    files: HashMap<u64, HashMap<u64, Arc<OwnedFd>>>,
    count: usize,
    most: usize,
    waits: HashMap<u64, Wait>,
    next: u64,
    ended: Arc<Ended>,
    /// Threads there are, and how many there may be.
    threads: (Arc<AtomicUsize>, usize),
}

impl Locks {
    pub fn new(limits: &Limits, threads: Arc<AtomicUsize>) -> io::Result<Self> {
        Ok(Self {
            files: HashMap::new(),
            count: 0,
            most: limits.lock_owners,
            waits: HashMap::new(),
            next: 0,
            ended: Arc::new(Ended { waits: Mutex::default(), event: EventFd::new(EFD_NONBLOCK)? }),
            threads: (threads, limits.waiting),
        })
    }

    /// What is written to when a wait has ended.
    pub fn event(&self) -> &EventFd {
        &self.ended.event
    }

    pub fn finished(&mut self) -> Vec<Finished> {
        // Empty where somebody was quicker.
        let _ = self.ended.event.read();
        let ended = std::mem::take(&mut *self.ended.waits.lock().unwrap_or_else(PoisonError::into_inner));
        let mut finished = Vec::new();
        for (wait, result) in ended {
            if let Some(Wait { unique, .. }) = self.waits.remove(&wait) {
                finished.push(Finished { wait, reply: reply_header(unique, result.err(), 0) });
            }
        }
        finished
    }

    fn find(&self, node: u64, owner: u64) -> Option<&Arc<OwnedFd>> {
        self.files.get(&node)?.get(&owner)
    }

    fn add(&mut self, node: u64, owner: u64, file: OwnedFd) -> Result<Arc<OwnedFd>, Errno> {
        if self.count >= self.most {
            return Err(Errno::NOLCK);
        }
        let file = Arc::new(file);
        if self.files.entry(node).or_default().insert(owner, Arc::clone(&file)).is_none() {
            self.count += 1;
        }
        Ok(file)
    }

    /// Ends all POSIX locks of `owner` on an inode.
    pub fn release(&mut self, node: u64, owner: u64) {
        let Some(owners) = self.files.get_mut(&node) else { return };
        if let Some(file) = owners.remove(&owner) {
            self.count -= 1;
            // Said, not left to closing: a wait of the owner's may have the file, too.
            if let Ok(all) = range(0, i64::MAX.cast_unsigned(), libc::F_UNLCK.cast_unsigned()) {
                Wish::Range(all).undo(&file);
            }
        }
        if owners.is_empty() {
            self.files.remove(&node);
        }
    }

    /// Ends all POSIX locks on an inode.
    pub fn forget(&mut self, node: u64) {
        let owners: Vec<_> = self.files.get(&node).into_iter().flat_map(HashMap::keys).copied().collect();
        for owner in owners {
            self.release(node, owner);
        }
    }

    /// Ends all POSIX locks, and gives all waits up.
    pub fn clear(&mut self) {
        let nodes: Vec<_> = self.files.keys().copied().collect();
        for node in nodes {
            self.forget(node);
        }
        for (number, wait) in &self.waits {
            self.give_up(*number, wait);
        }
    }

    fn wait(&mut self, unique: u64, file: Arc<OwnedFd>, wish: Wish) -> Result<u64, Errno> {
        let (threads, most) = (Arc::clone(&self.threads.0), self.threads.1);
        if threads
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |now| (now < most).then_some(now + 1))
            .is_err()
        {
            return Err(Errno::NOLCK);
        }
        let (number, given_up, ended) =
            (self.next, Arc::new(AtomicBool::new(false)), Arc::clone(&self.ended));
        self.next += 1;
        let told = Arc::clone(&given_up);
        let counted = Counted(threads);
        let thread = jail::spawn(ThreadKind::Fs, "fs-lock", move || {
            let _counted = counted;
            let result = loop {
                match wish.attempt(&file, true) {
                    Err(Errno::INTR) => {}
                    result => break result,
                }
            };
            let mut waits = ended.waits.lock().unwrap_or_else(PoisonError::into_inner);
            if !told.load(Ordering::Acquire) {
                waits.push((number, result));
                // It is set already where it cannot be set.
                let _ = ended.event.write(1);
            } else if result.is_ok() {
                wish.undo(&file);
            }
        });
        if thread.is_err() {
            return Err(Errno::NOLCK);
        }
        self.waits.insert(number, Wait { unique, given_up });
        Ok(number)
    }

    /// Gives up the wait of request `unique`, which is replied to as interrupted.
    fn interrupt(&mut self, unique: u64) {
        if let Some((number, wait)) = self.waits.iter().find(|(_, wait)| wait.unique == unique) {
            self.give_up(*number, wait);
        }
    }

    fn give_up(&self, number: u64, wait: &Wait) {
        // Under the lock, so that its thread either sees it or has told its end before.
        let mut waits = self.ended.waits.lock().unwrap_or_else(PoisonError::into_inner);
        if !waits.iter().any(|(ended, _)| *ended == number) {
            wait.given_up.store(true, Ordering::Release);
            waits.push((number, Err(Errno::INTR)));
            let _ = self.ended.event.write(1);
        }
    }
}

impl Drop for Locks {
    fn drop(&mut self) {
        self.clear();
    }
}

/// One of the threads that are counted.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Server {
    /// The open file that carries an owner's POSIX locks on an inode, opened for as much as the host allows.
    fn lock_file(&self, node: u64) -> Result<OwnedFd, Errno> {
        let node = self.inodes.get(node)?;
        self.regular(node)?;
        if !self.share.read_only
            && let Ok(file) = self.share.reopen(node, OFlags::RDWR)
        {
            return Ok(file);
        }
        match self.share.reopen(node, OFlags::RDONLY) {
            Err(Errno::ACCESS) if !self.share.read_only => self.share.reopen(node, OFlags::WRONLY),
            opened => opened,
        }
    }

    pub(super) fn getlk(&mut self, node: u64, mut args: Args<'_>) -> Result<Outcome, Errno> {
        args.skip(8)?;
        let (owner, start, end, kind) = (args.u64()?, args.u64()?, args.u64()?, args.u32()?);
        let mut range = range(start, end, kind)?;
        let file = match self.locks.find(node, owner) {
            Some(file) => Arc::clone(file),
            None => Arc::new(self.lock_file(node)?),
        };
        // SAFETY: `file` is open, and the kernel writes nothing but `range`.
        if unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_GETLK, &raw mut range) } < 0 {
            return Err(last());
        }
        let start = range.l_start.cast_unsigned();
        let end = match range.l_len {
            0 => i64::MAX,
            len => range.l_start.saturating_add(len - 1),
        };
        let mut body = Body::default();
        // Whose lock it is cannot be told: the host's processes are none of the guest's.
        body.u64(start).u64(end.cast_unsigned()).u32(u32::try_from(range.l_type).unwrap_or(0)).u32(0);
        Ok(body.into())
    }

    pub(super) fn setlk(
        &mut self,
        header: &Header,
        mut args: Args<'_>,
        wait: bool,
    ) -> Result<Outcome, Errno> {
        let (handle, owner, start, end, kind) =
            (args.u64()?, args.u64()?, args.u64()?, args.u64()?, args.u32()?);
        args.skip(4)?;
        let flags = args.u32()?;
        let unlock = kind == libc::F_UNLCK.cast_unsigned();
        let (file, wish) = if flags & FLOCK != 0 {
            let file = Arc::clone(self.handles.file(handle)?);
            if unlock {
                flock(&*file, FlockOperation::Unlock)?;
                return Ok(Outcome::done());
            }
            (file, Wish::Whole { exclusive: kind == libc::F_WRLCK.cast_unsigned() })
        } else {
            let wish = Wish::Range(range(start, end, kind)?);
            match self.locks.find(header.node, owner) {
                Some(file) => (Arc::clone(file), wish),
                None if unlock => return Ok(Outcome::done()),
                None => {
                    let file = self.lock_file(header.node)?;
                    (self.locks.add(header.node, owner, file)?, wish)
                }
            }
        };
        match wish.attempt(&file, false) {
            Err(Errno::AGAIN | Errno::ACCESS) if wait => {
                Ok(Outcome::Waits(self.locks.wait(header.unique, file, wish)?))
            }
            Err(Errno::ACCESS) => Err(Errno::AGAIN),
            result => result.map(|()| Outcome::done()),
        }
    }

    pub(super) fn interrupt(&mut self, mut args: Args<'_>) -> Result<Outcome, Errno> {
        if let Ok(unique) = args.u64() {
            self.locks.interrupt(unique);
        }
        Ok(Outcome::Silent)
    }
}
