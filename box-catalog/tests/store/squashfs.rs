//! Root file systems as squashfs images, as mksquashfs makes them.

use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use libtest_mimic::Trial;
use posada_box_catalog::{Cancel, Form, Quiet, Refusal};

use crate::formats::{NET_RAW, assert_same, listing, rich, set};
use crate::support::{World, run, trial, write};

pub fn trials() -> Vec<Trial> {
    vec![
        trial("a_squashfs_image_of_every_kind_gives_the_same_tree", same_tree),
        trial("a_truncated_or_hostile_squashfs_image_is_refused", hostile),
    ]
}

fn squash(root: &Path, image: &Path, options: &[&str]) {
    run(Command::new("mksquashfs").arg(root).arg(image).args(["-quiet", "-noappend"]).args(options));
}

fn attributes(root: &Path) -> String {
    let script = "find . ! -type l | sort | tr '\\n' '\\0' | xargs -0 getfattr -h -d -m '^user[.]note|capability' -e hex";
    String::from_utf8(run(Command::new("sh").current_dir(root).args(["-ec", script]))).unwrap()
}

fn same_tree() {
    let world = World::new();
    let root = rich(&world);
    for number in 0..300 {
        write(&root.join(format!("big/{number:0>60}")), number.to_string());
    }
    let script = "head -c 1300123 /dev/urandom > etc/random; head -c 1048576 /dev/urandom > etc/even; cp etc/random etc/again;
        yes posada | head -c 700001 > etc/packs; truncate -s 40M etc/holes; printf x | dd of=etc/holes bs=1M seek=7 conv=notrunc status=none;
        truncate -s 3M etc/hole-only; mkdir etc/none; chmod 500 etc/none; mknod etc/node c 1 3";
    run(Command::new("sh").current_dir(&root).args(["-ec", script]));
    set(&root.join("usr/bin/sudo"), "security.capability", NET_RAW);
    set(&root.join("etc"), "user.note", b"on a directory");
    set(&root, "user.note", b"on the root");
    for name in ["etc/random", "etc/again"] {
        set(&root.join(name), "user.note", &[7; 900]);
    }
    set(&root.join("etc/packs"), "user.overlay.opaque", b"y");
    let socket = UnixListener::bind(root.join("etc/socket")).unwrap();
    run(Command::new("sh")
        .current_dir(&root)
        .args(["-c", "find . -exec touch -h -d '2024-02-03T04:05:06Z' {} +"]));
    let expected: String = listing(&root)
        .lines()
        .filter(|line| !line.starts_with("etc/node|") && !line.starts_with("etc/socket|"))
        .map(|line| format!("{line}\n"))
        .collect();
    let noted = attributes(&root);
    for (number, options) in [
        &["-comp", "gzip", "-b", "4K"][..],
        &["-comp", "xz", "-b", "1M", "-Xbcj", "x86"],
        &["-comp", "zstd", "-no-fragments"],
        &["-comp", "gzip", "-always-use-fragments", "-no-duplicates"],
        &["-noI", "-noD", "-noF", "-noX", "-nopad"],
    ]
    .into_iter()
    .enumerate()
    {
        let what = options.join(" ");
        let image = world.path(&format!("{number}.squashfs"));
        squash(&root, &image, options);
        let stored = world.add(&image, "squashed", &number.to_string()).unwrap();
        let tree = stored.rootfs().unwrap();
        assert_same(&listing(&tree), &expected, &what);
        let kept = attributes(&tree);
        assert_eq!(kept, noted, "{what}");
        assert!(kept.contains("security.capability"), "{kept}");
        let stat = |path: &str| std::fs::metadata(tree.join(path)).unwrap();
        assert_eq!(stat("etc/text").ino(), stat("etc/hard").ino(), "{what}");
        assert_eq!(stat("usr/bin").mtime(), 1_706_933_106, "{what}");
        for name in ["etc/holes", "etc/hole-only"] {
            assert!(
                stat(name).blocks() * 512 <= 2 << 20,
                "{what}: {name} takes {} blocks",
                stat(name).blocks()
            );
        }
    }
    drop(socket);
    world.assert_clean();
    // A virtual machine's disk is made of it as of an archive, also where it is compressed once more.
    run(Command::new("sh").current_dir(world.dir.path()).args(["-ec", "gzip -1 < 2.squashfs > again.gz"]));
    let again = world.add(&world.path("again.gz"), "again", "1").unwrap();
    assert_same(&listing(&again.rootfs().unwrap()), &expected, "compressed once more");
    let wanted = posada_box_catalog::BoxRef::File(world.path("3.squashfs"));
    let obtained = world.store.obtain(&wanted, None, Form::Rootfs, &Quiet, &Cancel::default()).unwrap();
    assert_eq!(
        obtained.digest,
        world.store.list().unwrap().iter().find(|b| b.version.to_string() == "3").unwrap().digest
    );
}

/// Where a number of the superblock leads.
fn table(bytes: &[u8], at: usize) -> usize {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize
}

fn hostile() {
    let world = World::new();
    let root = world.rootfs("root", "x");
    write(&root.join("nastyname"), "x");
    set(&root.join("nastyname"), "user.note", b"so that its table is looked at");
    std::fs::create_dir(root.join("innocuous")).unwrap();
    let image = world.path("image");
    squash(&root, &image, &["-noI", "-noD", "-noF", "-noX", "-nopad"]);
    let sound = std::fs::read(&image).unwrap();
    let refused = |bytes: &[u8]| {
        let path: PathBuf = world.path("hostile");
        write(&path, bytes);
        world.refused(&path)
    };
    for length in [90, 200, sound.len() / 2, sound.len() - 1] {
        assert_eq!(refused(&sound[..length]), Refusal::Truncated, "{length}");
    }
    let name = |name: &str| sound.windows(name.len()).rposition(|window| window == name.as_bytes()).unwrap();
    for bad in ["../../etc", "etc/passw"] {
        let mut bytes = sound.clone();
        let at = name("nastyname");
        bytes[at..at + 9].copy_from_slice(bad.as_bytes());
        assert!(matches!(refused(&bytes), Refusal::LeadsOut(_)), "{bad}");
    }
    // A directory whose entry leads to the root: the place in the block stands 8 bytes before the name.
    let mut bytes = sound.clone();
    let at = name("innocuous") - 8;
    bytes.copy_within(32..34, at);
    let refusal = refused(&bytes).to_string();
    assert!(refusal.contains("`innocuous`") && refusal.contains("second place"), "{refusal}");
    // Numbers that nothing is behind: of the superblock, and of the first directory's header.
    let run_of_names = table(&sound, 72) + 2;
    for (at, with) in [
        (12, &[0xff; 4][..]),
        (22, &[40, 0]),
        (26, &[0xff; 2]),
        (32, &[0xff; 8]),
        (48, &[0xf0; 8]),
        (56, &[0xf0; 8]),
        (64, &[0xf0; 8]),
        (72, &[0xf0; 8]),
        (run_of_names, &[0xff; 4]),
        (table(&sound, 64), &[0x00, 0x00]),
    ] {
        let mut bytes = sound.clone();
        bytes[at..at + with.len()].copy_from_slice(with);
        assert!(matches!(refused(&bytes), Refusal::Corrupt(_)), "{with:x?} at {at}");
    }
    let mut bytes = sound.clone();
    bytes[40..48].copy_from_slice(&[0x7f; 8]);
    assert_eq!(refused(&bytes), Refusal::Truncated);
}
