use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::thread;

use super::*;
use crate::fuse::identity;

/// Some ordinary user of the host, of whom nobody needs to know.
const SOMEBODY: Owners = Owners { host: (54_321, 54_322), guest: (1000, 1000) };

#[test]
fn the_owner_is_the_login_user() {
    let mut guest = Guest::new();
    assert_eq!(guest.getattr(ROOT).unwrap().owner, (1000, 1000));
    let (file, _) = guest.create(ROOT, "file", libc::O_RDWR).unwrap();
    assert_eq!(file.owner, (1000, 1000));
    let give = |uid, gid| SetAttr { valid: 1 << 1 | 1 << 2, uid, gid, ..SetAttr::default() };
    assert_eq!(guest.setattr(file.node, &give(1000, 1000)).unwrap().owner, (1000, 1000));
    assert_eq!(guest.setattr(file.node, &give(0, 0)), Err(libc::EPERM));
    assert_eq!(guest.setattr(file.node, &give(33, 1000)), Err(libc::EPERM));
}

/// A guest of a monitor of root's, whose folder is [`SOMEBODY`]'s; in a thread of its own, as its identity changes.
fn as_somebody(test: impl FnOnce(Guest) + Send + 'static) {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let guest = Guest::with(SOMEBODY, false);
    fs_err::set_permissions(guest.temporary.path(), PermissionsExt::from_mode(0o755)).unwrap();
    chown(guest.host("."), Some(54_321), Some(54_322)).unwrap();
    thread::spawn(move || {
        identity::assume(&SOMEBODY).unwrap();
        test(guest);
    })
    .join()
    .unwrap();
    // Others of this process are who they were.
    assert!(rustix::process::geteuid().is_root());
}

#[test]
fn root_acts_as_the_owner() {
    as_somebody(|mut guest| {
        let (file, handle) = guest.create(ROOT, "file", libc::O_RDWR).unwrap();
        guest.write(handle, 0, b"x", 0).unwrap();
        let dir = guest.mkdir(ROOT, "dir").unwrap();
        assert_eq!((file.owner, dir.owner), ((1000, 1000), (1000, 1000)));
        for name in ["file", "dir"] {
            let host = fs_err::metadata(guest.host(name)).unwrap();
            assert_eq!((host.uid(), host.gid()), SOMEBODY.host, "{name}");
        }
        let mtime = SetAttr { valid: 1 << 5, mtime: 1, ..SetAttr::default() };
        guest.setattr(file.node, &mtime).unwrap();
        let mut link = Body::default();
        link.u64(file.node);
        guest.named(op::LINK, dir.node, link, &["hard"]).unwrap();
    });
}

#[test]
fn the_owners_rights_end_where_they_do_on_the_host() {
    as_somebody(|mut guest| {
        let root = thread::scope(|_| guest.host("roots"));
        // Made by root, who this thread is no more but for files.
        let (made, made_in) = (root.clone(), guest.temporary.path().to_owned());
        assert!(fs_err::write(&made, "x").is_ok());
        assert!(fs_err::write(made_in.join("more"), "x").is_err(), "the folder around it is root's");
        let (file, _) = guest.create(ROOT, "secret", libc::O_RDWR).unwrap();
        let mode = SetAttr { valid: 1, mode: 0, ..SetAttr::default() };
        guest.setattr(file.node, &mode).unwrap();
        assert_eq!(guest.open(file.node, libc::O_RDONLY), Err(libc::EACCES));
    });
}

#[test]
fn files_of_others_are_nobodys() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let mut guest = Guest::with(SOMEBODY, false);
    fs_err::set_permissions(guest.temporary.path(), PermissionsExt::from_mode(0o755)).unwrap();
    chown(guest.host("."), Some(54_321), Some(54_322)).unwrap();
    fs_err::write(guest.host("roots"), "x").unwrap();
    fs_err::set_permissions(guest.host("roots"), PermissionsExt::from_mode(0o600)).unwrap();
    thread::spawn(move || {
        identity::assume(&SOMEBODY).unwrap();
        let file = guest.lookup(ROOT, "roots").unwrap();
        assert_eq!(file.owner, (65_534, 65_534));
        assert_eq!(guest.open(file.node, libc::O_RDONLY), Err(libc::EACCES));
        let take = SetAttr { valid: 1 << 1, uid: 1000, ..SetAttr::default() };
        assert_eq!(guest.setattr(file.node, &take), Err(libc::EPERM));
    })
    .join()
    .unwrap();
}

#[test]
fn files_are_made_with_the_mode_the_guest_asks_for() {
    let mut guest = Guest::new();
    assert_ne!(guest.server.share.masked, 0, "a test that needs a umask");
    let mut args = Body::default();
    args.u32(0o777).u32(0);
    let dir = entry(&guest.named(op::MKDIR, ROOT, args, &["dir"]).unwrap());
    assert_eq!(dir.mode & 0o7777, 0o777);
    let mut args = Body::default();
    args.u32(libc::O_RDWR.cast_unsigned()).u32(0o666).u64(0);
    let file = entry(&guest.named(op::CREATE, ROOT, args, &["file"]).unwrap());
    assert_eq!(file.mode & 0o7777, 0o666);
    assert_eq!(fs_err::metadata(guest.host("file")).unwrap().mode() & 0o7777, 0o666);
}

#[test]
fn a_read_only_folder_is_changed_by_nothing() {
    let mut guest = Guest::with(own(), true);
    fs_err::write(guest.host("file"), "hello").unwrap();
    let file = guest.lookup(ROOT, "file").unwrap();
    let handle = guest.open(file.node, libc::O_RDONLY).unwrap();
    assert_eq!(guest.read(handle, 0, 10).unwrap(), b"hello");
    let none = Body::default;
    let mut results = vec![
        ("open", guest.open(file.node, libc::O_RDWR).map(drop)),
        ("truncate", guest.open(file.node, libc::O_RDONLY | libc::O_TRUNC).map(drop)),
        ("create", guest.create(ROOT, "new", libc::O_RDWR).map(drop)),
        ("mkdir", guest.mkdir(ROOT, "new").map(drop)),
        ("write", guest.write(handle, 0, b"x", 0).map(drop)),
        ("setattr", guest.setattr(file.node, &SetAttr { valid: 1, ..SetAttr::default() }).map(drop)),
        ("access", guest.call(op::ACCESS, file.node, none().u32(2).u32(0)).map(drop)),
        ("fallocate", guest.call(op::FALLOCATE, ROOT, none().u64(handle).u64(0).u64(9).u64(0)).map(drop)),
        ("copy", guest.call(op::COPY_FILE_RANGE, ROOT, none().u64(handle).pad(56)).map(drop)),
    ];
    let mut named = |what, opcode, args: &mut Body, names: &[&str]| {
        results.push((what, guest.named(opcode, ROOT, std::mem::take(args), names).map(drop)));
    };
    named("mknod", op::MKNOD, none().u32(libc::S_IFREG).pad(16), &["new"]);
    named("symlink", op::SYMLINK, &mut none(), &["new", "x"]);
    named("link", op::LINK, none().u64(file.node), &["new"]);
    named("unlink", op::UNLINK, &mut none(), &["file"]);
    named("rmdir", op::RMDIR, &mut none(), &["file"]);
    named("rename", op::RENAME, none().u64(ROOT), &["file", "new"]);
    named("rename2", op::RENAME2, none().u64(ROOT).u64(0), &["file", "new"]);
    named("setxattr", op::SETXATTR, none().u32(0).u32(0), &["user.x"]);
    named("removexattr", op::REMOVEXATTR, &mut none(), &["user.x"]);
    for (what, result) in results {
        assert_eq!(result, Err(libc::EROFS), "{what}");
    }
    assert_eq!(fs_err::read_dir(guest.host(".")).unwrap().count(), 1);
    assert_eq!(fs_err::read(guest.host("file")).unwrap(), b"hello");
}
