use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};

use super::*;

#[test]
fn what_the_guest_makes_is_on_the_host_and_the_other_way() {
    let mut guest = Guest::new();
    let dir = guest.mkdir(ROOT, "dir").unwrap();
    assert!(guest.host("dir").is_dir());
    fs_err::write(guest.host("dir/file"), "hello").unwrap();
    let file = guest.lookup(dir.node, "file").unwrap();
    assert_eq!((file.size, file.mode & libc::S_IFMT), (5, libc::S_IFREG));
    assert_eq!(file.ino, fs_err::metadata(guest.host("dir/file")).unwrap().ino());
    assert_eq!(guest.lookup(dir.node, "file").unwrap(), file);
    assert_eq!(guest.lookup(dir.node, "none"), Err(libc::ENOENT));
    assert_eq!(guest.lookup(file.node, "x"), Err(libc::ENOTDIR));

    let mut args = Body::default();
    args.u64(file.node);
    let link = entry(&guest.named(op::LINK, ROOT, args, &["hard"]).unwrap());
    assert_eq!((link.node, link.links), (file.node, 2));

    let made = entry(&guest.named(op::SYMLINK, ROOT, Body::default(), &["soft", "../anywhere"]).unwrap());
    assert_eq!(guest.call(op::READLINK, made.node, &Body::default()).unwrap(), b"../anywhere");
    let mut args = Body::default();
    args.u64(made.node);
    let again = entry(&guest.named(op::LINK, dir.node, args, &["soft2"]).unwrap());
    assert_eq!(again.node, made.node);
    assert_eq!(fs_err::read_link(guest.host("dir/soft2")).unwrap(), Path::new("../anywhere"));

    let mut args = Body::default();
    args.u64(ROOT).u32(1).u32(0);
    let names = ["file", "hard"];
    assert_eq!(guest.named(op::RENAME2, dir.node, args, &names), Err(libc::EEXIST));
    let mut args = Body::default();
    args.u64(ROOT);
    guest.named(op::RENAME, dir.node, args, &["file", "moved"]).unwrap();
    assert_eq!(fs_err::read(guest.host("moved")).unwrap(), b"hello");

    assert_eq!(guest.named(op::RMDIR, ROOT, Body::default(), &["dir"]), Err(libc::ENOTEMPTY));
    guest.named(op::UNLINK, dir.node, Body::default(), &["soft2"]).unwrap();
    guest.named(op::RMDIR, ROOT, Body::default(), &["dir"]).unwrap();
    assert!(!guest.host("dir").exists());
}

#[test]
fn pipes_are_made_and_devices_are_not() {
    let mut guest = Guest::new();
    let node = |kind: u32| {
        let mut args = Body::default();
        args.u32(kind | 0o600).u32(0x0103).u64(0);
        args
    };
    let pipe = entry(&guest.named(op::MKNOD, ROOT, node(libc::S_IFIFO), &["pipe"]).unwrap());
    assert!(fs_err::metadata(guest.host("pipe")).unwrap().file_type().is_fifo());
    // Nobody would ever open the other end.
    assert_eq!(guest.open(pipe.node, libc::O_RDONLY), Err(libc::EINVAL));
    assert_eq!(guest.create(ROOT, "pipe", libc::O_WRONLY).map(drop), Err(libc::EINVAL));
    for kind in [libc::S_IFCHR, libc::S_IFBLK] {
        assert_eq!(guest.named(op::MKNOD, ROOT, node(kind), &["device"]), Err(libc::EPERM));
    }
    guest.named(op::MKNOD, ROOT, node(libc::S_IFREG), &["file"]).unwrap();
    assert!(guest.host("file").is_file());
}

/// All names of a directory, read `size` bytes at a time.
fn list(guest: &mut Guest, node: u64, opcode: u32, size: u32) -> Vec<(String, u64)> {
    let handle = Args::new(&guest.call(op::OPENDIR, node, Body::default().u64(0)).unwrap()).u64().unwrap();
    let (mut names, mut offset) = (Vec::new(), 0);
    loop {
        let mut args = Body::default();
        args.u64(handle).u64(offset).u32(size).pad(40);
        let bytes = guest.call(opcode, node, &args).unwrap();
        assert!(bytes.len() <= size as usize);
        if bytes.is_empty() {
            break;
        }
        let mut at = 0;
        while at < bytes.len() {
            let mut number = 0;
            if opcode == op::READDIRPLUS {
                number = Args::new(&bytes[at..]).u64().unwrap();
                at += 128;
            }
            let mut entry = Args::new(&bytes[at..]);
            entry.skip(8).unwrap();
            offset = entry.u64().unwrap();
            let len = entry.u32().unwrap() as usize;
            entry.skip(4).unwrap();
            names.push((String::from_utf8(entry.bytes(len).unwrap().to_vec()).unwrap(), number));
            at += (24 + len).next_multiple_of(8);
        }
    }
    guest.call(op::RELEASEDIR, node, Body::default().u64(handle).pad(24)).unwrap();
    names.sort();
    names
}

#[test]
fn a_listing_is_complete_in_pieces_of_any_size() {
    let mut guest = Guest::new();
    let mut expected: Vec<String> = (0..300).map(|number| format!("file-{number:03}")).collect();
    for name in &expected {
        fs_err::write(guest.host(name), "").unwrap();
    }
    expected.extend([".".to_owned(), "..".to_owned()]);
    expected.sort();
    for size in [40, 100, 4096, 100_000] {
        let names: Vec<_> =
            list(&mut guest, ROOT, op::READDIR, size).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, expected, "by {size}");
    }
    let plus = list(&mut guest, ROOT, op::READDIRPLUS, 4096);
    assert_eq!(plus.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>(), expected);
    // As many are known as may be; the others are listed all the same.
    assert_eq!(plus.iter().filter(|(_, number)| *number > 0).count(), LIMITS.inodes - 1);
    assert_eq!(guest.lookup(ROOT, "file-299").map(drop).err(), plus[301].1.eq(&0).then_some(libc::ENFILE));
    for (_, number) in plus.into_iter().filter(|(_, number)| *number > 0) {
        let (answer, _) = guest.send(op::FORGET, number, Body::default().u64(2), 0);
        assert_eq!(answer, Answer::Silent);
    }
    assert_eq!(guest.server.inodes.len(), 1);
    guest.lookup(ROOT, "file-299").unwrap();
}

#[test]
fn what_is_forgotten_is_stale_and_numbers_are_new() {
    let mut guest = Guest::new();
    fs_err::write(guest.host("file"), "").unwrap();
    let first = guest.lookup(ROOT, "file").unwrap();
    guest.lookup(ROOT, "file").unwrap();
    guest.send(op::FORGET, first.node, Body::default().u64(1), 0);
    guest.getattr(first.node).unwrap();
    let mut batch = Body::default();
    batch.u32(2).u32(0).u64(first.node).u64(1).u64(ROOT).u64(99);
    guest.send(op::BATCH_FORGET, 0, &batch, 0);
    assert_eq!(guest.getattr(first.node), Err(libc::ESTALE));
    guest.getattr(ROOT).unwrap();
    assert_ne!(guest.lookup(ROOT, "file").unwrap().node, first.node);
}

#[test]
fn a_known_inode_is_itself_whatever_becomes_of_its_name() {
    let mut guest = Guest::new();
    fs_err::write(guest.host("file"), "old").unwrap();
    let old = guest.lookup(ROOT, "file").unwrap();
    fs_err::rename(guest.host("file"), guest.host("elsewhere")).unwrap();
    symlink("/etc/passwd", guest.host("file")).unwrap();
    let handle = guest.open(old.node, libc::O_RDONLY).unwrap();
    assert_eq!(guest.read(handle, 0, 100).unwrap(), b"old");
    fs_err::remove_file(guest.host("elsewhere")).unwrap();
    assert_eq!(guest.read(handle, 0, 100).unwrap(), b"old");
    assert_eq!(guest.getattr(old.node).unwrap().links, 0);
}
