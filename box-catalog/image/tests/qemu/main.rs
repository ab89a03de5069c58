//! Every format beside qemu-img: what it writes is read, and what is written here it reads, bit for bit.

mod log_entry;
mod parallels;
mod pieces;
mod support;
mod vhdx_log;

use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use posada_image::{Backing, Format, ImageError, Machine, Options, Storage, Told, open, open_storage, write};
use proptest::prelude::*;
use support::{Room, qemu_img, run, same, text, whole};

const NOTHING: Told<'static> = Told { progress: &|_| {}, cancelled: &|| false };

fn options(stream_optimized: bool) -> Options {
    Options { stream_optimized, machine: Machine { name: "a <b> & \"c\"".into(), cpus: 2, memory: 1024 } }
}

#[test]
fn what_qemu_img_writes_is_read() {
    let room = Room::new();
    let raw = room.usual();
    let variants: [(&str, Format, &[&str]); 20] = [
        ("qcow2", Format::Qcow2, &[]),
        ("qcow2", Format::Qcow2, &["-o", "compat=0.10"]),
        ("qcow2", Format::Qcow2, &["-c"]),
        ("qcow2", Format::Qcow2, &["-c", "-o", "cluster_size=2M"]),
        ("qcow2", Format::Qcow2, &["-c", "-o", "compression_type=zstd"]),
        ("qcow2", Format::Qcow2, &["-o", "cluster_size=512"]),
        ("qcow2", Format::Qcow2, &["-o", "extended_l2=on,cluster_size=128k"]),
        ("qcow2", Format::Qcow2, &["-c", "-o", "extended_l2=on,cluster_size=128k,compression_type=zstd"]),
        ("qcow2", Format::Qcow2, &["-o", "preallocation=metadata"]),
        ("vmdk", Format::Vmdk, &[]),
        ("vmdk", Format::Vmdk, &["-o", "subformat=streamOptimized"]),
        ("vmdk", Format::Vmdk, &["-o", "subformat=monolithicFlat"]),
        ("vmdk", Format::Vmdk, &["-o", "subformat=twoGbMaxExtentSparse"]),
        ("vmdk", Format::Vmdk, &["-o", "zeroed_grain=on"]),
        ("vdi", Format::Vdi, &[]),
        ("vdi", Format::Vdi, &["-o", "static=on"]),
        ("vpc", Format::Vhd, &["-o", "force_size=on"]),
        ("vpc", Format::Vhd, &["-o", "subformat=fixed,force_size=on"]),
        ("vhdx", Format::Vhdx, &["-o", "subformat=dynamic"]),
        ("parallels", Format::Parallels, &[]),
    ];
    for (number, (name, format, more)) in variants.into_iter().enumerate() {
        let file = room.path(&format!("{number}.img"));
        let args = ["convert", "-f", "raw", "-O", name];
        qemu_img(&[&args[..], more, &[text(&raw), text(&file)]].concat());
        let (found, image) =
            open(&file, Backing::Refused).unwrap_or_else(|error| panic!("{name} {more:?}: {error}"));
        assert_eq!(found, format, "{more:?}");
        same(image.as_ref(), &raw);
        std::fs::remove_file(file).unwrap();
    }
    let (format, image) = open(&raw, Backing::Refused).unwrap();
    assert_eq!(format, Format::Raw);
    same(image.as_ref(), &raw);
    let data: u64 =
        posada_image::Extents::of(image.as_ref(), &|| false).map(|extent| extent.unwrap().length).sum();
    assert!(data < 10 << 20, "holes of the host's file system are holes: {data}");
}

#[test]
fn vhdx_of_fixed_size_is_read() {
    let room = Room::new();
    let raw = room.disk(9 << 20, &[(0, 5000), (8 << 20, 70_000)]);
    let file = room.path("fixed.vhdx");
    qemu_img(&["convert", "-O", "vhdx", "-o", "subformat=fixed", text(&raw), text(&file)]);
    same(open(&file, Backing::Refused).unwrap().1.as_ref(), &raw);
}

#[test]
fn backing_files_are_followed_only_where_asked() {
    let room = Room::new();
    let raw = room.usual();
    let (base, top) = (room.path("base.qcow2"), room.path("top.qcow2"));
    qemu_img(&["convert", "-O", "qcow2", text(&raw), text(&base)]);
    qemu_img(&["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", "base.qcow2", text(&top), "71M"]);
    run("qemu-io", &["-f", "qcow2", "-c", "write -P 7 1M 100k", "-c", "write -z 5M 64k", text(&top)]);
    assert!(
        matches!(open(&top, Backing::Refused), Err(ImageError::Differences(name)) if name.contains("base.qcow2"))
    );
    let flat = room.path("flat.raw");
    qemu_img(&["convert", "-O", "raw", text(&top), text(&flat)]);
    same(open(&top, Backing::Followed).unwrap().1.as_ref(), &flat);
    let own = room.path("loop.qcow2");
    qemu_img(&["create", "-q", "-u", "-f", "qcow2", "-F", "qcow2", "-b", "loop.qcow2", text(&own), "1M"]);
    assert!(matches!(open(&own, Backing::Followed), Err(ImageError::Corrupt(_))));
}

#[test]
fn descriptors_lead_to_no_other_files() {
    let room = Room::new();
    let place = room.path("d.vmdk");
    for (name, why) in [
        ("/etc/passwd", "elsewhere"),
        ("../x", "elsewhere"),
        ("gone.vmdk", "not there"),
        ("link", "not there"),
    ] {
        std::fs::write(&place, format!("# Disk DescriptorFile\nRW 1 FLAT \"{name}\" 0\n")).unwrap();
        if name == "link" {
            std::os::unix::fs::symlink("/etc/passwd", room.path("link")).unwrap();
        }
        let Err(error) = open(&place, Backing::Refused) else { panic!("{name}") };
        assert!(error.to_string().contains(why), "{error}");
    }
}

/// Writes `raw` in a format, and has qemu-img look at it.
fn written(room: &Room, raw: &Path, format: Format, stream: bool) {
    let (_, image) = open(raw, Backing::Refused).unwrap();
    let file = room.path(&format!("out.{format}"));
    write(format, image.as_ref(), &file, &options(stream), NOTHING).unwrap();
    let name = format.name();
    let compared = qemu_img(&["compare", "-f", "raw", "-F", name, text(raw), text(&file)]);
    assert!(compared.contains("identical"), "{name}: {compared}");
    if matches!(format, Format::Qcow2 | Format::Vdi | Format::Vhdx | Format::Vmdk) {
        let checked = qemu_img(&["check", "-f", name, text(&file)]);
        assert!(checked.contains("No errors"), "{name}: {checked}");
    }
    let (found, image) = open(&file, Backing::Refused).unwrap();
    assert_eq!(found, format);
    image.check(&|| false).unwrap();
    let (mut mine, mut expected) = (whole(image.as_ref()), std::fs::read(raw).unwrap());
    // Formats of sectors have only whole ones.
    let size = mine.len().max(expected.len());
    mine.resize(size, 0);
    expected.resize(size, 0);
    assert!(mine == expected, "{name}");
    std::fs::remove_file(file).unwrap();
    assert_eq!(std::fs::read_dir(room.directory()).unwrap().count(), 1, "nothing is left beside it");
}

const WRITTEN: [(Format, bool); 6] = [
    (Format::Raw, false),
    (Format::Qcow2, false),
    (Format::Vmdk, false),
    (Format::Vmdk, true),
    (Format::Vdi, false),
    (Format::Vhdx, false),
];

#[test]
fn what_is_written_is_read_by_qemu_img() {
    let room = Room::new();
    let raw = room.usual();
    for (format, stream) in WRITTEN {
        written(&room, &raw, format, stream);
    }
}

#[test]
fn holes_stay_holes() {
    let room = Room::new();
    let raw = room.disk(3 << 30, &[(1 << 30, 100_000)]);
    let (_, image) = open(&raw, Backing::Refused).unwrap();
    for (format, stream) in WRITTEN {
        let file = room.path("out");
        write(format, image.as_ref(), &file, &options(stream), NOTHING).unwrap();
        let taken = std::fs::metadata(&file).unwrap().blocks() * 512;
        assert!(taken < 3 << 20, "{format} takes {taken} bytes");
        if format == Format::Vhdx {
            // qemu-img reads all of a VHDX, holes too: for 3 GiB that is half a minute.
            around_the_data(&room, &raw, &file);
            continue;
        }
        let compared = qemu_img(&["compare", "-f", "raw", "-F", format.name(), text(&raw), text(&file)]);
        assert!(compared.contains("identical"), "{format}: {compared}");
    }
}

/// Compares what qemu-img reads of a VHDX around 1 GiB; and that the rest is a hole.
fn around_the_data(room: &Room, raw: &Path, vhdx: &Path) {
    const MIB: u64 = 1 << 20;
    let part = room.path("part");
    let (from, to) = (format!("if={}", text(vhdx)), format!("of={}", text(&part)));
    qemu_img(&["dd", "-f", "vhdx", "-O", "raw", "bs=1M", "skip=1000", "count=1056", &from, &to]);
    let (_, image) = open(raw, Backing::Refused).unwrap();
    let mut expected = vec![0; 56 * MIB as usize];
    image.read_at(&mut expected, 1000 * MIB).unwrap();
    assert!(std::fs::read(part).unwrap() == expected);
    let (_, image) = open(vhdx, Backing::Refused).unwrap();
    let data: Vec<_> =
        posada_image::Extents::of(image.as_ref(), &|| false).collect::<Result<_, _>>().unwrap();
    assert_eq!(image.size(), 3 << 30);
    assert!(data.len() == 1 && data[0].offset == 1024 * MIB && data[0].length <= 2 * MIB, "{data:?}");
}

#[test]
fn a_file_appears_as_a_whole() {
    let room = Room::new();
    let raw = room.usual();
    let (_, image) = open(&raw, Backing::Refused).unwrap();
    let file = room.path("out.qcow2");
    std::fs::write(&file, "old").unwrap();
    // What one that was killed has left.
    std::fs::write(room.path(".out.qcow2.part"), vec![1; 1 << 20]).unwrap();
    let told = Told { cancelled: &|| true, ..NOTHING };
    let cancelled = write(Format::Qcow2, image.as_ref(), &file, &options(false), told);
    assert!(matches!(cancelled, Err(ImageError::Cancelled)));
    assert_eq!(std::fs::read(&file).unwrap(), b"old");
    assert!(!room.path(".out.qcow2.part").exists());
    // A link there could lead to any file of the host.
    std::os::unix::fs::symlink(&file, room.path(".out.qcow2.part")).unwrap();
    let linked = write(Format::Qcow2, image.as_ref(), &file, &options(false), NOTHING);
    assert!(matches!(linked, Err(ImageError::Io { .. })));
    assert_eq!(std::fs::read(&file).unwrap(), b"old");
    std::fs::remove_file(room.path(".out.qcow2.part")).unwrap();
    let full = write(Format::Qcow2, image.as_ref(), Path::new("/dev/full/x"), &options(false), NOTHING);
    assert!(matches!(full, Err(ImageError::Io { .. })));
    write(Format::Qcow2, image.as_ref(), &file, &options(false), NOTHING).unwrap();
    same(open(&file, Backing::Refused).unwrap().1.as_ref(), &raw);
}

#[test]
fn an_ova_holds_a_disk_that_qemu_img_reads() {
    let room = Room::new();
    let raw = room.usual();
    let (_, image) = open(&raw, Backing::Refused).unwrap();
    let file = room.path("out.ova");
    write(Format::Ova, image.as_ref(), &file, &options(true), NOTHING).unwrap();
    run("tar", &["-xf", text(&file), "-C", text(room.directory())]);
    let disk = room.path("a--b-----c--disk1.vmdk");
    let compared = qemu_img(&["compare", "-f", "raw", "-F", "vmdk", text(&raw), text(&disk)]);
    assert!(compared.contains("identical"), "{compared}");
    let manifest = std::fs::read_to_string(room.path("a--b-----c-.mf")).unwrap();
    for line in manifest.lines() {
        let (name, digest) = line.strip_prefix("SHA256(").unwrap().split_once(")= ").unwrap();
        assert!(run("sha256sum", &[text(&room.path(name))]).starts_with(digest), "{line}");
    }
    let description = std::fs::read_to_string(room.path("a--b-----c-.ovf")).unwrap();
    let length = std::fs::metadata(&disk).unwrap().len();
    assert!(description.contains(&format!("ovf:size=\"{length}\"")));
}

#[test]
fn damaged_images_are_refused_and_nothing_panics() {
    let room = Room::new();
    let raw = room.disk(1 << 20, &[(0, 70_000), (900 << 10, 70_000)]);
    for (name, more) in [
        ("qcow2", "cluster_size=4096"),
        ("vmdk", "subformat=monolithicSparse"),
        ("vmdk", "subformat=streamOptimized"),
        ("vdi", "static=off"),
        ("vpc", "force_size=on"),
        ("vhdx", "block_size=1M"),
        ("parallels", "cluster_size=1M"),
    ] {
        let file = room.path("x");
        qemu_img(&["convert", "-O", name, "-o", more, text(&raw), text(&file)]);
        let bytes = std::fs::read(&file).unwrap();
        // Cut anywhere, it is refused or lacks something that is noticed.
        for cut in [0, 3, 100, 511, 600, 4096, 70_000, bytes.len() / 2] {
            let cut = bytes[..cut.min(bytes.len() - 1)].to_vec();
            let length = cut.len();
            if let Ok((format, image)) = open_storage(Storage::memory(cut))
                && format != Format::Raw
            {
                assert!(image.check(&|| false).is_err(), "{name} {more} cut to {length}");
            }
        }
        // Flipped where headers and tables are.
        let writer = std::fs::File::options().write(true).open(&file).unwrap();
        for place in
            (0..bytes.len().min(4096)).step_by(7).chain((bytes.len() - 1600..bytes.len()).step_by(41))
        {
            // In the file: copying all of it for each byte takes longer than all else.
            writer.write_all_at(&[bytes[place] ^ 0xff], place as u64).unwrap();
            if let Ok((_, image)) = open_storage(Storage::open(&file).unwrap()) {
                let steps = std::cell::Cell::new(0);
                let cancelled = || {
                    steps.set(steps.get() + 1);
                    steps.get() > 5000
                };
                let _ = image.check(&cancelled);
                let mut buffer = vec![0; 70_000.min(image.size() as usize)];
                let _ = image.read_at(&mut buffer, 0);
            }
            writer.write_all_at(&bytes[place..=place], place as u64).unwrap();
        }
    }
}

#[test]
fn tables_that_lead_to_the_same_place_twice_are_refused() {
    let room = Room::new();
    let raw = room.disk(4 << 20, &[(0, 4 << 20)]);
    let file = room.path("x.qcow2");
    qemu_img(&["convert", "-O", "qcow2", text(&raw), text(&file)]);
    let mut bytes = std::fs::read(&file).unwrap();
    let be = |at: usize| {
        u64::from_be_bytes(bytes[at..at + 8].try_into().unwrap()) as usize & 0x00ff_ffff_ffff_fe00
    };
    let l2 = be(be(40));
    bytes.copy_within(l2..l2 + 8, l2 + 80);
    let (_, image) = open_storage(Storage::memory(bytes)).unwrap();
    assert!(matches!(image.check(&|| false), Err(ImageError::Corrupt(what)) if what.contains("two places")));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3, ..ProptestConfig::default() })]

    #[test]
    fn random_sparse_disks_survive_both_ways(
        size in 1_u64..40_000,
        runs in proptest::collection::vec((0_u64..40_000, 1_usize..300_000), 0..12),
        compressed in any::<bool>(),
    ) {
        let room = Room::new();
        let size = size * 512;
        let runs: Vec<_> = runs.into_iter().map(|(at, length)| (at * 512 % size, length)).collect();
        let raw = room.disk(size, &runs);
        for (format, stream) in WRITTEN {
            written(&room, &raw, format, stream);
        }
        for name in ["qcow2", "vmdk", "vdi", "vhdx", "parallels"] {
            let file = room.path("in");
            let packed: &[&str] = if compressed && name == "qcow2" { &["-c"] } else { &[] };
            qemu_img(&[&["convert", "-O", name][..], packed, &[text(&raw), text(&file)]].concat());
            same(open(&file, Backing::Refused).unwrap().1.as_ref(), &raw);
        }
    }
}
