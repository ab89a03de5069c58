//! Boxes with disks, from their coming to their going.

use std::fs;
use std::process::Command;

use crate::support::Place;

/// A file system of 16 MiB as a disk, with a system on it that `text` is part of.
fn disk(place: &Place, name: &str, text: &str) {
    let root = format!("{name}.d");
    place.write(
        &format!("{root}/etc/os-release"),
        "ID=debian\nVERSION_ID=\"12\"\nPRETTY_NAME=\"Debian 12\"\n",
    );
    place.write(
        &format!("{root}/etc/passwd"),
        "root:x:0:0::/root:/bin/sh\ndev:x:1000:1000::/home/dev:/bin/sh\n",
    );
    place.write(&format!("{root}/sbin/init"), "");
    // What both versions share, and what compresses badly.
    let noise: String =
        (0..60_000).map(|n: u64| format!("{:016x}", n.wrapping_mul(0x9E37_79B9_7F4A_7C15))).collect();
    place.write(&format!("{root}/usr/noise"), &noise);
    place.write(&format!("{root}/usr/text"), text);
    let image = place.path(name);
    let made = Command::new("mke2fs")
        .args(["-q", "-t", "ext4", "-b", "4096", "-U", "6f1c5c0e-7a6e-4d0f-8b0e-2d2f4d1f9c3a", "-d"])
        .arg(place.path(&root))
        .arg(&image)
        .arg("16M")
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

#[test]
fn a_disk_goes_into_chunks_and_comes_back() {
    let place = Place::new();
    for (version, text) in [("1", "old"), ("2", "new")] {
        let name = format!("{version}.img");
        disk(&place, &name, text);
        place.posada(&["box", "add", &name, "--name", "team/vm", "--version", version]).success();
    }
    let told = place.events(place.posada(&["box", "gc", "--dry-run", "--json"]).success());
    assert_eq!(
        (&told[0]["event"], &told[0]["images"], &told[0]["kept_bytes"]),
        (&"box_gc".into(), &2.into(), &0.into())
    );
    let told = place.events(place.posada(&["box", "gc", "--json"]).success());
    let done = told.iter().find(|event| event["event"] == "box_gc").unwrap();
    assert_eq!((&done["images"], &done["chunks"]), (&2.into(), &0.into()));
    let both = done["kept_bytes"].as_u64().unwrap();
    let again = place.errors(place.posada(&["box", "gc"]).success());
    assert!(again.contains("there is nothing to take away"), "{again}");

    place.posada(&["box", "export", "team/vm", "--format", "raw", "--output", "back.img"]).success();
    assert!(fs::read(place.path("back.img")).unwrap() == fs::read(place.path("2.img")).unwrap());
    let found = place.events(place.posada(&["box", "fsck", "--json"]).success());
    let found = found.iter().find(|event| event["event"] == "box_fsck").unwrap();
    assert_eq!((&found["boxes"], &found["damaged_chunks"]), (&2.into(), &0.into()));

    let all = place.text(place.posada(&["box", "list", "-i"]).success());
    assert_eq!(all, place.text(place.posada(&["box", "info", "team/vm"]).success()));
    assert!(all.contains("Debian 12"), "{all}");
    assert_eq!(place.text(place.posada(&["box", "prune", "-n", "--provider", "lxc"]).success()), "");
    place.posada(&["box", "prune", "--provider", "clouds"]).code(2);
    let would = place.text(place.posada(&["box", "prune", "-n", "-p", "virtualbox"]).success());
    assert_eq!(would, "team/vm 1 would be removed\n");
    let would = place.text(place.posada(&["box", "prune", "-n"]).success());
    assert_eq!(would, "team/vm 1 would be removed\n");
    place.posada(&["box", "prune"]).success();
    let left = place.text(place.posada(&["box", "list"]).success());
    assert!(left.contains("team/vm") && left.lines().count() == 1, "{left}");
    let told = place.events(place.posada(&["box", "gc", "--json"]).success());
    let one = told.iter().find(|event| event["event"] == "box_gc").unwrap()["kept_bytes"].as_u64().unwrap();
    assert!(one < both && both - one < one / 2, "most is shared: {one} of {both}");
    for other in [["--provider", "lxc"], ["--architecture", "riscv64"]] {
        place.posada(&[&["box", "remove", "team/vm", "--all"][..], &other].concat()).code(7);
    }
    place.posada(&["box", "remove", "team/vm", "--box-version", "2", "--provider", "kvm"]).success();
    place.posada(&["box", "info", "team/vm"]).code(2);
    let told = place.events(place.posada(&["box", "gc", "--json"]).success());
    assert_eq!(told.iter().find(|event| event["event"] == "box_gc").unwrap()["kept_bytes"], 0);
}

#[test]
fn damage_is_told_with_what_to_do() {
    let place = Place::new();
    disk(&place, "1.img", "text");
    place.posada(&["box", "add", "1.img", "--name", "team/vm", "--version", "1"]).success();
    place.posada(&["box", "gc"]).success();
    let shelf = fs::read_dir(place.home().join("boxes/chunks/data")).unwrap().next().unwrap().unwrap();
    let chunk = fs::read_dir(shelf.path()).unwrap().next().unwrap().unwrap().path();
    fs::write(&chunk, "not what it was").unwrap();
    let told = place.errors(place.posada(&["box", "fsck"]).code(4));
    assert!(told.contains("posada box remove team/vm --version 1"), "{told}");
    place.posada(&["box", "export", "team/vm", "--format", "raw", "--output", "back.img"]).code(7);
    assert!(!place.path("back.img").exists());
}
