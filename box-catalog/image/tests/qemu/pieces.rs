//! VMDKs whose descriptor names pieces of several kinds.

use std::fs;

use posada_image::{Backing, ImageError, open};

use crate::support::{Room, qemu_img, same, text};

#[test]
fn flat_and_sparse_pieces_make_one_disk() {
    let room = Room::new();
    let raw = room.disk(12 << 20, &[(0, 100_000), (4 << 20, 700_000), (11 << 20, 1 << 20)]);
    let bytes = fs::read(&raw).unwrap();
    for (name, range) in [("a", 0..5 << 20), ("b", 9 << 20..12 << 20)] {
        let part = room.path(name);
        fs::write(&part, &bytes[range]).unwrap();
        let file = room.path(&format!("{name}.vmdk"));
        qemu_img(&[
            "convert",
            "-O",
            "vmdk",
            "-o",
            "subformat=twoGbMaxExtentSparse",
            text(&part),
            text(&file),
        ]);
    }
    fs::write(room.path("flat"), &bytes[5 << 20..8 << 20]).unwrap();
    assert!(bytes[8 << 20..9 << 20].iter().all(|byte| *byte == 0));
    let descriptor = "# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID=ffffffff\n\
                      createType=\"twoGbMaxExtentSparse\"\nRW 10240 SPARSE \"a-s001.vmdk\"\nRW 4096 FLAT \"flat\" 0\nRW 2048 FLAT \"flat\" 4096\n\
                      RW 2048 ZERO\nRW 6144 SPARSE \"b-s001.vmdk\"\n";
    let file = room.path("all.vmdk");
    fs::write(&file, descriptor).unwrap();
    same(open(&file, Backing::Refused).unwrap().1.as_ref(), &raw);
    // It leaves out what is said to be zeros.
    fs::write(room.path("zeros"), vec![0; 1 << 20]).unwrap();
    fs::write(&file, descriptor.replace("ZERO", "FLAT \"zeros\" 0")).unwrap();
    same(open(&file, Backing::Refused).unwrap().1.as_ref(), &raw);
    let joined = room.path("joined.raw");
    qemu_img(&["convert", "-O", "raw", text(&file), text(&joined)]);
    assert!(fs::read(joined).unwrap() == bytes, "qemu-img reads the same");
}

#[test]
fn pieces_of_the_same_bytes_are_refused() {
    let room = Room::new();
    let file = room.path("d.vmdk");
    fs::write(room.path("a"), vec![1; 8192]).unwrap();
    for (second, fits) in [("0", false), ("1", false), ("8", true)] {
        let descriptor =
            format!("# Disk DescriptorFile\nRW 8 FLAT \"a\" {second}\nRW 8 FLAT \"a\" 0\nRW 4 ZERO\n");
        fs::write(&file, descriptor).unwrap();
        match open(&file, Backing::Refused) {
            Ok((_, image)) => assert!(fits && image.size() == 20 * 512),
            Err(ImageError::Corrupt(what)) => assert!(!fits && what.contains("the same bytes"), "{what}"),
            Err(other) => panic!("{other}"),
        }
    }
}
