use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{FlockOperation, flock};

use super::*;

const READ: u32 = 0;
const WRITE: u32 = 1;
const NONE: u32 = 2;
const FLOCK: u32 = 1;

fn args(handle: u64, owner: u64, (start, end): (u64, u64), kind: u32, flags: u32) -> Body {
    let mut args = Body::default();
    args.u64(handle).u64(owner).u64(start).u64(end).u32(kind).u32(0).u32(flags).u32(0);
    args
}

/// A lock of the host's on the whole file, until it is dropped.
fn host_lock(guest: &Guest) -> OwnedFd {
    let file =
        OwnedFd::from(fs_err::OpenOptions::new().write(true).open(guest.host("file")).unwrap().into_file());
    let all = libc::flock { l_type: 1, l_whence: 0, l_start: 0, l_len: 0, l_pid: 0 };
    // SAFETY: the file is open and the kernel only reads the range.
    assert_eq!(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw const all) }, 0);
    file
}

/// Waits until a wait has ended, and returns which and the error.
pub(super) fn ended(guest: &mut Guest) -> (u64, i32) {
    loop {
        let finished = guest.server.finished();
        if let Some(one) = finished.first() {
            let mut header = Args::new(&one.reply);
            header.skip(4).unwrap();
            return (one.wait, -header.u32().unwrap().cast_signed());
        }
        // SAFETY: the event lives as long as the server.
        let event = unsafe { rustix::fd::BorrowedFd::borrow_raw(guest.server.event().as_raw_fd()) };
        poll(&mut [PollFd::new(&event, PollFlags::IN)], None).unwrap();
    }
}

#[test]
fn posix_locks_are_seen_between_processes_and_by_the_host() {
    let mut guest = Guest::new();
    let (file, handle) = guest.create(ROOT, "file", libc::O_RDWR).unwrap();
    let mut set =
        |owner, range, kind| guest.call(op::SETLK, file.node, &args(handle, owner, range, kind, 0)).map(drop);
    assert_eq!(set(1, (0, 9), WRITE), Ok(()));
    assert_eq!(set(2, (5, 6), READ), Err(libc::EAGAIN));
    assert_eq!(set(2, (10, i64::MAX as u64), WRITE), Ok(()));
    // A process's own lock does not stand in its way.
    assert_eq!(set(1, (0, 9), READ), Ok(()));
    assert_eq!(set(2, (5, 6), READ), Ok(()));
    assert_eq!(set(2, (5, 6), WRITE), Err(libc::EAGAIN));
    assert_eq!(set(1, (9, 0), WRITE), Err(libc::EINVAL));
    assert_eq!(set(1, (0, u64::MAX), WRITE), Err(libc::EINVAL));
    assert_eq!(set(1, (0, 0), 77), Err(libc::EINVAL));
    let got = guest.call(op::GETLK, file.node, &args(handle, 3, (0, 20), WRITE, 0)).unwrap();
    let mut got = Args::new(&got);
    assert_eq!((got.u64(), got.u64(), got.u32()), (Ok(0), Ok(9), Ok(READ)));

    let host =
        OwnedFd::from(fs_err::OpenOptions::new().write(true).open(guest.host("file")).unwrap().into_file());
    let all = libc::flock { l_type: 1, l_whence: 0, l_start: 0, l_len: 0, l_pid: 0 };
    // SAFETY: the file is open and the kernel only reads the range.
    let host_locks = || unsafe { libc::fcntl(host.as_raw_fd(), libc::F_OFD_SETLK, &raw const all) } == 0;
    assert!(!host_locks());
    // Closing any descriptor ends a process's locks, as close(2) has it.
    for owner in [1, 2] {
        guest.call(op::FLUSH, file.node, Body::default().u64(handle).u64(0).u64(owner)).unwrap();
    }
    assert!(host_locks());
    let got = guest.call(op::GETLK, file.node, &args(handle, 3, (0, 20), WRITE, 0)).unwrap();
    let mut got = Args::new(&got);
    assert_eq!((got.u64(), got.u64(), got.u32()), (Ok(0), Ok(i64::MAX as u64), Ok(WRITE)));
}

#[test]
fn whoever_waits_for_a_lock_holds_up_nobody() {
    let mut guest = Guest::new();
    let (file, handle) = guest.create(ROOT, "file", libc::O_RDWR).unwrap();
    let host = host_lock(&guest);
    let (answer, _) = guest.send(op::SETLKW, file.node, &args(handle, 1, (0, 9), WRITE, 0), 16);
    let Answer::Waits(wait) = answer else { panic!("{answer:?}") };
    assert_eq!(guest.getattr(file.node).unwrap().ino, fs_err::metadata(guest.host("file")).unwrap().ino());
    drop(host);
    assert_eq!(ended(&mut guest), (wait, 0));
    let other = guest.call(op::SETLK, file.node, &args(handle, 2, (0, 9), READ, 0));
    assert_eq!(other, Err(libc::EAGAIN));
}

#[test]
fn a_wait_that_is_interrupted_gets_no_lock() {
    let mut guest = Guest::new();
    let (file, handle) = guest.create(ROOT, "file", libc::O_RDWR).unwrap();
    let host = host_lock(&guest);
    let (answer, _) = guest.send(op::SETLKW, file.node, &args(handle, 1, (0, 9), WRITE, 0), 16);
    let Answer::Waits(wait) = answer else { panic!("{answer:?}") };
    let unique = guest.unique;
    guest.send(op::INTERRUPT, 0, Body::default().u64(unique), 0);
    assert_eq!(ended(&mut guest), (wait, libc::EINTR));
    drop(host);
    // Another that waits gets it, after the thread of the first one has given it back.
    let (answer, _) = guest.send(op::SETLKW, file.node, &args(handle, 2, (0, 9), WRITE, 0), 16);
    if let Answer::Waits(wait) = answer {
        assert_eq!(ended(&mut guest), (wait, 0));
    }
}

#[test]
fn whole_file_locks_are_the_open_files() {
    let mut guest = Guest::new();
    let (file, first) = guest.create(ROOT, "file", libc::O_RDWR).unwrap();
    let second = guest.open(file.node, libc::O_RDWR).unwrap();
    let range = (0, i64::MAX as u64);
    guest.call(op::SETLK, file.node, &args(first, 1, range, WRITE, FLOCK)).unwrap();
    assert_eq!(guest.call(op::SETLK, file.node, &args(second, 2, range, READ, FLOCK)), Err(libc::EAGAIN));
    let host = fs_err::File::open(guest.host("file")).unwrap();
    assert!(flock(host.file(), FlockOperation::NonBlockingLockShared).is_err());
    let (answer, _) = guest.send(op::SETLKW, file.node, &args(second, 2, range, READ, FLOCK), 16);
    let Answer::Waits(wait) = answer else { panic!("{answer:?}") };
    guest.call(op::SETLK, file.node, &args(first, 1, range, NONE, FLOCK)).unwrap();
    assert_eq!(ended(&mut guest), (wait, 0));
    guest.call(op::RELEASE, file.node, Body::default().u64(second).pad(24)).unwrap();
    // The thread that waited may hold the file a moment longer, so waiting it is.
    flock(host.file(), FlockOperation::LockExclusive).unwrap();
}

#[test]
fn waits_and_owners_are_limited_and_end_with_the_server() {
    let mut guest = Guest::new();
    let (file, handle) = guest.create(ROOT, "file", libc::O_RDWR).unwrap();
    let host = host_lock(&guest);
    let mut wait = |owner| guest.send(op::SETLKW, file.node, &args(handle, owner, (0, 9), WRITE, 0), 16).0;
    for owner in 1..=4 {
        assert!(matches!(wait(owner), Answer::Waits(_)));
    }
    assert_eq!(wait(5), Answer::Replied(16));
    let (node, count) = (file.node, LIMITS.lock_owners as u64);
    for owner in 6..=count {
        let locked = guest.call(op::SETLK, node, &args(handle, owner, (0, 9), WRITE, 0));
        assert_eq!(locked, Err(libc::EAGAIN));
    }
    let locked = guest.call(op::SETLK, node, &args(handle, count + 1, (0, 9), WRITE, 0));
    assert_eq!(locked, Err(libc::ENOLCK));
    guest.call(op::DESTROY, 0, &Body::default()).unwrap();
    assert_eq!(guest.server.finished().len(), 4);
    assert_eq!(guest.read(handle, 0, 1), Err(libc::EBADF));
    drop(host);
    let again = host_lock_waiting(&guest);
    drop(again);
}

/// A lock of the host's, got once the threads of given-up waits have given theirs back.
fn host_lock_waiting(guest: &Guest) -> OwnedFd {
    let file =
        OwnedFd::from(fs_err::OpenOptions::new().write(true).open(guest.host("file")).unwrap().into_file());
    let all = libc::flock { l_type: 1, l_whence: 0, l_start: 0, l_len: 0, l_pid: 0 };
    // SAFETY: the file is open and the kernel only reads the range.
    assert_eq!(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLKW, &raw const all) }, 0);
    file
}
