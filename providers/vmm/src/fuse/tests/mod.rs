//! Requests made by hand, as a guest's kernel would make them.

mod confinement;
mod files;
mod hostile;
mod jailed;
mod locks;
mod names;
mod owners;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::TempDir;
use vm_memory::{Bytes, GuestAddress};

use super::wire::{Args, Body, op};
use super::{Answer, Limits, Root, Server, Share};
use crate::config::{Folder, Owners};
use crate::memory::GuestRam;
use crate::virtio::buffers::Buffers;

const LIMITS: Limits = Limits { inodes: 64, handles: 16, lock_owners: 8, waiting: 4 };
pub(super) const ROOT: u64 = 1;
/// Where replies go in the guest's memory.
const REPLY: u64 = 512 << 10;

/// The owners where the folder is the caller's.
fn own() -> Owners {
    let id = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    Owners { host: id, guest: (1000, 1000) }
}

/// A guest with a folder of its own, `shared` in a temporary one that has more in it.
pub(super) struct Guest {
    pub(super) server: Server,
    ram: Arc<GuestRam>,
    temporary: TempDir,
    unique: u64,
}

/// Attributes as they were told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) node: u64,
    ino: u64,
    size: u64,
    mode: u32,
    links: u32,
    owner: (u32, u32),
}

impl Guest {
    pub(super) fn new() -> Self {
        Self::with(own(), false)
    }

    fn with(owners: Owners, read_only: bool) -> Self {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join("shared");
        fs_err::create_dir(&path).unwrap();
        fs_err::write(temporary.path().join("outside"), "secret").unwrap();
        let ram = Arc::new(crate::memory::allocate(&[(GuestAddress(0), 1 << 20)]).unwrap());
        Self { server: Self::server(&path, owners, read_only), ram, temporary, unique: 0 }
    }

    fn server(path: &Path, owners: Owners, read_only: bool) -> Server {
        let root = Root::open(path).unwrap();
        let folder = Folder { tag: "t".into(), root, read_only, owners, changes: None };
        Server::new(Arc::new(Share::open(&folder, LIMITS).unwrap())).unwrap()
    }

    /// A path of the shared folder on the host.
    pub(super) fn host(&self, path: &str) -> PathBuf {
        self.temporary.path().join("shared").join(path)
    }

    fn raw(&mut self, request: &[u8], room: usize) -> (Answer, Vec<u8>) {
        self.ram.write_slice(request, GuestAddress(0)).unwrap();
        self.ram.write_slice(&vec![0; room], GuestAddress(REPLY)).unwrap();
        let (mut input, mut output) = (Buffers::new(self.ram.clone()), Buffers::new(self.ram.clone()));
        input.add(GuestAddress(0), request.len()).unwrap();
        // In two pieces, as many a guest's.
        output.add(GuestAddress(REPLY), room.min(20)).unwrap();
        output.add(GuestAddress(REPLY + 20), room.saturating_sub(20)).unwrap();
        let answer = self.server.handle(input, &output);
        let mut reply = vec![0; room];
        self.ram.read_slice(&mut reply, GuestAddress(REPLY)).unwrap();
        (answer, reply)
    }

    /// A request with a header, and its answer.
    fn send(&mut self, opcode: u32, node: u64, args: &Body, room: usize) -> (Answer, Vec<u8>) {
        self.unique += 1;
        let mut request = Body::default();
        request.u32(u32::try_from(40 + args.0.len()).unwrap()).u32(opcode).u64(self.unique).u64(node);
        request.pad(40).bytes(&args.0);
        self.raw(&request.0, room)
    }

    /// The body of the reply, or its error.
    fn call(&mut self, opcode: u32, node: u64, args: &Body) -> Result<Vec<u8>, i32> {
        let (answer, reply) = self.send(opcode, node, args, 200_000);
        let Answer::Replied(len) = answer else { panic!("{answer:?}") };
        let mut header = Args::new(&reply);
        assert_eq!(header.u32().unwrap(), u32::try_from(len).unwrap());
        let error = header.u32().unwrap().cast_signed();
        assert_eq!(header.u64().unwrap(), self.unique);
        if error == 0 { Ok(reply[16..len].to_vec()) } else { Err(-error) }
    }

    fn named(&mut self, opcode: u32, node: u64, args: Body, names: &[&str]) -> Result<Vec<u8>, i32> {
        let mut args = args;
        for name in names {
            args.bytes(name.as_bytes()).bytes(&[0]);
        }
        self.call(opcode, node, &args)
    }

    pub(super) fn lookup(&mut self, parent: u64, name: &str) -> Result<Told, i32> {
        Ok(entry(&self.named(op::LOOKUP, parent, Body::default(), &[name])?))
    }

    pub(super) fn getattr(&mut self, node: u64) -> Result<Told, i32> {
        Ok(attr(node, &self.call(op::GETATTR, node, Body::default().pad(16))?[16..]))
    }

    pub(super) fn mkdir(&mut self, parent: u64, name: &str) -> Result<Told, i32> {
        let mut args = Body::default();
        args.u32(0o755).u32(0);
        Ok(entry(&self.named(op::MKDIR, parent, args, &[name])?))
    }

    pub(super) fn create(&mut self, parent: u64, name: &str, flags: i32) -> Result<(Told, u64), i32> {
        let mut args = Body::default();
        args.u32(flags.cast_unsigned()).u32(0o644).u64(0);
        let reply = self.named(op::CREATE, parent, args, &[name])?;
        Ok((entry(&reply), Args::new(&reply[128..]).u64().unwrap()))
    }

    fn open(&mut self, node: u64, flags: i32) -> Result<u64, i32> {
        let reply = self.call(op::OPEN, node, Body::default().u32(flags.cast_unsigned()).u32(0))?;
        Ok(Args::new(&reply).u64().unwrap())
    }

    fn read(&mut self, handle: u64, offset: u64, size: u32) -> Result<Vec<u8>, i32> {
        self.call(op::READ, ROOT, Body::default().u64(handle).u64(offset).u32(size).pad(40))
    }

    pub(super) fn write(&mut self, handle: u64, offset: u64, data: &[u8], flags: u32) -> Result<u32, i32> {
        let mut args = Body::default();
        args.u64(handle).u64(offset).u32(u32::try_from(data.len()).unwrap()).u32(flags).pad(40).bytes(data);
        Ok(Args::new(&self.call(op::WRITE, ROOT, &args)?).u32().unwrap())
    }

    /// SETATTR of what `fill` writes.
    pub(super) fn setattr(&mut self, node: u64, new: &SetAttr) -> Result<Told, i32> {
        let mut args = Body::default();
        args.u32(new.valid).u32(0).u64(new.handle).u64(new.size).u64(0).u64(0).u64(new.mtime).u64(0);
        args.u32(0).u32(0).u32(0).u32(new.mode).u32(0).u32(new.uid).u32(new.gid).u32(0);
        Ok(attr(node, &self.call(op::SETATTR, node, &args)?[16..]))
    }
}

#[derive(Default)]
pub(super) struct SetAttr {
    pub(super) valid: u32,
    pub(super) handle: u64,
    pub(super) size: u64,
    pub(super) mtime: u64,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

fn attr(node: u64, bytes: &[u8]) -> Told {
    let mut args = Args::new(bytes);
    let (ino, size) = (args.u64().unwrap(), args.u64().unwrap());
    args.skip(44).unwrap();
    let (mode, links) = (args.u32().unwrap(), args.u32().unwrap());
    Told { node, ino, size, mode, links, owner: (args.u32().unwrap(), args.u32().unwrap()) }
}

fn entry(bytes: &[u8]) -> Told {
    attr(Args::new(bytes).u64().unwrap(), &bytes[40..])
}

#[test]
fn init_agrees_on_what_both_can() {
    let mut guest = Guest::new();
    let mut args = Body::default();
    args.u32(7).u32(36).u32(131_072).u32(u32::MAX).pad(64);
    let reply = guest.call(op::INIT, 0, &args).unwrap();
    assert_eq!(reply.len(), 64);
    let mut reply = Args::new(&reply);
    assert_eq!((reply.u32(), reply.u32(), reply.u32()), (Ok(7), Ok(38), Ok(131_072)));
    let flags = reply.u32().unwrap();
    for (bit, agreed) in [(1, true), (10, true), (12, true), (13, true), (16, false), (26, false)] {
        assert_eq!(flags & 1 << bit != 0, agreed, "flag {bit}");
    }
    assert_eq!(guest.call(op::INIT, 0, Body::default().u32(7).u32(30).u32(0).u32(0)), Err(libc::EPROTO));
    let newer = guest.call(op::INIT, 0, Body::default().u32(8).u32(0).u32(0).u32(0)).unwrap();
    assert_eq!(Args::new(&newer).u32(), Ok(7));
}
