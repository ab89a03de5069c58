use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::*;

#[test]
fn no_name_leads_out() {
    let mut guest = Guest::new();
    let dir = guest.mkdir(ROOT, "dir").unwrap();
    for name in ["..", ".", "", "../outside", "dir/..", "/etc/passwd", "/", "dir/"] {
        assert_eq!(guest.lookup(ROOT, name).map(drop), Err(libc::EINVAL), "{name:?}");
        assert_eq!(guest.lookup(dir.node, name).map(drop), Err(libc::EINVAL), "{name:?}");
        assert_eq!(guest.create(ROOT, name, libc::O_RDWR).map(drop), Err(libc::EINVAL), "{name:?}");
        assert_eq!(guest.mkdir(ROOT, name).map(drop), Err(libc::EINVAL), "{name:?}");
        for opcode in [op::UNLINK, op::RMDIR] {
            assert_eq!(guest.named(opcode, ROOT, Body::default(), &[name]), Err(libc::EINVAL), "{name:?}");
        }
        let mut args = Body::default();
        args.u64(dir.node);
        assert_eq!(guest.named(op::RENAME, ROOT, args, &["dir", name]), Err(libc::EINVAL), "{name:?}");
    }
    assert_eq!(fs_err::read(guest.temporary.path().join("outside")).unwrap(), b"secret");
}

#[test]
fn symbolic_links_are_the_guests_to_follow() {
    let mut guest = Guest::new();
    let outside = guest.temporary.path().join("outside");
    symlink(&outside, guest.host("absolute")).unwrap();
    symlink("../outside", guest.host("relative")).unwrap();
    symlink(guest.temporary.path(), guest.host("up")).unwrap();
    symlink("/proc/self/root", guest.host("magic")).unwrap();
    for name in ["absolute", "relative", "up", "magic"] {
        let link = guest.lookup(ROOT, name).unwrap();
        assert_eq!(link.mode & libc::S_IFMT, libc::S_IFLNK);
        assert!(guest.open(link.node, libc::O_RDONLY).is_err());
        assert!(guest.call(op::OPENDIR, link.node, Body::default().u64(0)).is_err());
        assert_eq!(guest.lookup(link.node, "outside").map(drop), Err(libc::ENOTDIR));
        for flags in [libc::O_RDWR, libc::O_RDWR | libc::O_TRUNC] {
            assert!(guest.create(ROOT, name, flags).is_err());
        }
        let new = SetAttr { valid: 1 << 3, ..SetAttr::default() };
        assert!(guest.setattr(link.node, &new).is_err());
        let new = SetAttr { valid: 1, mode: 0o777, ..SetAttr::default() };
        assert_eq!(guest.setattr(link.node, &new), Err(libc::EOPNOTSUPP));
        // The times of the link itself.
        let new = SetAttr { valid: 1 << 5, mtime: 5, ..SetAttr::default() };
        guest.setattr(link.node, &new).unwrap();
        assert!(guest.mkdir(link.node, "x").is_err());
    }
    assert_eq!(fs_err::read(&outside).unwrap(), b"secret");
    let mtime = std::os::unix::fs::MetadataExt::mtime(&fs_err::metadata(&outside).unwrap());
    assert_ne!(mtime, 5);
}

/// While a thread on the host exchanges `inner` with a link that leads out, the guest reads, makes and removes below it.
#[test]
fn a_race_with_the_host_leads_nowhere() {
    let mut guest = Guest::new();
    let outside = guest.temporary.path().join("elsewhere");
    fs_err::create_dir(&outside).unwrap();
    fs_err::write(outside.join("file"), "secret").unwrap();
    fs_err::create_dir(guest.host("inner")).unwrap();
    fs_err::write(guest.host("inner/file"), "inside").unwrap();
    symlink(&outside, guest.host("trap")).unwrap();
    let (inner, trap, stop) = (guest.host("inner"), guest.host("trap"), Arc::new(AtomicBool::new(false)));
    let stopped = Arc::clone(&stop);
    let swapper = thread::spawn(move || {
        while !stopped.load(Ordering::Relaxed) {
            renameat_with(CWD, &inner, CWD, &trap, RenameFlags::EXCHANGE).unwrap();
        }
    });
    let mut seen = 0;
    for _ in 0..2000 {
        let Ok(found) = guest.lookup(ROOT, "inner") else { continue };
        if let Ok(file) = guest.lookup(found.node, "file") {
            let handle = guest.open(file.node, libc::O_RDONLY).unwrap();
            assert_eq!(guest.read(handle, 0, 100).unwrap(), b"inside");
            guest.call(op::RELEASE, file.node, Body::default().u64(handle).pad(24)).unwrap();
            seen += 1;
        }
        if let Ok((_, handle)) = guest.create(found.node, "made", libc::O_RDWR) {
            guest.call(op::RELEASE, ROOT, Body::default().u64(handle).pad(24)).unwrap();
        }
        let _ = guest.named(op::UNLINK, found.node, Body::default(), &["made"]);
    }
    stop.store(true, Ordering::Relaxed);
    swapper.join().unwrap();
    assert!(seen > 0);
    let names: Vec<_> = fs_err::read_dir(&outside).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["file"]);
}

#[test]
fn a_folder_that_is_none_is_refused() {
    let guest = Guest::new();
    for path in [guest.temporary.path().join("outside"), guest.host("none")] {
        assert!(Root::open(&path).is_err());
    }
}
