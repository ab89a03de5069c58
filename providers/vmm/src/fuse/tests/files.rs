use super::*;

#[test]
fn bytes_go_straight_from_and_to_files() {
    let mut guest = Guest::new();
    let (file, handle) = guest.create(ROOT, "file", libc::O_RDWR | libc::O_EXCL).unwrap();
    assert_eq!(guest.write(handle, 0, b"hello world", 0), Ok(11));
    assert_eq!(guest.write(handle, 6, b"there", 0), Ok(5));
    assert_eq!(fs_err::read(guest.host("file")).unwrap(), b"hello there");
    assert_eq!(guest.read(handle, 6, 100).unwrap(), b"there");
    assert_eq!(guest.read(handle, 6, 2).unwrap(), b"th");
    assert_eq!(guest.read(handle, 100, 2).unwrap(), b"");
    assert_eq!(guest.read(handle, u64::MAX, 2), Err(libc::EINVAL));
    assert_eq!(guest.write(handle, u64::MAX, b"x", 0), Err(libc::EINVAL));
    guest.call(op::FSYNC, file.node, Body::default().u64(handle).u64(1)).unwrap();
    // No handle is open twice, none after it was released.
    guest.call(op::RELEASE, file.node, Body::default().u64(handle).pad(24)).unwrap();
    assert_eq!(guest.read(handle, 0, 1), Err(libc::EBADF));
    assert_eq!(guest.create(ROOT, "file", libc::O_RDWR | libc::O_EXCL).map(drop), Err(libc::EEXIST));
    let (again, _) = guest.create(ROOT, "file", libc::O_RDWR | libc::O_TRUNC).unwrap();
    assert_eq!(again.node, file.node);
    assert_eq!(guest.getattr(file.node).unwrap().size, 0);
}

#[test]
fn appending_is_at_the_end_whoever_wrote_last() {
    let mut guest = Guest::new();
    let (_, handle) = guest.create(ROOT, "log", libc::O_WRONLY | libc::O_APPEND).unwrap();
    guest.write(handle, 0, b"one ", 0).unwrap();
    let mut log = fs_err::OpenOptions::new().append(true).open(guest.host("log")).unwrap();
    std::io::Write::write_all(&mut log, b"two ").unwrap();
    // The guest does not know of it yet.
    guest.write(handle, 4, b"three", 0).unwrap();
    assert_eq!(fs_err::read(guest.host("log")).unwrap(), b"one two three");
}

#[test]
fn attributes_are_set() {
    let mut guest = Guest::new();
    let (file, handle) = guest.create(ROOT, "file", libc::O_RDWR).unwrap();
    let new = SetAttr {
        valid: 1 | 1 << 3 | 1 << 5,
        size: 5 << 30,
        mtime: 1_000_000_000,
        mode: 0o640,
        ..SetAttr::default()
    };
    let told = guest.setattr(file.node, &new).unwrap();
    assert_eq!((told.size, told.mode & 0o7777), (5 << 30, 0o640));
    let host = fs_err::metadata(guest.host("file")).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::mtime(&host), 1_000_000_000);
    let told =
        guest.setattr(file.node, &SetAttr { valid: 1 << 3 | 1 << 6, handle, size: 3, ..SetAttr::default() });
    assert_eq!(told.unwrap().size, 3);
    let negative = SetAttr { valid: 1 << 3, size: u64::MAX, ..SetAttr::default() };
    assert_eq!(guest.setattr(file.node, &negative), Err(libc::EINVAL));
    assert_eq!(guest.setattr(ROOT, &SetAttr { valid: 1 << 3, ..SetAttr::default() }), Err(libc::EISDIR));
    guest.call(op::FALLOCATE, file.node, Body::default().u64(handle).u64(0).u64(8192).u64(0)).unwrap();
    assert_eq!(guest.getattr(file.node).unwrap().size, 8192);
    let statfs = guest.call(op::STATFS, ROOT, &Body::default()).unwrap();
    assert_eq!(statfs.len(), 80);
    assert!(Args::new(&statfs).u64().unwrap() > 0);
}

#[test]
fn a_set_user_id_bit_ends_when_the_guest_says_that_it_does() {
    let mut guest = Guest::new();
    let (file, handle) = guest.create(ROOT, "file", libc::O_RDWR).unwrap();
    let set = |guest: &mut Guest| {
        let new = SetAttr { valid: 1, mode: 0o4755, ..SetAttr::default() };
        assert_eq!(guest.setattr(file.node, &new).unwrap().mode & 0o7777, 0o4755);
    };
    set(&mut guest);
    guest.write(handle, 0, b"x", 4).unwrap();
    assert_eq!(guest.getattr(file.node).unwrap().mode & 0o7777, 0o755);
    set(&mut guest);
    let cut = SetAttr { valid: 1 << 3 | 1 << 11, ..SetAttr::default() };
    assert_eq!(guest.setattr(file.node, &cut).unwrap().mode & 0o7777, 0o755);
}

#[test]
fn ranges_are_copied_and_holes_found() {
    let mut guest = Guest::new();
    fs_err::write(guest.host("from"), "0123456789").unwrap();
    let from = guest.lookup(ROOT, "from").unwrap();
    let source = guest.open(from.node, libc::O_RDONLY).unwrap();
    let (_, target) = guest.create(ROOT, "to", libc::O_WRONLY).unwrap();
    let mut args = Body::default();
    args.u64(source).u64(2).u64(0).u64(target).u64(1).u64(4).u64(0);
    let copied = guest.call(op::COPY_FILE_RANGE, from.node, &args).unwrap();
    assert_eq!(Args::new(&copied).u32(), Ok(4));
    assert_eq!(fs_err::read(guest.host("to")).unwrap(), b"\x002345");
    let seek = |whence: i32| {
        let mut args = Body::default();
        args.u64(source).u64(3).u32(whence.cast_unsigned()).u32(0);
        args
    };
    let hole = guest.call(op::LSEEK, from.node, &seek(libc::SEEK_HOLE)).unwrap();
    assert_eq!(Args::new(&hole).u64(), Ok(10));
    assert_eq!(guest.call(op::LSEEK, from.node, &seek(libc::SEEK_END)), Err(libc::EINVAL));
}

#[test]
fn handles_are_limited() {
    let mut guest = Guest::new();
    let (file, _) = guest.create(ROOT, "file", libc::O_RDWR).unwrap();
    let more: Vec<_> = (1..LIMITS.handles).map(|_| guest.open(file.node, libc::O_RDONLY).unwrap()).collect();
    assert_eq!(guest.open(file.node, libc::O_RDONLY), Err(libc::ENFILE));
    assert_eq!(guest.create(ROOT, "another", libc::O_RDWR).map(drop), Err(libc::ENFILE));
    assert!(!guest.host("another").exists());
    guest.call(op::RELEASE, file.node, Body::default().u64(more[0]).pad(24)).unwrap();
    guest.open(file.node, libc::O_RDONLY).unwrap();
}

#[test]
fn users_attributes_only() {
    let mut guest = Guest::new();
    let (file, _) = guest.create(ROOT, "file", libc::O_RDWR).unwrap();
    let mut set = |name: &str, value: &[u8]| {
        let mut args = Body::default();
        args.u32(u32::try_from(value.len()).unwrap()).u32(0).bytes(name.as_bytes()).bytes(&[0]).bytes(value);
        guest.call(op::SETXATTR, file.node, &args).map(drop)
    };
    if set("user.note", b"value") == Err(libc::EOPNOTSUPP) {
        // A file system without them.
        return;
    }
    for name in ["security.capability", "trusted.x", "system.posix_acl_access", "user.", "users"] {
        assert_eq!(set(name, b"x"), Err(libc::EOPNOTSUPP), "{name}");
    }
    let mut get = |name: &str, size: u32| {
        let mut args = Body::default();
        args.u32(size).u32(0);
        guest.named(op::GETXATTR, file.node, args, &[name])
    };
    assert_eq!(Args::new(&get("user.note", 0).unwrap()).u32(), Ok(5));
    assert_eq!(get("user.note", 4), Err(libc::ERANGE));
    assert_eq!(get("user.note", 100).unwrap(), b"value");
    assert_eq!(get("security.capability", 100), Err(libc::ENODATA));
    assert_eq!(
        guest.call(op::LISTXATTR, file.node, Body::default().u32(100).u32(0)).unwrap(),
        b"user.note\0"
    );
    guest.named(op::REMOVEXATTR, file.node, Body::default(), &["user.note"]).unwrap();
    assert_eq!(guest.call(op::LISTXATTR, file.node, Body::default().u32(100).u32(0)).unwrap(), b"");
}
