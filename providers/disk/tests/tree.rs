//! File systems made by mke2fs, gone through and compared with what went into them.

mod common;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

use posada_disk::{Backing, DiskError, Image, NodeKind, inspect, walk};

use common::run;

const MIB: u64 = 1 << 20;

/// What a node is, without what its content is kept as.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    File(Vec<u8>),
    Directory,
    Symlink(Vec<u8>),
    Hardlink(String),
    Fifo,
    Device,
}

type Tree = BTreeMap<String, (Seen, u32, (u32, u32), i64)>;
type Attributes = BTreeMap<String, Vec<(String, Vec<u8>)>>;

fn debugfs(image: &Path, commands: &str) -> String {
    use std::io::Write as _;
    let mut child = Command::new("debugfs")
        .args(["-w", "-f", "-"])
        .arg(image)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(commands.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let told =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{told}");
    told
}

fn make(image: &Path, size: u64, tree: &Path, options: &[&str]) {
    File::create(image).unwrap().set_len(size).unwrap();
    run(Command::new("mke2fs").args(["-q", "-F"]).args(options).arg("-d").arg(tree).arg(image));
}

/// Something of everything.
fn fill(root: &Path) {
    for directory in ["etc", "usr/lib/systemd", "empty", "many", "deep/er/and/deeper"] {
        fs::create_dir_all(root.join(directory)).unwrap();
    }
    fs::write(root.join("etc/os-release"), "ID=debian\n").unwrap();
    fs::write(root.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\n").unwrap();
    fs::set_permissions(root.join("etc/passwd"), fs::Permissions::from_mode(0o4640)).unwrap();
    fs::write(root.join("nothing"), "").unwrap();
    let large: Vec<u8> = (0..500_000_u32).flat_map(|index| (index * 7).to_le_bytes()).collect();
    fs::write(root.join("usr/lib/systemd/systemd"), &large[..1_500_001]).unwrap();
    let holes = File::create(root.join("holes")).unwrap();
    holes.write_all_at(b"first", 0).unwrap();
    holes.write_all_at(b"middle", 300_000).unwrap();
    holes.write_all_at(&large[..200_000], 1_000_000).unwrap();
    holes.set_len(1_300_000).unwrap();
    fs::hard_link(root.join("usr/lib/systemd/systemd"), root.join("zweiter")).unwrap();
    symlink("usr/lib", root.join("lib")).unwrap();
    symlink("x/".repeat(100), root.join("far")).unwrap();
    run(Command::new("mkfifo").arg(root.join("pipe")));
    for index in 0..500 {
        fs::write(root.join(format!("many/a name that is rather long, {index}")), index.to_string()).unwrap();
    }
}

/// What is below `root` on the host.
fn wanted(root: &Path) -> Tree {
    let mut tree = Tree::new();
    let mut linked = BTreeMap::new();
    let mut left = vec![root.to_owned()];
    while let Some(path) = left.pop() {
        let there = fs::symlink_metadata(&path).unwrap();
        let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
        let kind = there.file_type();
        let seen = if kind.is_dir() {
            let mut names: Vec<_> = fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()).collect();
            // The first name of a file that has several is the one that comes first.
            names.sort_by(|one, other| other.cmp(one));
            left.extend(names);
            Seen::Directory
        } else if let Some(first) = linked.get(&there.ino()).filter(|_| there.nlink() > 1) {
            Seen::Hardlink(String::clone(first))
        } else {
            linked.insert(there.ino(), name.clone());
            if kind.is_symlink() {
                Seen::Symlink(fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes())
            } else if kind.is_file() {
                Seen::File(fs::read(&path).unwrap())
            } else {
                Seen::Fifo
            }
        };
        tree.insert(name, (seen, there.mode() & 0o7777, (there.uid(), there.gid()), there.mtime()));
    }
    tree
}

fn seen(image: &Path) -> (Tree, Attributes) {
    let (mut tree, mut attributes) = (Tree::new(), Attributes::new());
    let disk = Image::open(image, Backing::Refused).unwrap();
    walk::<DiskError>(&disk, &mut |node, content| {
        let path = String::from_utf8(node.path.clone()).unwrap();
        let kind = match &node.kind {
            NodeKind::File { size, extents } => {
                let mut bytes = vec![0; *size as usize];
                for (at, length) in extents {
                    content.read_exact(&mut bytes[*at as usize..(at + length) as usize]).unwrap();
                }
                assert_eq!(content.read(&mut [0]).unwrap(), 0);
                Seen::File(bytes)
            }
            NodeKind::Directory => Seen::Directory,
            NodeKind::Symlink(target) => Seen::Symlink(target.clone()),
            NodeKind::Hardlink(first) => Seen::Hardlink(String::from_utf8(first.clone()).unwrap()),
            NodeKind::Fifo => Seen::Fifo,
            NodeKind::Device => Seen::Device,
        };
        if !node.xattrs.is_empty() {
            let text = |name: &[u8]| String::from_utf8(name.to_vec()).unwrap();
            let own = node.xattrs.iter().map(|(name, value)| (text(name), value.clone())).collect();
            attributes.insert(path.clone(), own);
        }
        if !matches!(&*path, "lost+found") {
            tree.insert(path, (kind, node.mode, (node.uid, node.gid), node.mtime.0));
        }
        Ok(())
    })
    .unwrap();
    (tree, attributes)
}

#[track_caller]
fn same(tree: &Tree, wanted: &Tree, what: &str) {
    let missing = |one: &Tree, other: &Tree| one.keys().find(|path| !other.contains_key(*path)).cloned();
    assert_eq!((missing(tree, wanted), missing(wanted, tree)), (None, None), "{what}");
    for (path, node) in tree.iter().filter(|(path, _)| !path.is_empty()) {
        let other = &wanted[path];
        assert!(node.0 == other.0, "{what}: {path} has other content");
        assert_eq!((node.1, node.2, node.3), (other.1, other.2, other.3), "{what}: {path}");
    }
}

#[test]
fn a_tree_comes_out_as_it_went_in_whatever_the_features() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("tree");
    fill(&root);
    let whole = wanted(&root);
    let kinds: [&[&str]; 9] = [
        &["-t", "ext4"],
        &["-t", "ext4", "-b", "1024"],
        &["-t", "ext4", "-b", "4096", "-O", "inline_data"],
        &["-t", "ext4", "-b", "1024", "-O", "meta_bg,^resize_inode"],
        &["-t", "ext4", "-O", "bigalloc", "-C", "16384"],
        &["-t", "ext4", "-O", "^64bit,^metadata_csum,^extents"],
        &["-t", "ext4", "-O", "sparse_super2,ea_inode,large_dir", "-I", "1024"],
        &["-t", "ext3", "-b", "1024"],
        &["-t", "ext2", "-b", "1024", "-I", "128", "-O", "^filetype"],
    ];
    for kind in kinds {
        let image = dir.path().join("image");
        make(&image, 48 * MIB, &root, kind);
        let mut wanted = whole.clone();
        let seen = || {
            let mut tree = seen(&image).0;
            // With this feature, mke2fs cuts off the hole at its end.
            tree.retain(|path, _| path != "holes" || !kind.contains(&"inline_data"));
            tree
        };
        wanted.retain(|path, _| path != "holes" || !kind.contains(&"inline_data"));
        same(&seen(), &wanted, &format!("{kind:?}"));
        // The index of a large directory is made by a check that is asked for it.
        let code = Command::new("e2fsck").args(["-fyD"]).arg(&image).output().unwrap().status.code();
        assert!(matches!(code, Some(0 | 1)), "{kind:?}: {code:?}");
        same(&seen(), &wanted, &format!("{kind:?}, checked"));
    }
}

#[test]
fn pointers_to_pointers_to_pointers_lead_to_the_end_of_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let (root, image) = (dir.path().join("tree"), dir.path().join("image"));
    fs::create_dir_all(root.join("etc")).unwrap();
    fs::write(root.join("etc/os-release"), "ID=debian\n").unwrap();
    let far = File::create(root.join("far")).unwrap();
    far.write_all_at(&[1; 3000], 1 << 20).unwrap();
    far.write_all_at(&[2; 3000], 200 << 20).unwrap();
    make(&image, 4 * MIB, &root, &["-t", "ext2", "-b", "1024"]);
    let disk = Image::open(&image, Backing::Refused).unwrap();
    let mut found = Vec::new();
    walk::<DiskError>(&disk, &mut |node, content| {
        if let (NodeKind::File { size, extents }, b"far") = (&node.kind, &node.path[..]) {
            let mut bytes = Vec::new();
            content.read_to_end(&mut bytes).unwrap();
            found.push((*size, extents.clone(), bytes));
        }
        Ok(())
    })
    .unwrap();
    // A hole ends and begins with a block.
    let [(size, extents, content)] = &found[..] else { panic!("{}", found.len()) };
    assert_eq!((*size, &extents[..]), ((200 << 20) + 3000, &[(1 << 20, 3072), (200 << 20, 3000)][..]));
    assert_eq!(content.len(), 6072);
    assert_eq!((&content[..3000], &content[3072..]), (&[1; 3000][..], &[2; 3000][..]));
}

#[test]
fn attributes_and_devices_come_along() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("tree");
    fill(&root);
    for (size, options) in [("256", ""), ("128", ""), ("256", "ea_inode")] {
        let image = dir.path().join("image");
        let options = if options.is_empty() { "^ea_inode" } else { options };
        make(&image, 64 * MIB, &root, &["-t", "ext4", "-b", "4096", "-I", size, "-O", options]);
        let large = dir.path().join("large");
        fs::write(&large, vec![b'v'; if options == "ea_inode" { 4096 } else { 2000 }]).unwrap();
        debugfs(
            &image,
            &format!(
                "ea_set /nothing user.small value\nea_set -f {} /nothing user.large\n\
                 ea_set /etc/passwd security.capability \\001\\000\\000\\002\ncd /etc\nmknod zero c 1 5\n",
                large.display()
            ),
        );
        let (tree, attributes) = seen(&image);
        assert_eq!(tree["etc/zero"].0, Seen::Device);
        let mut own = attributes["nothing"].clone();
        own.sort();
        assert_eq!(own[0].0, "user.large", "{size} {options}");
        assert_eq!(own[0].1.len(), fs::metadata(&large).unwrap().len() as usize, "{size} {options}");
        assert!(own[0].1.iter().all(|byte| *byte == b'v'));
        assert_eq!(own[1], ("user.small".to_owned(), b"value".to_vec()));
        assert_eq!(attributes["etc/passwd"][0].0, "security.capability");
        assert_eq!(attributes.len(), 2, "{attributes:?}");
    }
}

#[test]
fn what_a_journal_holds_counts() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("tree");
    fill(&root);
    // What debugfs changed, as blocks of the image after it that differ from those before it.
    for (checksum, wide) in [("", "64bit"), ("-c", "64bit"), ("-c -v 3", "64bit"), ("", "^64bit")] {
        let (before, after) = (dir.path().join("before"), dir.path().join("after"));
        make(&before, 48 * MIB, &root, &["-t", "ext4", "-b", "4096", "-O", wide]);
        fs::copy(&before, &after).unwrap();
        let new = dir.path().join("new");
        // A block that begins as blocks of the journal do.
        let mut content = vec![0xc0, 0x3b, 0x39, 0x98];
        content.extend([7; 9000]);
        fs::write(&new, &content).unwrap();
        debugfs(&after, &format!("write {} added\nrm /etc/passwd\nmkdir /made\n", new.display()));
        let (one, other) = (fs::read(&before).unwrap(), fs::read(&after).unwrap());
        let changed: Vec<usize> = (0..one.len() / 4096)
            .filter(|block| one[block * 4096..][..4096] != other[block * 4096..][..4096])
            .collect();
        let mut script = format!("jo {checksum}\n");
        for block in changed.iter().filter(|block| **block != 0) {
            let path = dir.path().join(format!("block-{block}"));
            fs::write(&path, &other[block * 4096..][..4096]).unwrap();
            script += &format!("jw -b {block} {}\n", path.display());
        }
        debugfs(&before, &format!("{script}jc\n"));
        let told = run(Command::new("dumpe2fs").arg("-h").arg(&before));
        assert!(told.contains("needs_recovery"), "{told}");
        let (tree, _) = seen(&before);
        assert!(tree["added"].0 == Seen::File(content), "{checksum} {wide}");
        assert_eq!(tree["made"].0, Seen::Directory);
        assert!(!tree.contains_key("etc/passwd"));
        same(&tree, &seen(&after).0, &format!("{checksum} {wide}"));
        // And what the kernel's tools make of it.
        let code = Command::new("e2fsck").args(["-p"]).arg(&before).output().unwrap().status.code();
        assert!(matches!(code, Some(0 | 1)), "{code:?}");
        same(&seen(&before).0, &tree, "replayed");
    }
}

#[test]
fn damage_anywhere_is_an_error_or_harmless() {
    let dir = tempfile::tempdir().unwrap();
    let (root, image) = (dir.path().join("tree"), dir.path().join("image"));
    for directory in ["etc", "usr/lib/systemd"] {
        fs::create_dir_all(root.join(directory)).unwrap();
    }
    fs::write(root.join("etc/os-release"), "ID=debian\n").unwrap();
    fs::write(root.join("usr/lib/systemd/systemd"), [7; 20_000]).unwrap();
    make(&image, 2 * MIB, &root, &["-t", "ext4", "-b", "1024", "-O", "inline_data"]);
    let whole = fs::read(&image).unwrap();
    // Places that say something: all that is not zero, outside of the content.
    let told: Vec<usize> = (1024..whole.len()).filter(|at| !matches!(whole[*at], 0 | 7)).collect();
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    for _ in 0..3000 {
        let mut bytes = whole.clone();
        for _ in 0..3 {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            bytes[told[(random % told.len() as u64) as usize]] = (random >> 32) as u8;
        }
        fs::write(&image, &bytes).unwrap();
        let disk = Image::open(&image, Backing::Refused).unwrap();
        let _ = inspect(&disk);
        let mut left = 64 * MIB;
        let _ = walk::<DiskError>(&disk, &mut |_, content| {
            let mut piece = vec![0; 1 << 16];
            while left > 0 {
                match content.read(&mut piece) {
                    Ok(0) | Err(_) => break,
                    Ok(count) => left = left.saturating_sub(count as u64),
                }
            }
            Ok(())
        });
    }
}
