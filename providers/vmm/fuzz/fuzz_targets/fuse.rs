//! A guest that sends a FUSE server anything at all. Nothing may panic, and nothing outside of the folder may be read or
//! changed.
//!
//! Run it with `scripts/fuzz.sh 60 fuse`.

#![no_main]

use std::sync::Arc;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use posada_vmm::config::{Folder, Owners};
use posada_vmm::fuse::{Answer, Limits, Root, Server, Share};
use posada_vmm::virtio::buffers::Buffers;
use vm_memory::{Bytes, GuestAddress};

const RAM: usize = 256 << 10;
const REPLY: u64 = 128 << 10;
const SECRET: &[u8] = b"it is not for the guest";

#[derive(Arbitrary, Debug)]
struct Request {
    /// Whether the header tells the request's length as it is.
    honest: bool,
    len: u32,
    opcode: u8,
    node: u8,
    /// Small numbers in front, of which handles, sizes and nodes are made.
    words: Vec<u8>,
    /// Names and data behind.
    tail: Vec<u8>,
    room: u16,
}

fuzz_target!(|requests: Vec<Request>| {
    let around = tempfile::tempdir().expect("a folder can be made");
    let path = around.path().join("shared");
    std::fs::create_dir(&path).expect("a folder can be made");
    std::fs::write(path.join("a"), "inside").expect("a file can be made");
    std::fs::write(around.path().join("b"), SECRET).expect("a file can be made");
    let owners = Owners { host: (0, 0), guest: (1000, 1000) };
    let root = Root::open(&path).expect("the folder opens");
    let folder = Folder { tag: "f".into(), root, read_only: false, owners, changes: None };
    let limits = Limits { inodes: 32, handles: 8, lock_owners: 4, waiting: 2 };
    let share = Share::open(&folder, limits).expect("the folder opens");
    let mut server = Server::new(Arc::new(share)).expect("the server starts");
    let ram = Arc::new(posada_vmm::memory::allocate(&[(GuestAddress(0), RAM)]).expect("there is memory"));
    for request in requests.iter().take(64) {
        let mut bytes = vec![0; 40];
        bytes.extend(request.words.iter().flat_map(|word| u64::from(*word).to_le_bytes()));
        bytes.extend(&request.tail);
        bytes.truncate(REPLY as usize);
        let len = if request.honest { bytes.len() as u32 } else { request.len };
        bytes[..4].copy_from_slice(&len.to_le_bytes());
        bytes[4] = request.opcode;
        bytes[16] = request.node;
        ram.write_slice(&bytes, GuestAddress(0)).expect("it is memory");
        let mut input = Buffers::new(ram.clone());
        input.add(GuestAddress(0), bytes.len()).expect("it is memory");
        let mut output = Buffers::new(ram.clone());
        output.add(GuestAddress(REPLY), request.room.into()).expect("it is memory");
        if let Answer::Replied(len) = server.handle(input, &output) {
            assert!((16..=usize::from(request.room)).contains(&len));
            let mut reply = vec![0; len];
            ram.read_slice(&mut reply, GuestAddress(REPLY)).expect("it is memory");
            assert!(!reply.windows(SECRET.len()).any(|bytes| bytes == SECRET));
        }
    }
    assert_eq!(std::fs::read(around.path().join("b")).expect("it is still there"), SECRET);
});
