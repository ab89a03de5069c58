//! Processes that die at any point, and several at once.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use libtest_mimic::Trial;
use posada_box_catalog::{Store, Which};

use crate::support::{CHILD, World, entries, exe, run, trial, write};

pub fn trials() -> Vec<Trial> {
    vec![
        trial("killed_at_any_point_the_next_add_simply_works", killed),
        trial("two_at_once_store_one_box", two_at_once),
        trial("different_boxes_come_in_side_by_side", side_by_side),
    ]
}

fn add_in_child(world: &World, archive: &Path, name: &str, version: &str) -> Child {
    let mut command = Command::new(exe());
    command.arg(CHILD).arg(world.path("boxes")).arg(archive).args([name, version]);
    // A group of its own, so that killing it takes the worker along or not as the test wants.
    command.process_group(0).stdin(Stdio::null()).spawn().unwrap()
}

/// A root file system that takes a while to unpack.
fn slow_archive(world: &World) -> std::path::PathBuf {
    let root = world.rootfs("slow", "slow");
    for number in 0..3000 {
        write(&root.join(format!("usr/lib/{}/{number}", number % 50)), [number as u8; 3000]);
    }
    let archive = world.path("slow.tar");
    run(Command::new("tar").arg("-cf").arg(&archive).arg("-C").arg(root).arg("."));
    archive
}

fn killed() {
    let world = World::new();
    let archive = slow_archive(&world);
    let whole = {
        let start = std::time::Instant::now();
        world.add(&archive, "measure", "1").unwrap();
        let took = start.elapsed();
        world.store.remove("measure", &Which::All, true, &|_| Vec::new()).unwrap();
        took
    };
    let points = 24u32;
    for point in 0..points {
        let mut child = add_in_child(&world, &archive, "slow", &point.to_string());
        // Not a wait for something to happen: the moment of death is what is being varied.
        std::thread::sleep(whole * point / points);
        if point % 2 == 0 {
            child.kill().unwrap();
        } else {
            let group = rustix::process::Pid::from_raw(child.id() as i32).unwrap();
            rustix::process::kill_process_group(group, rustix::process::Signal::KILL).unwrap();
        }
        child.wait().unwrap();
        for stored in world.store.list().unwrap() {
            let file = stored.rootfs().unwrap().join("usr/lib/49/2999");
            assert_eq!(std::fs::read(file).unwrap().len(), 3000, "what is listed is whole");
        }
        if point % 6 == 5 {
            // The next call, at once, while the dead one's worker may still be dying.
            let stored = world.add(&archive, "after", &point.to_string()).unwrap();
            assert!(stored.rootfs().unwrap().join("sbin/init").exists());
        }
    }
    // Every worker ends with the process that started it; each holds its directory until then.
    let incoming = world.path("boxes/incoming");
    for entry in entries(&incoming) {
        let path = incoming.join(entry);
        if let Ok(directory) = std::fs::File::open(&path) {
            rustix::fs::flock(&directory, rustix::fs::FlockOperation::LockExclusive).unwrap();
        }
    }
    world.store.remove("after", &Which::All, true, &|_| Vec::new()).unwrap();
    world.assert_clean();
    let listed: Vec<_> = world.store.list().unwrap().iter().map(|stored| stored.digest.to_string()).collect();
    for tree in entries(&world.path("boxes/trees")) {
        assert!(listed.contains(&tree), "{tree} has no name");
    }
}

fn two_at_once() {
    let world = World::new();
    let archive = slow_archive(&world);
    let mut children: Vec<Child> =
        ["1", "1", "2"].iter().map(|version| add_in_child(&world, &archive, "web", version)).collect();
    for child in &mut children {
        assert!(child.wait().unwrap().success());
    }
    let boxes = world.store.list().unwrap();
    assert_eq!(boxes.len(), 2);
    assert_eq!(boxes[0].rootfs().unwrap(), boxes[1].rootfs().unwrap());
    assert_eq!(entries(&world.path("boxes/trees")).len(), 1);
    world.assert_clean();
}

fn side_by_side() {
    let world = World::new();
    let archives: Vec<_> = (0..6).map(|i| world.archive(&format!("{i}.tar"), &i.to_string(), &[])).collect();
    let mut children: Vec<Child> = archives
        .iter()
        .enumerate()
        .map(|(i, archive)| add_in_child(&world, archive, &format!("box{i}"), "1"))
        .collect();
    let store = Store::open(world.path("boxes"), exe()).unwrap();
    while children.iter_mut().any(|child| child.try_wait().unwrap().is_none()) {
        // A reader sees whole boxes at every moment.
        for stored in store.list().unwrap() {
            assert!(stored.rootfs().unwrap().join("etc/text").exists());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(store.list().unwrap().len(), 6);
    world.assert_clean();
}
