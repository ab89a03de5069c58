//! Images of mksquashfs, as they are and changed anywhere.

use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use proptest::prelude::*;

use super::*;

/// Bytes in all files that are read of one image.
const MOST: u64 = 64 << 20;

type Files = BTreeMap<String, (Kind, Vec<u8>)>;

/// All that is in an image, with as much of its content.
fn read(image: &[u8]) -> Result<Files, Refusal> {
    let (mut files, mut total) = (Files::new(), 0);
    walk(image, Limits::default(), &mut |path, entry, data| {
        let mut content = Vec::new();
        data.take(MOST).read_to_end(&mut content).map_err(|error| Refusal::reading(&error))?;
        total += content.len() as u64;
        if total > MOST || files.len() > 10_000 {
            return Err(Refusal::TooLarge("what is read of it".to_owned()));
        }
        files.insert(String::from_utf8_lossy(path).into_owned(), (entry.kind.clone(), content));
        Ok(())
    })?;
    Ok(files)
}

fn image(options: &[&str]) -> Vec<u8> {
    let temp = tempfile::tempdir().unwrap();
    let tree = temp.path().join("tree");
    std::fs::create_dir_all(tree.join("a/b")).unwrap();
    std::fs::write(tree.join("a/small"), "small").unwrap();
    std::fs::hard_link(tree.join("a/small"), tree.join("a/b/same")).unwrap();
    symlink("small", tree.join("a/link")).unwrap();
    let large: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
    std::fs::write(tree.join("large"), large).unwrap();
    let sparse = File::create(tree.join("sparse")).unwrap();
    sparse.write_all_at(b"end", 900_000).unwrap();
    for number in 0..600 {
        std::fs::write(tree.join(format!("a/b/{number}")), number.to_string()).unwrap();
    }
    pack(&tree, options)
}

/// An image of `tree`.
fn pack(tree: &Path, options: &[&str]) -> Vec<u8> {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("image");
    let mut mksquashfs = Command::new("mksquashfs");
    mksquashfs.arg(tree).arg(&path).args(["-quiet", "-no-progress", "-processors", "1"]).args(options);
    assert!(mksquashfs.output().expect("scripts/packages.txt has squashfs-tools").status.success());
    std::fs::read(path).unwrap()
}

fn small() -> &'static [u8] {
    static IMAGE: OnceLock<Vec<u8>> = OnceLock::new();
    IMAGE.get_or_init(|| image(&["-comp", "zstd", "-b", "4096", "-noI", "-noF"]))
}

#[test]
fn an_image_is_its_files_however_it_is_made() {
    let options: [&[&str]; 6] = [
        &["-comp", "gzip"],
        &["-comp", "xz", "-b", "1M", "-Xbcj", "x86"],
        &["-comp", "zstd", "-b", "4096"],
        &["-noI", "-noD", "-noF", "-noX"],
        &["-no-fragments", "-no-exports", "-no-xattrs"],
        &["-always-use-fragments", "-nopad"],
    ];
    for options in options {
        let files = read(&image(options)).unwrap();
        let names = files.keys().filter(|name| !name.starts_with("a/b/")).map(String::as_str);
        assert_eq!(names.collect::<Vec<_>>(), ["", "a", "a/b", "a/link", "a/small", "large", "sparse"]);
        assert_eq!(files.keys().filter(|name| name.starts_with("a/b/")).count(), 601);
        assert_eq!(files["a/b/599"].1, b"599");
        // Which of its names comes first is the image's.
        let pair = [&files["a/small"], &files["a/b/same"]];
        assert!(pair.iter().any(|(_, content)| content == b"small"), "{pair:?}");
        assert!(pair.iter().any(|(kind, _)| matches!(kind, Kind::Hardlink(_))), "{pair:?}");
        assert_eq!(files["a/link"].0, Kind::Symlink(b"small".to_vec()));
        let large = &files["large"].1;
        assert!(large.chunks(4).zip(0_u32..).all(|(bytes, number)| bytes == number.to_le_bytes()));
        assert_eq!(large.len(), 1_200_000);
        let Kind::File { size, extents } = &files["sparse"].0 else { panic!("{:?}", files["sparse"].0) };
        assert!(*size == 900_003 && extents.iter().map(|extent| extent.length).sum::<u64>() < 1 << 20);
        assert!(files["sparse"].1.ends_with(b"end"));
    }
}

#[test]
fn what_is_not_read_is_named() {
    for name in ["lzo", "lz4"] {
        let error = read(&image(&["-comp", name])).unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
    }
    let mut old = small().to_vec();
    old[28] = 3;
    assert!(read(&old).unwrap_err().to_string().contains("squashfs 3.0"));
}

#[test]
fn an_image_that_ends_early_is_told() {
    for length in [0, 50, 96, 5000, small().len() / 2] {
        assert!(matches!(read(&small()[..length]), Err(Refusal::Truncated)), "{length}");
    }
}

#[test]
fn a_directory_has_one_place_in_the_tree() {
    let temp = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(temp.path().join("x")).unwrap();
    let mut image = pack(temp.path(), &["-noI"]);
    assert_eq!(read(&image).unwrap().len(), 2);
    // The entry of `x`: its inode's place, a difference, the kind of directories, the length of its name less one, the name.
    let found: Vec<usize> =
        image.windows(5).enumerate().filter(|(_, it)| *it == b"\x01\0\0\0x").map(|(at, _)| at).collect();
    let [at] = found[..] else { panic!("{found:?}") };
    let root = image[32..34].to_vec();
    image[at - 4..at - 2].copy_from_slice(&root);
    let error = read(&image).unwrap_err();
    assert!(error.to_string().contains("second place"), "{error}");
}

#[test]
fn a_name_does_not_lead_out() {
    let temp = tempfile::tempdir().unwrap();
    std::fs::write(temp.path().join("etcXpasswd"), "").unwrap();
    std::fs::write(temp.path().join("YY"), "").unwrap();
    let image = pack(temp.path(), &["-noI"]);
    for (from, to) in [(&b"etcXpasswd"[..], &b"etc/passwd"[..]), (b"YY", b".."), (b"YY", b"a\0")] {
        let mut image = image.clone();
        let at = image.windows(from.len()).position(|it| it == from).unwrap();
        image[at..][..to.len()].copy_from_slice(to);
        assert!(matches!(read(&image), Err(Refusal::LeadsOut(_) | Refusal::Absurd { .. })), "{to:?}");
    }
}

#[test]
fn limits_hold_before_anything_is_read() {
    let few = Limits { entries: 100, ..Limits::default() };
    let error = walk(small(), few, &mut |_, _, _| Ok(())).unwrap_err();
    assert!(matches!(error, Refusal::TooLarge(_)), "{error}");
    let little = Limits { bytes: 1_000_000, ..Limits::default() };
    let error = walk(small(), little, &mut |path, _, _| {
        assert_ne!(path, b"large");
        Ok(())
    });
    assert!(matches!(error, Err(Refusal::TooLarge(_))), "{error:?}");
}

#[test]
fn sockets_count_as_entries() {
    let temp = tempfile::tempdir().unwrap();
    let sockets: Vec<_> = (0..30)
        .map(|number| std::os::unix::net::UnixListener::bind(temp.path().join(number.to_string())).unwrap())
        .collect();
    let image = pack(temp.path(), &[]);
    drop(sockets);
    assert_eq!(read(&image).unwrap().len(), 1, "they are not made");
    let error = walk(&image[..], Limits { entries: 20, ..Limits::default() }, &mut |_, _, _| Ok(()));
    assert!(matches!(error, Err(Refusal::TooLarge(_))), "{error:?}");
}

#[test]
fn a_damaged_block_is_told_once() {
    let temp = tempfile::tempdir().unwrap();
    std::fs::write(temp.path().join("file"), "posada".repeat(1000)).unwrap();
    let mut image = pack(temp.path(), &["-noI", "-no-fragments", "-comp", "gzip"]);
    // The file's only block stands behind the superblock.
    image[96..110].fill(0xff);
    let text = read(&image).unwrap_err().to_string();
    assert_eq!(text.matches("it is damaged").count(), 1, "{text}");
}

#[test]
fn a_file_in_too_many_pieces_is_filled() {
    let temp = tempfile::tempdir().unwrap();
    let file = File::create(temp.path().join("pieces")).unwrap();
    for piece in 0..5_u64 {
        file.write_all_at(b"x", piece * 8192).unwrap();
    }
    let image = pack(temp.path(), &["-b", "4096"]);
    let superblock = Superblock::read(&&image[..]).unwrap();
    let blocks = Blocks::new(&image[..], &superblock);
    let number = inode_of_file(&blocks, &superblock, superblock.root);
    let Body::File(stored) = Inode::read(&blocks, &superblock, number).unwrap().body else {
        panic!("no file")
    };
    assert_eq!(stored.extents_up_to(5).unwrap().unwrap().len(), 5);
    assert_eq!(stored.extents_up_to(4).unwrap(), None);
    let mut filled = Vec::new();
    Content::new(&blocks, &superblock, stored, false).read_to_end(&mut filled).unwrap();
    assert_eq!(filled, std::fs::read(temp.path().join("pieces")).unwrap());
}

/// The reference of the only file in the root.
fn inode_of_file(blocks: &Blocks<&[u8]>, superblock: &Superblock, root: u64) -> u64 {
    let Body::Directory { start, offset, size } = Inode::read(blocks, superblock, root).unwrap().body else {
        panic!("no directory")
    };
    Listing::open(blocks, superblock, start, offset, size).unwrap().next().unwrap().unwrap().inode
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn an_image_that_was_changed_is_read_or_refused(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        head in prop::collection::vec((0_usize..96, any::<u8>()), 0..2),
    ) {
        let mut image = small().to_vec();
        // Tables are at the end, and are where harm is done.
        let tables = image.len().saturating_sub(40_000);
        for (index, byte) in changes {
            let at = tables + index.index(image.len() - tables);
            image[at] = byte;
        }
        for (at, byte) in head {
            image[at] = byte;
        }
        check(&image);
    }
}
