//! Every operation within the monitor's jail: a system call that its filter for this kind of thread does not know would
//! end the process.

use std::os::unix::fs::{PermissionsExt, chown};
use std::process::Command;
use std::sync::mpsc::channel;
use std::time::Duration;

use super::*;
use crate::fuse::identity;
use crate::fuse::watch::{Changes, Kind, Watch};
use crate::jail::{self, Access, Place, Rules};
use crate::worker::ThreadKind;

/// Set in a child, to whose the folder is.
const CHILD: &str = "POSADA_TEST_FUSE_JAIL";
const OTHER: (u32, u32) = (54_321, 54_322);

fn in_child(owner: &str) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "fuse::tests::jailed::is_a_child", "--nocapture"]).env(CHILD, owner);
    let output = command.env_remove("RUST_BACKTRACE").output().unwrap();
    assert_eq!(
        output.status.code(),
        Some(7),
        "{}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
}

/// The child's side; does nothing in an ordinary run.
#[test]
fn is_a_child() {
    let Ok(owner) = std::env::var(CHILD) else { return };
    let owners = if owner == "other" { Owners { host: OTHER, guest: (1000, 1000) } } else { own() };
    let mut guest = Guest::with(owners, false);
    fs_err::set_permissions(guest.temporary.path(), PermissionsExt::from_mode(0o755)).unwrap();
    fs_err::create_dir(guest.host("private")).unwrap();
    for path in [guest.host("private"), guest.host(".")] {
        if owner == "other" {
            chown(&path, Some(OTHER.0), Some(OTHER.1)).unwrap();
        }
        fs_err::set_permissions(path, PermissionsExt::from_mode(0o700)).unwrap();
    }
    let root = Root::open(&guest.host(".")).unwrap();
    let made = guest.host("private/made");
    let rules = Rules {
        places: vec![
            Place { path: guest.host("."), access: Access::Write },
            Place { path: "/proc".into(), access: Access::Read },
        ],
        capabilities: vec!["CAP_SETUID".into(), "CAP_SETGID".into()],
    };
    jail::enter(&rules).unwrap();
    // As each boot of a machine does, with the folder that was pinned outside.
    let folder = Folder { tag: "t".into(), root, read_only: false, owners, changes: None };
    guest.server = Server::new(Arc::new(Share::open(&folder, LIMITS).unwrap())).unwrap();
    let (sender, changes) = channel();
    let watch =
        Watch::start(Arc::clone(&guest.server.share), 10, move |changes| sender.send(changes).unwrap());
    let watch = watch.unwrap();
    watch.wait();
    let work = move || {
        identity::assume(&owners).unwrap();
        fs_err::write(made, "").unwrap();
        everything(guest);
    };
    jail::spawn(ThreadKind::Fs, "confined", work).unwrap().join().unwrap();
    let told: Changes = changes.recv_timeout(Duration::from_secs(20)).unwrap();
    assert!(told.paths.contains(&("private/made".into(), Kind::Created)), "{told:?}");
    drop(watch);
    std::process::exit(7);
}

fn everything(mut guest: Guest) {
    let (file, handle) = guest.create(ROOT, "file", libc::O_RDWR).unwrap();
    let (_, other) = guest.create(ROOT, "other", libc::O_RDWR).unwrap();
    assert_eq!(guest.write(handle, 0, b"hello", 4), Ok(5));
    assert_eq!(guest.read(handle, 0, 10).unwrap(), b"hello");
    let dir = guest.mkdir(ROOT, "dir").unwrap();
    let new = SetAttr {
        valid: 0b10_1111,
        size: 100,
        mode: 0o600,
        uid: 1000,
        gid: 1000,
        mtime: 5,
        ..SetAttr::default()
    };
    guest.setattr(file.node, &new).unwrap();
    let none = Body::default;
    let mut named = |opcode, node, args: &mut Body, names: &[&str]| {
        guest
            .named(opcode, node, std::mem::take(args), names)
            .unwrap_or_else(|error| panic!("{opcode}: {error}"))
    };
    let soft = entry(&named(op::SYMLINK, ROOT, &mut none(), &["soft", "target"]));
    named(op::LINK, ROOT, none().u64(file.node), &["hard"]);
    named(op::RENAME2, ROOT, none().u64(ROOT).u64(1), &["hard", "moved"]);
    named(op::MKNOD, ROOT, none().u32(libc::S_IFIFO | 0o600).pad(16), &["pipe"]);
    named(op::UNLINK, ROOT, &mut none(), &["moved"]);
    let mut call = |opcode, node, args: &mut Body| {
        guest.call(opcode, node, args).unwrap_or_else(|error| panic!("{opcode}: {error}"))
    };
    call(op::READLINK, soft.node, &mut none());
    call(op::ACCESS, file.node, none().u32(4).u32(0));
    call(op::STATFS, ROOT, &mut none());
    call(op::FSYNC, file.node, none().u64(handle).u64(0));
    call(op::FSYNC, file.node, none().u64(handle).u64(1));
    call(op::FALLOCATE, file.node, none().u64(handle).u64(0).u64(4096).u64(0));
    call(op::LSEEK, file.node, none().u64(handle).u64(0).u64(3));
    call(op::COPY_FILE_RANGE, file.node, none().u64(handle).u64(0).u64(0).u64(other).u64(0).u64(5).u64(0));
    let opened = Args::new(&call(op::OPENDIR, ROOT, none().u64(0))).u64().unwrap();
    for opcode in [op::READDIR, op::READDIRPLUS] {
        assert!(!call(opcode, ROOT, none().u64(opened).u64(0).u32(4096).pad(40)).is_empty());
    }
    call(op::FSYNCDIR, ROOT, none().u64(opened).u64(0));
    call(op::RELEASEDIR, ROOT, none().u64(opened).pad(24));
    call(op::GETLK, file.node, none().u64(handle).u64(1).u64(0).u64(9).u64(1).u64(0));
    call(op::SETLK, file.node, none().u64(handle).u64(1).u64(0).u64(9).u64(1).u64(0));
    let (answer, _) =
        guest.send(op::SETLKW, file.node, none().u64(handle).u64(2).u64(0).u64(9).u64(1).u64(0), 16);
    let Answer::Waits(wait) = answer else { panic!("{answer:?}") };
    guest.call(op::FLUSH, file.node, none().u64(handle).u64(0).u64(1)).unwrap();
    assert_eq!(locks::ended(&mut guest), (wait, 0));
    // What a file system may not have.
    for (opcode, args) in [
        (op::SETXATTR, none().u32(1).u32(0).bytes(b"user.x\0y")),
        (op::GETXATTR, none().u32(9).u32(0).bytes(b"user.x\0")),
        (op::LISTXATTR, none().u32(9).u32(0)),
        (op::REMOVEXATTR, none().bytes(b"user.x\0")),
    ] {
        let result = guest.call(opcode, file.node, args);
        assert!(result.is_ok() || result == Err(libc::EOPNOTSUPP), "{opcode}: {result:?}");
    }
    guest.named(op::RMDIR, ROOT, none(), &["dir"]).unwrap();
    guest.send(op::FORGET, dir.node, none().u64(1), 0);
    guest.call(op::DESTROY, 0, &none()).unwrap();
}

#[test]
fn every_operation_is_allowed_in_the_jail() {
    in_child("own");
}

#[test]
fn root_acts_as_the_owner_in_the_jail() {
    if rustix::process::geteuid().is_root() {
        in_child("other");
    }
}
