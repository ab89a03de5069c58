//! Disk images as chunks, shared by the versions of a box.

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use libtest_mimic::Trial;
use posada_box_catalog::{BoxError, BoxFsck, BoxGc, BoxRef, Cancel, Digest, Form, Quiet, StoredBox};

use crate::disks::disk;
use crate::support::{GC, World, entries, exe, mode, trial};

pub fn trials() -> Vec<Trial> {
    vec![
        trial("images_that_nobody_lies_on_are_chunks_alone_and_come_back", there_and_back),
        trial("images_in_use_stay", in_use),
        trial("damage_is_found_and_mended_where_it_can_be", damage),
        trial("a_list_that_cannot_be_read_keeps_all_chunks", unreadable),
        trial("two_who_want_one_image_both_get_it", both),
        trial("those_who_collect_look_and_obtain_at_once_do_not_disturb_each_other", at_once),
        trial("killed_at_any_point_of_a_collection_nothing_is_lost", killed),
    ]
}

fn unused(_: &Digest) -> Vec<String> {
    Vec::new()
}

fn gc(world: &World, dry_run: bool) -> BoxGc {
    world.store.gc(dry_run, &unused, &Quiet, &Cancel::default()).unwrap()
}

fn fsck(world: &World) -> BoxFsck {
    world.store.fsck(&Quiet, &Cancel::default()).unwrap()
}

fn obtain(world: &World, name: &str) -> Result<StoredBox, BoxError> {
    let wanted = BoxRef::parse(name).unwrap();
    world.store.obtain(&wanted, None, Form::Disk, &Quiet, &Cancel::default())
}

fn path(stored: &StoredBox) -> PathBuf {
    stored.disk().unwrap().path
}

/// The files of all chunks.
fn chunk_files(world: &World) -> Vec<PathBuf> {
    let shelves = fs::read_dir(world.path("boxes/chunks/data")).unwrap();
    let files = shelves.flat_map(|shelf| fs::read_dir(shelf.unwrap().path()).unwrap());
    files.map(|file| file.unwrap().path()).collect()
}

/// A disk of 16 MiB with two megabytes on it that cannot be compressed.
fn image(world: &World, name: &str) -> PathBuf {
    let noise: String =
        (0..120_000).map(|n: u64| format!("{:016x}", n.wrapping_mul(0x9E37_79B9_7F4A_7C15))).collect();
    disk(world, name, &[("usr/bin/noise", &noise)])
}

fn there_and_back() {
    let world = World::new();
    let first = image(&world, "a.img");
    // Another version has one file's text changed.
    let second = world.path("b.img");
    fs::copy(&first, &second).unwrap();
    let bytes = fs::read(&second).unwrap();
    let at = bytes.windows(7).rposition(|window| window == b"a.img\0\0").unwrap();
    fs::File::options().write(true).open(&second).unwrap().write_all_at(b"b", at as u64).unwrap();

    let stored = world.add(&first, "team/vm", "1").unwrap();
    let host_bytes = fs::metadata(path(&stored)).unwrap().blocks() * 512;
    let would = gc(&world, true);
    assert_eq!((would.images, would.image_bytes, would.kept_bytes), (1, host_bytes, 0));
    assert!(path(&stored).exists());
    let done = gc(&world, false);
    assert_eq!((done.images, done.image_bytes, done.chunks), (1, host_bytes, 0));
    assert!(!path(&stored).exists());
    assert_eq!(gc(&world, false), BoxGc { kept_bytes: done.kept_bytes, ..BoxGc::default() });

    let newer = world.add(&second, "team/vm", "2").unwrap();
    let both = gc(&world, false);
    let new = both.kept_bytes - done.kept_bytes;
    assert!(new > 0 && new * 4 < done.kept_bytes, "the second brought {new} of {}", both.kept_bytes);
    assert_eq!(fsck(&world).damaged, []);

    let again = obtain(&world, "team/vm").unwrap();
    assert_eq!((again.digest, mode(&path(&again))), (newer.digest, 0o444));
    assert!(fs::read(path(&again)).unwrap() == fs::read(&second).unwrap());
    assert!(fs::metadata(path(&again)).unwrap().blocks() * 512 <= host_bytes + 4096, "its holes are holes");
    // It is held, and stays.
    assert_eq!(gc(&world, false).images, 0);
    drop(again);
    assert_eq!(gc(&world, false).images, 1);

    let which = posada_box_catalog::Which::Version(newer.version);
    world.store.remove("team/vm", &which, false, &unused).unwrap();
    let removed = gc(&world, false);
    assert_eq!((removed.chunk_bytes, removed.kept_bytes), (new, done.kept_bytes));
    let older = obtain(&world, "team/vm").unwrap();
    assert!(fs::read(path(&older)).unwrap() == fs::read(&first).unwrap());
    world.assert_clean();
}

fn in_use() {
    let world = World::new();
    let stored = world.add(&image(&world, "a.img"), "team/vm", "1").unwrap();
    let used = |_: &Digest| vec!["web".to_owned()];
    let done = world.store.gc(false, &used, &Quiet, &Cancel::default()).unwrap();
    assert_eq!(done, BoxGc::default());
    assert!(path(&stored).exists());
    // One that is made while its image is divided.
    let asked = std::cell::Cell::new(0);
    let soon = |_: &Digest| {
        asked.set(asked.get() + 1);
        if asked.get() > 1 { vec!["web".to_owned()] } else { Vec::new() }
    };
    assert_eq!(world.store.gc(false, &soon, &Quiet, &Cancel::default()).unwrap().images, 0);
    assert!(path(&stored).exists());
}

fn spoil(file: &Path) {
    let mut bytes = fs::read(file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x40;
    fs::write(file, bytes).unwrap();
}

fn damage() {
    let world = World::new();
    let source = image(&world, "a.img");
    let stored = world.add(&source, "team/vm", "1").unwrap();
    gc(&world, false);
    drop(obtain(&world, "team/vm").unwrap());
    // With the image in place, a chunk is mended.
    spoil(&chunk_files(&world)[0]);
    let found = fsck(&world);
    assert_eq!((found.damaged_chunks, found.restored_chunks, found.damaged), (1, 1, vec![]));
    assert_eq!(fsck(&world).damaged_chunks, 0);
    // Without it, the box is named, and nothing wrong is ever assembled.
    gc(&world, false);
    spoil(&chunk_files(&world)[0]);
    let refused = obtain(&world, "team/vm").unwrap_err();
    assert!(matches!(refused, BoxError::Chunks { .. }), "{refused}");
    assert!(!path(&stored).exists());
    let found = fsck(&world);
    assert_eq!((found.damaged_chunks, found.damaged.len()), (1, 1));
    assert_eq!(found.damaged[0].name.as_deref(), Some("team/vm"));
    assert!(found.damaged[0].hint.contains("posada box remove team/vm --version 1"));
    // What it says mends it.
    world.store.remove("team/vm", &posada_box_catalog::Which::All, false, &unused).unwrap();
    world.add(&source, "team/vm", "1").unwrap();
    gc(&world, false);
    assert!(fs::read(path(&obtain(&world, "team/vm").unwrap())).unwrap() == fs::read(&source).unwrap());
    assert_eq!(fsck(&world).damaged, []);
    // An image that was written to.
    let changed = path(&stored);
    fs::remove_file(&changed).unwrap();
    fs::write(&changed, vec![1; 16 << 20]).unwrap();
    assert_eq!(fsck(&world).damaged[0].what, "its disk image has changed");
    world.assert_clean();
}

fn unreadable() {
    let world = World::new();
    let stored = world.add(&image(&world, "a.img"), "team/vm", "1").unwrap();
    gc(&world, false);
    let before = chunk_files(&world).len();
    spoil(&path(&stored).with_file_name("disk.chunks"));
    let failed = world.store.gc(false, &unused, &Quiet, &Cancel::default()).unwrap_err();
    assert!(matches!(failed, BoxError::Damaged { .. }), "{failed}");
    assert_eq!(chunk_files(&world).len(), before);
    assert!(matches!(obtain(&world, "team/vm").unwrap_err(), BoxError::Damaged { .. }));
    assert_eq!(fsck(&world).damaged.len(), 1);
}

fn both() {
    let world = World::new();
    let source = image(&world, "a.img");
    world.add(&source, "team/vm", "1").unwrap();
    gc(&world, false);
    std::thread::scope(|scope| {
        let wanting: Vec<_> = (0..3).map(|_| scope.spawn(|| obtain(&world, "team/vm").unwrap())).collect();
        for one in wanting {
            let stored = one.join().unwrap();
            assert!(fs::read(path(&stored)).unwrap() == fs::read(&source).unwrap());
        }
    });
    world.assert_clean();
}

fn at_once() {
    let world = World::new();
    let source = image(&world, "a.img");
    world.add(&source, "team/vm", "1").unwrap();
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..6 {
                    gc(&world, false);
                }
            });
        }
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..6 {
                    let stored = obtain(&world, "team/vm").unwrap();
                    assert!(fs::read(path(&stored)).unwrap() == fs::read(&source).unwrap());
                }
            });
        }
        scope.spawn(|| (0..6).for_each(|_| assert_eq!(fsck(&world).damaged, [])));
    });
    assert_eq!(fsck(&world).damaged, []);
    world.assert_clean();
}

fn killed() {
    let world = World::new();
    let source = image(&world, "a.img");
    world.add(&source, "team/vm", "1").unwrap();
    let collect = || {
        let mut command = Command::new(exe());
        command.arg(GC).arg(world.path("boxes")).stdin(Stdio::null()).spawn().unwrap()
    };
    let began = std::time::Instant::now();
    assert!(collect().wait().unwrap().success());
    let whole = began.elapsed();
    let points = 16;
    for point in 0..points {
        // Nothing is divided yet.
        drop(obtain(&world, "team/vm").unwrap());
        let list = world.store.list().unwrap()[0].disk().unwrap().path.with_file_name("disk.chunks");
        fs::remove_file(&list).unwrap();
        chunk_files(&world).iter().for_each(|file| fs::remove_file(file).unwrap());
        let mut child = collect();
        // Not a wait for something to happen: the moment of death is what is being varied.
        std::thread::sleep(whole * point / points);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(fsck(&world).damaged, [], "at {point} of {points}");
        let stored = obtain(&world, "team/vm").unwrap();
        assert!(fs::read(path(&stored)).unwrap() == fs::read(&source).unwrap());
        drop(stored);
        gc(&world, false);
    }
    world.assert_clean();
    assert_eq!(entries(&world.path("boxes/chunks/adding")), Vec::<String>::new());
}
