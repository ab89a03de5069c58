//! Takes requests in and gives replies out.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use rustix::fs::{FileType, Mode, OFlags, open, openat};
use rustix::io::Errno;
use rustix::path::DecInt;
use vmm_sys_util::eventfd::EventFd;

use super::handle::Handles;
use super::identity;
use super::inode::{Inodes, Node};
use super::lock::Locks;
use super::name::Name;
use super::root::Root;
use super::watch::Own;
use super::wire::{Args, Body, Header, REPLY_HEADER, REQUEST_HEADER, op, reply_header};
use crate::config::{Folder, Owners};
use crate::virtio::buffers::Buffers;

/// The longest request but WRITE, bytes: an extended attribute with its value is longest.
const LONGEST_REQUEST: usize = 256 << 10;

/// How much a guest can make a server remember.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Inodes known, each a descriptor.
    pub inodes: usize,
    /// Files and directories open, each a descriptor.
    pub handles: usize,
    /// Owners of POSIX locks, each a descriptor and file.
    pub lock_owners: usize,
    /// Requests that wait for a lock, each a thread; at all servers of a folder together.
    pub waiting: usize,
}

impl Limits {
    /// What can be had by a server that may use `descriptors`.
    #[must_use]
    pub fn for_descriptors(descriptors: usize) -> Self {
        let handles = (descriptors / 8).clamp(16, 65_536);
        let lock_owners = (descriptors / 16).clamp(8, 4096);
        let inodes = descriptors.saturating_sub(handles + lock_owners).clamp(64, 1 << 20);
        Self { inodes, handles, lock_owners, waiting: 64 }
    }
}

/// A folder of the host that is served: what outlives a server.
#[derive(Debug)]
pub struct Share {
    root: Root,
    /// `/proc/self/fd`, by which an inode that is pinned is opened.
    descriptors: OwnedFd,
    pub(super) read_only: bool,
    pub(super) owners: Owners,
    pub(super) limits: Limits,
    own: Own,
    /// The bits that this process's `umask` takes from the mode of what it makes.
    pub(super) masked: u32,
    /// Threads that wait for a lock; those whose server is gone among them.
    pub(super) waiting: Arc<AtomicUsize>,
}

impl Share {
    /// Serves `folder`.
    ///
    /// # Errors
    /// Where there is no `/proc`.
    pub fn open(folder: &Folder, limits: Limits) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self {
            root: folder.root.clone(),
            descriptors: open("/proc/self/fd", flags, Mode::empty())?,
            read_only: folder.read_only,
            owners: folder.owners,
            limits,
            own: Own::default(),
            masked: identity::umask_in_force()?,
            waiting: Arc::default(),
        })
    }

    /// Whose files are whose.
    #[must_use]
    pub fn owners(&self) -> &Owners {
        &self.owners
    }

    /// The folder itself.
    pub(super) fn root(&self) -> &Root {
        &self.root
    }

    /// What the guest changes itself.
    pub(super) fn own(&self) -> &Own {
        &self.own
    }

    /// `/proc/self/fd`: a descriptor's number in it leads to what that descriptor is, whatever became of its path.
    pub(super) fn descriptors(&self) -> &OwnedFd {
        &self.descriptors
    }

    /// Opens a regular file or directory anew. Nothing else is ever opened: that could block, or be a device.
    pub(super) fn reopen(&self, node: &Node, flags: OFlags) -> Result<OwnedFd, Errno> {
        match node.kind() {
            FileType::RegularFile | FileType::Directory => {}
            FileType::Symlink => return Err(Errno::LOOP),
            _ => return Err(Errno::NXIO),
        }
        openat(&self.descriptors, DecInt::from_fd(node), flags | OFlags::CLOEXEC, Mode::empty())
    }

    /// Refuses what would change the folder, where it is not to be changed.
    pub(super) fn writable(&self) -> Result<(), Errno> {
        if self.read_only { Err(Errno::ROFS) } else { Ok(()) }
    }
}

/// What has become of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Its reply is written, so many bytes.
    Replied(usize),
    /// It has none.
    Silent,
    /// It waits for a lock under this number; see [`Server::finished`].
    Waits(u64),
}

/// The end of a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Finished {
    /// The number it waited under.
    pub wait: u64,
    /// The reply, to be written to the room the request came with.
    pub reply: [u8; REPLY_HEADER],
}

/// What a request leads to.
pub(super) enum Outcome {
    /// A reply with this body.
    Body(Body),
    /// A reply whose body, of so many bytes, is in its place already.
    Placed(usize),
    Silent,
    Waits(u64),
}

impl Outcome {
    /// A reply without a body.
    pub(super) fn done() -> Self {
        Self::Body(Body::default())
    }
}

impl From<Body> for Outcome {
    fn from(body: Body) -> Self {
        Self::Body(body)
    }
}

/// Serves a folder to one guest, one request after the other.
#[derive(Debug)]
pub struct Server {
    pub(super) share: Arc<Share>,
    pub(super) inodes: Inodes,
    pub(super) handles: Handles,
    pub(super) locks: Locks,
}

impl Server {
    /// A server of `share` to which nobody has spoken yet.
    ///
    /// # Errors
    /// Where a descriptor cannot be had.
    pub fn new(share: Arc<Share>) -> io::Result<Self> {
        let inodes = Inodes::new(share.root.as_fd().try_clone_to_owned()?, share.limits.inodes)?;
        let handles = Handles::new(share.limits.handles);
        let locks = Locks::new(&share.limits, Arc::clone(&share.waiting))?;
        Ok(Self { share, inodes, handles, locks })
    }

    /// Serves the request in `input`. The reply is written to `output`.
    pub fn handle(&mut self, mut input: Buffers, output: &Buffers) -> Answer {
        let mut bytes = [0; REQUEST_HEADER];
        input.read_at(0, &mut bytes[..REQUEST_HEADER.min(input.len())]);
        if input.len() < REQUEST_HEADER {
            return Answer::Silent;
        }
        input.skip(REQUEST_HEADER);
        let header = Header::parse(&bytes);
        let rest = usize::try_from(header.len).ok().and_then(|len| len.checked_sub(REQUEST_HEADER));
        let outcome = match rest {
            Some(rest) if rest <= input.len() => {
                input.truncate(rest);
                self.perform(&header, input, output)
            }
            _ => Err(Errno::INVAL),
        };
        let (error, placed) = match outcome {
            Ok(Outcome::Silent) => return Answer::Silent,
            Ok(Outcome::Waits(wait)) => return Answer::Waits(wait),
            Ok(Outcome::Placed(len)) => (None, len),
            Ok(Outcome::Body(body)) if REPLY_HEADER + body.0.len() <= output.len() => {
                (None, output.write_at(REPLY_HEADER, &body.0))
            }
            Ok(Outcome::Body(_)) => (Some(Errno::RANGE), 0),
            Err(error) => (Some(error), 0),
        };
        if output.write_at(0, &reply_header(header.unique, error, placed)) < REPLY_HEADER {
            return Answer::Silent;
        }
        Answer::Replied(REPLY_HEADER + placed)
    }

    /// What is written to when a wait has ended.
    #[must_use]
    pub fn event(&self) -> &EventFd {
        self.locks.event()
    }

    /// The waits that have ended since the last call.
    pub fn finished(&mut self) -> Vec<Finished> {
        self.locks.finished()
    }

    fn perform(&mut self, header: &Header, input: Buffers, output: &Buffers) -> Result<Outcome, Errno> {
        let node = header.node;
        if header.opcode == op::WRITE {
            return self.write(node, input);
        }
        if input.len() > LONGEST_REQUEST {
            return Err(Errno::TOOBIG);
        }
        // A copy, as the guest may write to the original meanwhile.
        let mut bytes = vec![0; input.len()];
        input.read_at(0, &mut bytes);
        let args = Args::new(&bytes);
        let room = output.len().saturating_sub(REPLY_HEADER);
        match header.opcode {
            op::INIT => self.init(args),
            op::DESTROY => {
                self.clear();
                Ok(Outcome::done())
            }
            op::FORGET => self.forget(node, args),
            op::BATCH_FORGET => self.batch_forget(args),
            op::INTERRUPT => self.interrupt(args),
            op::LOOKUP => self.lookup(node, args),
            op::GETATTR => self.getattr(node, args),
            op::SETATTR => self.setattr(node, args),
            op::ACCESS => self.access(node, args),
            op::STATFS => self.statfs(node),
            op::READLINK => self.readlink(node),
            op::SYMLINK => self.symlink(node, args),
            op::MKNOD => self.mknod(node, args),
            op::MKDIR => self.mkdir(node, args),
            op::UNLINK => self.unlink(node, args, false),
            op::RMDIR => self.unlink(node, args, true),
            op::RENAME => self.rename(node, args, false),
            op::RENAME2 => self.rename(node, args, true),
            op::LINK => self.link(node, args),
            op::CREATE => self.create(node, args),
            op::OPEN => self.open(node, args),
            op::READ => self.read(args, output),
            op::FLUSH => self.flush(node, args),
            op::RELEASE | op::RELEASEDIR => self.release(args),
            op::FSYNC => self.fsync(args),
            op::FSYNCDIR => self.fsyncdir(args),
            op::FALLOCATE => self.fallocate(node, args),
            op::LSEEK => self.lseek(args),
            op::COPY_FILE_RANGE => self.copy_file_range(args),
            op::OPENDIR => self.opendir(node),
            op::READDIR => self.readdir(node, args, room, false),
            op::READDIRPLUS => self.readdir(node, args, room, true),
            op::GETXATTR => self.getxattr(node, args),
            op::SETXATTR => self.setxattr(node, args),
            op::LISTXATTR => self.listxattr(node, args),
            op::REMOVEXATTR => self.removexattr(node, args),
            op::GETLK => self.getlk(node, args),
            op::SETLK => self.setlk(header, args, false),
            op::SETLKW => self.setlk(header, args, true),
            _ => Err(Errno::NOSYS),
        }
    }

    /// Closes and forgets all but the folder itself.
    pub(super) fn clear(&mut self) {
        self.handles.clear();
        self.locks.clear();
        self.inodes.clear();
    }

    fn forget(&mut self, node: u64, mut args: Args<'_>) -> Result<Outcome, Errno> {
        // There is no reply, not even for a request that is nonsense.
        if let Ok(count) = args.u64() {
            self.forget_one(node, count);
        }
        Ok(Outcome::Silent)
    }

    fn batch_forget(&mut self, mut args: Args<'_>) -> Result<Outcome, Errno> {
        if args.u32().and_then(|_| args.u32()).is_ok() {
            while let (Ok(node), Ok(count)) = (args.u64(), args.u64()) {
                self.forget_one(node, count);
            }
        }
        Ok(Outcome::Silent)
    }

    pub(super) fn forget_one(&mut self, node: u64, count: u64) {
        if self.inodes.forget(node, count) {
            self.locks.forget(node);
        }
    }

    /// Notes that the guest changes a file, for [`Watch`](super::watch::Watch).
    pub(super) fn changes(&self, node: u64) {
        self.share.own.inode(self.inodes.inode(node));
    }

    /// Notes that the guest changes what a name stands for.
    pub(super) fn changes_entry(&self, parent: u64, name: &Name) {
        self.share.own.entry(self.inodes.inode(parent), name.bytes());
    }

    /// Makes a directory's or file's pinned inode a path, for calls that take nothing else.
    pub(super) fn proc_path(node: &Node) -> String {
        format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&node.as_fd()))
    }
}
