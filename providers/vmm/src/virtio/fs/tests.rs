use super::*;
use crate::config::{Folder, Owners};
use crate::fuse::{Limits, Root};
use crate::virtio::VirtioDevice;
use crate::virtio::testing::Guest;

const LIMITS: Limits = Limits { inodes: 64, handles: 16, lock_owners: 8, waiting: 4 };
const ARGS: u64 = 0x1000;
const REPLY: u64 = 0x10_0000;

fn device(path: &std::path::Path) -> Fs {
    let id = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let owners = Owners { host: id, guest: (1000, 1000) };
    let root = Root::open(path).unwrap();
    let tag = "project".into();
    Fs::new(&Folder { tag, root, read_only: false, owners, changes: None }, LIMITS).unwrap()
}

/// Where the reply to such a request goes.
fn reply(opcode: u32) -> u64 {
    REPLY + u64::from(opcode) * 0x4000
}

/// Makes a request available in queue `index`, with its head.
fn offer(guest: &mut Guest, index: usize, opcode: u32, node: u64, args: &[u8]) -> u16 {
    let mut request = Vec::new();
    request.extend((40 + args.len() as u32).to_le_bytes());
    request.extend(opcode.to_le_bytes());
    request.extend(7_u64.to_le_bytes());
    request.extend(node.to_le_bytes());
    request.resize(40, 0);
    request.extend(args);
    // Two requests under way are not in each other's place.
    let args = ARGS + u64::from(opcode) * 0x400;
    let reply = reply(opcode);
    guest.write(args, &request);
    let len = request.len() as u32;
    // Header, arguments and reply apart, as Linux has them.
    let pieces =
        [(args, 40, false), (args + 40, len - 40, false), (reply, 16, true), (reply + 16, 0x2000, true)];
    let head = guest.queues[index].add(&pieces);
    guest.queues[index].kick();
    head
}

fn call(guest: &mut Guest, index: usize, opcode: u32, node: u64, args: &[u8]) -> Result<Vec<u8>, i32> {
    let head = offer(guest, index, opcode, node, args);
    let (used, len) = guest.wait_used(index);
    assert_eq!(used, head);
    let reply = guest.read(self::reply(opcode), len as usize);
    match i32::from_le_bytes(reply[4..8].try_into().unwrap()) {
        0 => Ok(reply[16..].to_vec()),
        error => Err(-error),
    }
}

fn words(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

#[test]
fn its_configuration_is_the_tag_and_one_queue_for_requests() {
    let folder = tempfile::tempdir().unwrap();
    let device = device(folder.path());
    let mut config = [0xff; 44];
    device.read_config(0, &mut config);
    assert_eq!(&config[..8], b"project\0");
    assert_eq!(&config[36..], &[1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]);
    let mut behind = [0xff; 4];
    device.read_config(u64::MAX, &mut behind);
    assert_eq!(behind, [0xff; 4]);
    assert_eq!(device.queues().len(), 2);

    for tag in ["", "a tag of more than thirty-six bytes, which it may not be"] {
        let owners = Owners { host: (0, 0), guest: (0, 0) };
        let root = Root::open(folder.path()).unwrap();
        let folder = Folder { tag: tag.into(), root, read_only: false, owners, changes: None };
        assert!(Fs::new(&folder, LIMITS).is_err());
    }
}

#[test]
fn requests_are_served_until_reset_and_anew_after_it() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("file"), "hello").unwrap();
    let mut device = device(folder.path());
    for _ in 0..2 {
        let (mut guest, activation) = Guest::new(&[128, 1024], device.features());
        device.activate(activation).unwrap();
        let init: Vec<u8> = [7_u32, 38, 4096, u32::MAX].iter().flat_map(|word| word.to_le_bytes()).collect();
        assert_eq!(call(&mut guest, 1, 26, 0, &init).unwrap().len(), 64);
        let entry = call(&mut guest, 1, 1, 1, b"file\0").unwrap();
        let node = u64::from_le_bytes(entry[..8].try_into().unwrap());
        assert_eq!(node, 2, "nothing is left of what another guest knew");
        let opened = call(&mut guest, 1, 14, node, &words(&[0])).unwrap();
        let handle = u64::from_le_bytes(opened[..8].try_into().unwrap());
        let read = call(&mut guest, 1, 15, node, &words(&[handle, 1, 100, 0, 0])).unwrap();
        assert_eq!(read, b"ello");
        // Whatever is urgent has no reply.
        offer(&mut guest, 0, 2, node, &words(&[1]));
        assert_eq!(guest.wait_used(0).1, 0);
        assert_eq!(call(&mut guest, 1, 3, node, &words(&[0, 0])), Err(libc::ESTALE));
        device.reset();
        device.reset();
    }
}

#[test]
fn who_waits_for_a_lock_is_replied_to_later() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    std::fs::write(&path, "hello").unwrap();
    let mut device = device(folder.path());
    let (mut guest, activation) = Guest::new(&[128, 1024], device.features());
    device.activate(activation).unwrap();
    call(&mut guest, 1, 1, 1, b"file\0").unwrap();
    let opened = call(&mut guest, 1, 14, 2, &words(&[2])).unwrap();
    let handle = u64::from_le_bytes(opened[..8].try_into().unwrap());
    let host = std::fs::File::open(&path).unwrap();
    host.lock().unwrap();
    // An exclusive lock by flock.
    let waiting = offer(&mut guest, 1, 33, 2, &words(&[handle, 1, 0, i64::MAX as u64, 1, 1]));
    let other = offer(&mut guest, 1, 17, 1, &[]);
    assert_eq!(guest.wait_used(1).0, other);
    assert_eq!(guest.queues[1].used(), None);
    host.unlock().unwrap();
    assert_eq!(guest.wait_used(1), (waiting, 16));
    assert!(host.try_lock().is_err());
    device.reset();
    // The guest's locks end with its files; the thread that has waited may hold the file a moment longer.
    host.lock().unwrap();
}

#[test]
fn chains_that_make_no_sense_stop_the_device() {
    let folder = tempfile::tempdir().unwrap();
    let mut device = device(folder.path());
    let outside = 0x7fff_ffff_0000;
    for pieces in [
        vec![(outside, 40, false), (REPLY, 16, true)],
        vec![(ARGS, 40, false), (outside, 16, true)],
        vec![(REPLY, 16, true), (ARGS, 40, false)],
    ] {
        let (mut guest, activation) = Guest::new(&[128, 1024], device.features());
        device.activate(activation).unwrap();
        guest.queues[1].add(&pieces);
        guest.queues[1].kick();
        guest.wait_needs_reset();
        device.reset();
    }
}

#[test]
fn a_chain_without_room_is_given_back() {
    let folder = tempfile::tempdir().unwrap();
    let mut device = device(folder.path());
    let (mut guest, activation) = Guest::new(&[128, 1024], device.features());
    device.activate(activation).unwrap();
    for pieces in [vec![(ARGS, 40, false)], vec![(REPLY, 16, true)], vec![(ARGS, 0, false), (REPLY, 3, true)]]
    {
        let head = guest.queues[1].add(&pieces);
        guest.queues[1].kick();
        assert_eq!(guest.wait_used(1), (head, 0));
    }
}
