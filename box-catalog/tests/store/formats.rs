//! What the system's tools write comes back as it was.

use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::process::Command;

use libtest_mimic::Trial;

use crate::support::{World, entries, mode, run, trial, write};

pub fn trials() -> Vec<Trial> {
    vec![
        trial("every_tar_format_squashfs_and_compression_gives_the_same_tree", every_format),
        trial("sparse_files_stay_sparse_in_every_form", sparse),
        trial("times_of_directories_are_kept", directory_times),
        trial("capabilities_are_kept_and_overlay_attributes_are_not_of_tar_or_squashfs", attributes),
        trial("vagrant_boxes_for_lxc_are_taken", vagrant_lxc),
        trial("concatenated_compressed_streams_are_read_to_the_end", concatenated),
    ]
}

/// A tree with all that can be in one.
pub fn rich(world: &World) -> std::path::PathBuf {
    let root = world.rootfs("rich", "rich");
    write(&root.join("usr/bin/sudo"), "suid");
    run(Command::new("chown").arg("0:0").arg(root.join("usr/bin/sudo")));
    run(Command::new("chmod").arg("4755").arg(root.join("usr/bin/sudo")));
    write(&root.join("home/dev/mine"), "mine");
    run(Command::new("chown").arg("-R").arg("1000:1000").arg(root.join("home/dev")));
    run(Command::new("chmod").arg("1777").arg(root.join("tmp")));
    symlink("usr/bin", root.join("bin")).unwrap();
    symlink("/etc/text", root.join("etc/absolute")).unwrap();
    symlink("../../../../../etc/shadow", root.join("etc/outward")).unwrap();
    std::fs::hard_link(root.join("etc/text"), root.join("etc/hard")).unwrap();
    let deep = format!("usr/lib/{}/{}", "d".repeat(120), "e".repeat(120));
    write(&root.join(&deep).join("f".repeat(200)), "long");
    symlink("t".repeat(180), root.join("etc/long-link")).unwrap();
    run(Command::new("mkfifo").arg(root.join("etc/fifo")));
    write(&root.join("etc/ünï"), "name");
    write(&root.join("etc/empty"), "");
    run(Command::new("touch").arg("-d").arg("1999-12-31T23:59:58Z").arg(root.join("etc/text")));
    root
}

/// Everything about every file: type, mode, owners, size, time, link, content.
pub fn listing(root: &Path) -> String {
    let format = "%P|%y|%m|%U|%G|%s|%T@|%l|%n\\n";
    let files =
        run(Command::new("find").arg(root).args(["-mindepth", "1", "!", "-type", "d", "-printf", format]));
    let format = "%P|%y|%m|%U|%G\\n";
    let directories =
        run(Command::new("find").arg(root).args(["-mindepth", "1", "-type", "d", "-printf", format]));
    let sums = run(Command::new("sh").current_dir(root).args(["-c", "find . -type f -exec sha256sum {} +"]));
    let text = [files, directories, sums].concat();
    let mut lines: Vec<String> = String::from_utf8(text).unwrap().lines().map(str::to_owned).collect();
    lines.sort();
    // Whole seconds: the older formats have no more.
    lines.iter().map(|line| line.replace(".0000000000|", "|") + "\n").collect()
}

fn every_format() {
    let world = World::new();
    let root = rich(&world);
    run(Command::new("sh")
        .current_dir(&root)
        .args(["-c", "find . -exec touch -h -d '2024-02-03T04:05:06Z' {} +"]));
    let expected = listing(&root);
    for (number, (format, compress)) in [
        ("gnu", ""),
        ("pax", ""),
        ("gnu", "gzip -1"),
        ("pax", "xz -0"),
        ("gnu", "zstd -q"),
        ("pax", "zstd -q -T0"),
    ]
    .into_iter()
    .enumerate()
    {
        let archive = world.path(&format!("{number}.tar"));
        let mut tar = Command::new("tar");
        tar.arg(format!("--format={format}")).arg("--numeric-owner");
        if !compress.is_empty() {
            tar.arg("-I").arg(compress);
        }
        run(tar.arg("-cf").arg(&archive).arg("-C").arg(&root).arg("."));
        taken(&world, &archive, &number.to_string(), &expected, &format!("{format} {compress}"));
    }
    for (version, compress, options) in
        [("10", "gzip", "-b 4096"), ("11", "xz", "-b 1M"), ("12", "zstd", "-no-fragments")]
    {
        let archive = world.path(&format!("{version}.squashfs"));
        let mut mksquashfs = Command::new("mksquashfs");
        mksquashfs.arg(&root).arg(&archive).args(["-quiet", "-comp", compress]).args(options.split(' '));
        run(&mut mksquashfs);
        taken(&world, &archive, version, &expected, &format!("squashfs {compress}"));
    }
}

/// Adds the archive, which is to give what is `expected`.
fn taken(world: &World, archive: &Path, version: &str, expected: &str, what: &str) {
    let tree = world.add(archive, "rich", version).unwrap().rootfs().unwrap();
    assert_same(&listing(&tree), expected, what);
    assert_eq!(mode(&tree.join("usr/bin/sudo")), 0o4755);
    let inode = |path: &str| std::fs::metadata(tree.join(path)).unwrap().ino();
    assert_eq!(inode("etc/text"), inode("etc/hard"));
}

pub fn assert_same(found: &str, expected: &str, what: &str) {
    let (found, expected): (Vec<_>, Vec<_>) = (found.lines().collect(), expected.lines().collect());
    for (found, expected) in found.iter().zip(&expected) {
        assert_eq!(found, expected, "{what}");
    }
    assert_eq!(found.len(), expected.len(), "{what}");
}

fn sparse() {
    let world = World::new();
    let root = world.rootfs("root", "sparse");
    let script = "truncate -s 40M etc/holes; for i in 1 3 9 20 39; do
        printf \"piece$i\" | dd of=etc/holes bs=1M seek=$i conv=notrunc status=none; done;
        truncate -s 5M etc/hole-only;
        i=0; truncate -s 12M etc/many; while [ $i -lt 100 ]; do
        printf $i | dd of=etc/many bs=64K seek=$i conv=notrunc status=none; i=$((i+1)); done";
    run(Command::new("sh").current_dir(&root).args(["-ec", script]));
    for (number, options) in [
        &["--format=gnu", "-S"][..],
        &["--format=pax", "-S", "--sparse-version=0.0"],
        &["--format=pax", "-S", "--sparse-version=0.1"],
        &["--format=pax", "-S", "--sparse-version=1.0"],
    ]
    .into_iter()
    .enumerate()
    {
        let archive = world.path(&format!("{number}.tar"));
        run(Command::new("tar").args(options).arg("-cf").arg(&archive).arg("-C").arg(&root).arg("."));
        assert!(std::fs::metadata(&archive).unwrap().len() < 20 << 20, "tar stored the holes");
        let stored = world.add(&archive, "sparse", &number.to_string()).unwrap();
        for file in ["etc/holes", "etc/hole-only", "etc/many"] {
            let (there, expected) = (stored.rootfs().unwrap().join(file), root.join(file));
            assert!(
                std::fs::read(&there).unwrap() == std::fs::read(&expected).unwrap(),
                "{file} by {options:?}"
            );
        }
        let blocks = std::fs::metadata(stored.rootfs().unwrap().join("etc/holes")).unwrap().blocks();
        assert!(blocks * 512 < 8 << 20, "{blocks} blocks by {options:?}");
    }
}

fn directory_times() {
    let world = World::new();
    let root = world.rootfs("root", "times");
    run(Command::new("sh")
        .current_dir(&root)
        .args(["-c", "find . -exec touch -h -d '2024-02-03T04:05:06Z' {} +"]));
    let archive = world.path("a.tar");
    run(Command::new("tar").arg("-cf").arg(&archive).arg("-C").arg(&root).arg("."));
    let tree = world.add(&archive, "times", "1").unwrap().rootfs().unwrap();
    for directory in ["", "etc", "usr", "usr/lib", "home/dev"] {
        assert_eq!(std::fs::metadata(tree.join(directory)).unwrap().mtime(), 1_706_933_106, "{directory}");
    }
}

fn attributes() {
    let world = World::new();
    let root = world.rootfs("root", "attributes");
    write(&root.join("usr/bin/ping"), "ping");
    set(&root.join("usr/bin/ping"), "security.capability", NET_RAW);
    for name in ["user.note", "user.overlay.opaque", "trusted.overlay.opaque"] {
        set(&root.join("etc"), name, b"y");
    }
    let archive = world.path("a.tar");
    let options = ["--xattrs", "--xattrs-include=*", "--format=pax", "-cf"];
    run(Command::new("tar").args(options).arg(&archive).arg("-C").arg(&root).arg("."));
    let image = world.path("a.squashfs");
    // One value is kept for many files, elsewhere than with the first.
    for number in 0..40 {
        let path = root.join(format!("etc/{number}"));
        write(&path, "");
        set(&path, "user.long", &[b'v'; 3000]);
    }
    run(Command::new("mksquashfs").arg(&root).arg(&image).args(["-quiet", "-xattrs"]));
    for (version, path) in [("1", &archive), ("2", &image)] {
        let tree = world.add(path, "attributes", version).unwrap().rootfs().unwrap();
        let mut value = [0; 4096];
        let length =
            rustix::fs::getxattr(tree.join("usr/bin/ping"), "security.capability", &mut value).unwrap();
        assert_eq!(&value[..length], NET_RAW);
        let mut names = [0; 4096];
        let length = rustix::fs::listxattr(tree.join("etc"), &mut names).unwrap();
        let names = String::from_utf8_lossy(&names[..length]).into_owned();
        assert!(names.contains("user.note") && !names.contains("overlay"), "{names}");
        if version == "2" {
            let length = rustix::fs::getxattr(tree.join("etc/39"), "user.long", &mut value).unwrap();
            assert_eq!(value[..length], [b'v'; 3000]);
        }
    }
}

/// `cap_net_raw+ep`: `struct vfs_cap_data` of revision 2, effective.
pub const NET_RAW: &[u8] = b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

pub fn set(path: &Path, name: &str, value: &[u8]) {
    rustix::fs::setxattr(path, name, value, rustix::fs::XattrFlags::empty()).unwrap();
}

fn vagrant_lxc() {
    let world = World::new();
    world.rootfs("stage/rootfs", "vagrant");
    std::fs::hard_link(world.path("stage/rootfs/etc/text"), world.path("stage/rootfs/etc/hard")).unwrap();
    let pack = |archive: &Path, directory: &str, names: &[&str]| {
        run(Command::new("tar").arg("-czf").arg(archive).arg("-C").arg(world.path(directory)).args(names));
    };
    std::fs::create_dir(world.path("box")).unwrap();
    pack(&world.path("box/rootfs.tar.gz"), "stage", &["./rootfs"]);
    write(&world.path("box/metadata.json"), r#"{"provider":"lxc","version":"1.0.0"}"#);
    write(&world.path("box/lxc-config"), "lxc.arch = amd64\n");
    for (number, names) in
        [&["."][..], &["metadata.json", "rootfs.tar.gz"], &["rootfs.tar.gz", "lxc-config", "metadata.json"]]
            .into_iter()
            .enumerate()
    {
        let archive = world.path(&format!("{number}.box"));
        pack(&archive, "box", names);
        let stored = world.add(&archive, "lxc", &number.to_string()).unwrap();
        assert_eq!(entries(&stored.rootfs().unwrap()), ["etc", "home", "sbin", "tmp", "usr"]);
        assert_eq!(std::fs::read_to_string(stored.rootfs().unwrap().join("etc/hard")).unwrap(), "vagrant");
    }
    write(&world.path("vb/metadata.json"), r#"{"provider":"virtualbox"}"#);
    write(&world.path("vb/box.ovf"), "<xml/>");
    let archive = world.path("vb.box");
    for (files, why) in
        [(&["metadata.json"][..], "`virtualbox`"), (&["metadata.json", "box.ovf"], "names no disk")]
    {
        pack(&archive, "vb", files);
        let refusal = world.refused(&archive).to_string();
        assert!(refusal.contains(why), "{refusal}");
    }
}

fn concatenated() {
    let world = World::new();
    let archive = world.archive("a.tar", "two streams", &[]);
    for (tool, version) in [("gzip", "1"), ("xz", "2"), ("zstd", "3")] {
        let script =
            format!("head -c 10240 a.tar | {tool} -c > both; tail -c +10241 a.tar | {tool} -c >> both");
        run(Command::new("sh").current_dir(archive.parent().unwrap()).args(["-ec", &script]));
        let stored = world.add(&world.path("both"), "both", version).unwrap();
        assert_eq!(
            std::fs::read_to_string(stored.rootfs().unwrap().join("etc/text")).unwrap(),
            "two streams",
            "{tool}"
        );
    }
}
