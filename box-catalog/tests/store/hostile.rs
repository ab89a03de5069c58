//! Archives that mean harm, or are none.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use libtest_mimic::Trial;
use posada_box_catalog::{BoxError, Refusal};
use posada_provider_api::{Fault, FaultKind};
use tar::{Builder, EntryType, Header};

use crate::support::{World, run, trial, write};

pub fn trials() -> Vec<Trial> {
    vec![
        trial("what_is_no_archive_is_told_for_what_it_is", no_archive),
        trial("an_archive_without_an_init_is_no_box", no_init),
        trial("a_truncated_or_damaged_archive_leaves_nothing", truncated),
        trial("entries_that_lead_out_are_refused", leads_out),
        trial("symbolic_links_lead_nowhere_outside", through_symlinks),
        trial("hard_links_reach_nothing_outside", hard_links),
        trial("device_nodes_are_left_out", devices),
        trial("absurd_sizes_are_refused_before_they_are_written", absurd),
        trial("later_entries_win_and_never_break_out", repeated),
        trial("a_full_disk_is_told_and_leaves_the_store_as_it_was", full_disk),
    ]
}

/// An archive with the root file system of a box and `more` after it.
fn archive(world: &World, name: &str, more: impl FnOnce(&mut Builder<File>)) -> PathBuf {
    let root = world.rootfs(&format!("{name}.d"), name);
    let path = world.path(name);
    let mut builder = Builder::new(File::create(&path).unwrap());
    builder.follow_symlinks(false);
    builder.append_dir_all(".", root).unwrap();
    more(&mut builder);
    builder.into_inner().unwrap();
    path
}

/// Appends an entry with any path and link target whatever.
fn append(builder: &mut Builder<File>, kind: EntryType, path: &str, link: &str, data: &[u8]) {
    let mut header = Header::new_gnu();
    header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
    header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(0o755);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(data.len() as u64);
    header.set_cksum();
    builder.append(&header, data).unwrap();
}

fn no_archive() {
    let world = World::new();
    let disk = world.path("disk.qcow2");
    write(&disk, [b"QFI\xfb".as_slice(), &[0; 4096]].concat());
    let refusal = world.refused(&disk);
    assert!(matches!(&refusal, Refusal::Disk { what, .. } if what.contains("version 0")), "{refusal}");
    let page = world.path("page");
    write(&page, "<html>not found</html>");
    assert_eq!(world.refused(&page), Refusal::NotAnArchive("a page of HTML or XML".to_owned()));
    let noise = world.path("noise");
    write(&noise, [7; 100_000]);
    assert_eq!(world.refused(&noise), Refusal::NotAnArchive("something else".to_owned()));
    for (name, bytes) in [("nothing", vec![]), ("zeros", vec![0; 10240])] {
        write(&world.path(name), bytes);
        assert_eq!(world.refused(&world.path(name)), Refusal::Empty, "{name}");
    }
    let inner = world.path("noise.gz");
    run(Command::new("sh").current_dir(world.dir.path()).args(["-c", "gzip -k noise"]));
    assert!(matches!(world.refused(&inner), Refusal::Corrupt(_)));
    assert!(matches!(world.refused(world.dir.path()), Refusal::NotAnArchive(_)), "a directory");
    let pipe = world.path("pipe");
    run(Command::new("mkfifo").arg(&pipe));
    assert!(
        matches!(world.refused(&pipe), Refusal::NotAnArchive(_)),
        "nobody writes to it, and nobody waits"
    );
    let error = world.add(&world.path("missing.tar"), "bad", "1").unwrap_err();
    assert!(matches!(error, BoxError::FileMissing(_)), "{error}");
    assert_eq!(error.kind(), FaultKind::Box);
}

fn no_init() {
    let world = World::new();
    write(&world.path("d/etc/passwd"), "root:x:0:0::/:/bin/sh\n");
    let path = world.path("a.tar");
    run(Command::new("tar").arg("-cf").arg(&path).arg("-C").arg(world.path("d")).arg("."));
    assert!(matches!(world.refused(&path), Refusal::NoRootfs(_)));
    // A link that leads nowhere inside is no init, whatever there is outside.
    let path = archive(&world, "b.tar", |builder| {
        append(builder, EntryType::Symlink, "sbin/init", "/bin/sh", b"");
    });
    assert!(matches!(world.refused(&path), Refusal::NoRootfs(_)));
}

fn truncated() {
    let world = World::new();
    let whole = world.archive("a.tar", "whole", &[]);
    let script = "gzip -k a.tar; xz -k a.tar; zstd -q a.tar";
    run(Command::new("sh").current_dir(world.dir.path()).args(["-ec", script]));
    for name in ["a.tar", "a.tar.gz", "a.tar.xz", "a.tar.zst"] {
        let bytes = std::fs::read(world.path(name)).unwrap();
        // Without the zeros that only fill up a plain archive's last record.
        let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
        for part in [5, 50, 99] {
            let cut = world.path("cut");
            write(&cut, &bytes[..end * part / 100]);
            let refusal = world.refused(&cut);
            assert_eq!(refusal, Refusal::Truncated, "{name} at {part} %");
        }
        if name != "a.tar" {
            let mut bytes = bytes;
            let middle = bytes.len() / 2;
            bytes[middle] ^= 0x55;
            bytes[middle + 1] ^= 0x55;
            let bent = world.path("bent");
            write(&bent, bytes);
            let refusal = world.refused(&bent);
            assert!(matches!(refusal, Refusal::Corrupt(_) | Refusal::Truncated), "{name}: {refusal}");
        }
    }
    let mut bytes = std::fs::read(&whole).unwrap();
    bytes[512 + 20] ^= 1;
    write(&world.path("bent"), bytes);
    assert!(matches!(world.refused(&world.path("bent")), Refusal::Corrupt(_)));
}

fn leads_out() {
    let world = World::new();
    for (number, path) in
        ["../evil", "etc/../../evil", "/evil", "..", "./../../../../tmp/evil"].iter().enumerate()
    {
        let path = archive(&world, &format!("{number}.tar"), |builder| {
            append(builder, EntryType::Regular, path, "", b"evil");
        });
        assert!(matches!(world.refused(&path), Refusal::LeadsOut(_)), "{}", path.display());
    }
    assert!(!world.path("evil").exists() && !Path::new("/evil").exists());
}

fn through_symlinks() {
    let world = World::new();
    let outside = world.path("outside");
    write(&outside.join("victim"), "untouched");
    let target = outside.to_str().unwrap();
    for (number, target) in
        [target, "../../../../../../../../../../../../../../../..", "/"].iter().enumerate()
    {
        let path = archive(&world, &format!("{number}.tar"), |builder| {
            append(builder, EntryType::Symlink, "etc/way", target, b"");
            append(builder, EntryType::Regular, "etc/way/victim", "", b"touched");
        });
        // As in a chroot: the link is resolved inside of the tree, where there may be such a place.
        match world.add(&path, "links", &number.to_string()) {
            Ok(stored) => {
                assert_eq!(std::fs::read(stored.rootfs().unwrap().join("victim")).unwrap(), b"touched")
            }
            Err(error) => assert!(matches!(error, BoxError::NotABox { .. }), "{error}"),
        }
    }
    assert_eq!(std::fs::read(outside.join("victim")).unwrap(), b"untouched");
    assert!(!Path::new("/victim").exists());
    // Over a link to a file outside: the link is replaced, not followed.
    let path = archive(&world, "over.tar", |builder| {
        append(builder, EntryType::Symlink, "etc/victim", outside.join("victim").to_str().unwrap(), b"");
        append(builder, EntryType::Regular, "etc/victim", "", b"touched");
    });
    let stored = world.add(&path, "over", "1").unwrap();
    assert_eq!(std::fs::read(stored.rootfs().unwrap().join("etc/victim")).unwrap(), b"touched");
    assert_eq!(std::fs::read(outside.join("victim")).unwrap(), b"untouched");
}

fn hard_links() {
    let world = World::new();
    write(&world.path("victim"), "untouched");
    let up = "../../../../victim";
    let path = archive(&world, "a.tar", |builder| append(builder, EntryType::Link, "etc/hard", up, b""));
    assert!(matches!(world.refused(&path), Refusal::LeadsOut(_)));
    let absolute = world.path("victim");
    for (name, target) in [("b.tar", absolute.to_str().unwrap()), ("c.tar", "etc/nothing")] {
        let path = archive(&world, name, |builder| append(builder, EntryType::Link, "etc/hard", target, b""));
        assert!(matches!(world.refused(&path), Refusal::Absurd { .. }), "{target}");
    }
    let path = archive(&world, "d.tar", |builder| append(builder, EntryType::Link, "etc/hard", "etc", b""));
    assert!(matches!(world.refused(&path), Refusal::Absurd { .. }), "a link to a directory");
    let path =
        archive(&world, "e.tar", |builder| append(builder, EntryType::Link, "etc/text", "etc/text", b""));
    let stored = world.add(&path, "self", "1").unwrap();
    assert_eq!(
        std::fs::read_to_string(stored.rootfs().unwrap().join("etc/text")).unwrap(),
        "e.tar",
        "a link to itself"
    );
}

fn devices() {
    let world = World::new();
    let path = archive(&world, "a.tar", |builder| {
        append(builder, EntryType::Block, "etc/disk", "", b"");
        append(builder, EntryType::Char, "etc/mem", "", b"");
        append(builder, EntryType::Fifo, "etc/pipe", "", b"");
    });
    let stored = world.add(&path, "devices", "1").unwrap();
    let etc = stored.rootfs().unwrap().join("etc");
    assert!(!etc.join("disk").exists() && !etc.join("mem").exists());
    assert!(etc.join("pipe").exists());
}

fn absurd() {
    let world = World::new();
    let with_size = |name: &str, size: u64| {
        archive(&world, name, |builder| {
            let mut header = Header::new_gnu();
            header.set_path("etc/huge").unwrap();
            header.set_size(size);
            header.set_mode(0o644);
            header.set_uid(0);
            header.set_gid(0);
            header.set_mtime(0);
            header.set_cksum();
            builder.get_mut().write_all(header.as_bytes()).unwrap();
        })
    };
    for (name, size) in [("a.tar", u64::MAX), ("b.tar", u64::MAX - 600), ("c.tar", 1 << 45)] {
        let path = with_size(name, size);
        let refusal = world.refused(&path);
        assert!(matches!(refusal, Refusal::TooLarge(_) | Refusal::Absurd { .. }), "{refusal}");
    }
    // A long name of a gigabyte, by its header.
    let path = archive(&world, "d.tar", |builder| {
        let mut header = Header::new_gnu();
        header.set_path("././@LongLink").unwrap();
        header.set_entry_type(EntryType::GNULongName);
        header.set_size(1 << 30);
        header.set_cksum();
        builder.get_mut().write_all(header.as_bytes()).unwrap();
    });
    assert!(matches!(world.refused(&path), Refusal::Corrupt(_)));
    let path = archive(&world, "e.tar", |builder| {
        let mut header = Header::new_gnu();
        header.set_path("etc/deep").unwrap();
        header.set_size(0);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        let deep = "d/".repeat(1000) + "f";
        builder.append_data(&mut header, &deep, &b""[..]).unwrap();
    });
    assert!(matches!(world.refused(&path), Refusal::Absurd { .. }));
    let path = archive(&world, "f.tar", |builder| {
        let mut header = Header::new_gnu();
        header.set_path("etc/owner").unwrap();
        header.set_size(0);
        header.set_mode(0o644);
        header.set_uid(70_000);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_cksum();
        builder.append(&header, &b""[..]).unwrap();
    });
    assert!(world.refused(&path).to_string().contains("70000"));
}

fn repeated() {
    let world = World::new();
    let path = archive(&world, "a.tar", |builder| {
        append(builder, EntryType::Regular, "etc/twice", "", b"first");
        append(builder, EntryType::Regular, "etc/twice", "", b"second");
        append(builder, EntryType::Symlink, "etc/dir", "/usr", b"");
        append(builder, EntryType::Directory, "etc/dir/", "", b"");
        append(builder, EntryType::Regular, "etc/dir/inside", "", b"x");
    });
    let stored = world.add(&path, "twice", "1").unwrap();
    let etc = stored.rootfs().unwrap().join("etc");
    assert_eq!(std::fs::read(etc.join("twice")).unwrap(), b"second");
    assert!(etc.join("dir").symlink_metadata().unwrap().is_dir());
    assert!(etc.join("dir/inside").exists() && !stored.rootfs().unwrap().join("usr/inside").exists());
    let path = archive(&world, "b.tar", |builder| {
        append(builder, EntryType::Symlink, "etc", "/tmp", b"");
    });
    assert!(matches!(world.refused(&path), Refusal::Absurd { .. }), "a directory is not replaced");
}

fn full_disk() {
    let dir = tempfile::tempdir().unwrap();
    let small = dir.path().join("small");
    std::fs::create_dir(&small).unwrap();
    run(Command::new("mount").args(["-t", "tmpfs", "-o", "size=3m", "tmpfs"]).arg(&small));
    struct Unmount(PathBuf);
    impl Drop for Unmount {
        fn drop(&mut self) {
            run(Command::new("umount").arg(&self.0));
        }
    }
    let _unmount = Unmount(small.clone());
    let outside = World::new();
    let world = World::within(tempfile::tempdir_in(&small).unwrap());
    let fits = outside.archive("fits.tar", "fits", &[]);
    let kept = world.add(&fits, "fits", "1").unwrap();
    let root = outside.rootfs("big", "big");
    write(&root.join("etc/big"), vec![7; 4 << 20]);
    let big = outside.path("big.tar");
    run(Command::new("tar").arg("-cf").arg(&big).arg("-C").arg(&root).arg("."));
    let error = world.add(&big, "big", "1").unwrap_err();
    assert!(matches!(error, BoxError::DiskFull(_)), "{error}");
    assert_eq!(error.kind(), FaultKind::Environment);
    assert_eq!(world.store.list().unwrap(), [kept]);
    world.assert_clean();
    drop(world);
}
