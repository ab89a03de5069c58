//! Parallels disks in one piece and in several, as their description has them; each expanding piece is one that qemu-img makes.

use std::fs;
use std::path::Path;

use posada_image::{Bundle, Extents, Format, ImageError, ReadImage, Result, Storage};

use crate::support::{Room, qemu_img, same, text};

const MIB: u64 = 1 << 20;
const ID: &str = "{5fbaabe3-6958-40ff-92a7-860e329aab41}";

/// A piece of a disk, and where it begins and ends, bytes.
struct Piece {
    range: (u64, u64),
    plain: bool,
}

fn pieces(ranges: &[(u64, u64, bool)]) -> Vec<Piece> {
    ranges.iter().map(|(start, end, plain)| Piece { range: (*start, *end), plain: *plain }).collect()
}

fn name(number: usize) -> String {
    format!("harddisk.hdd.{number}.{ID}.hds")
}

/// The description of a disk, as Parallels Desktop writes it.
fn description(pieces: &[Piece]) -> String {
    let size = pieces.iter().map(|piece| piece.range.1).max().unwrap_or(0) / 512;
    let storages: String = pieces
        .iter()
        .enumerate()
        .map(|(number, piece)| {
            let (start, end) = (piece.range.0 / 512, piece.range.1 / 512);
            let kind = if piece.plain { "Plain" } else { "Compressed" };
            format!(
                "<Storage><Start>{start}</Start><End>{end}</End><Blocksize>2048</Blocksize><Image><GUID>{ID}</GUID>\
                 <Type>{kind}</Type><File>{}</File></Image></Storage>",
                name(number)
            )
        })
        .collect();
    format!(
        "<?xml version='1.0' encoding='UTF-8'?>\n<Parallels_disk_image Version=\"1.0\"><Disk_Parameters>\
         <Disk_size>{size}</Disk_size><Cylinders>{size}</Cylinders><PhysicalSectorSize>4096</PhysicalSectorSize>\
         <LogicSectorSize>512</LogicSectorSize><Heads>16</Heads><Sectors>32</Sectors><Padding>0</Padding><Encryption>\
         <Engine>{{00000000-0000-0000-0000-000000000000}}</Engine><Data></Data></Encryption></Disk_Parameters>\
         <StorageData>{storages}</StorageData><Snapshots><Shot><GUID>{ID}</GUID>\
         <ParentGUID>{{00000000-0000-0000-0000-000000000000}}</ParentGUID></Shot></Snapshots></Parallels_disk_image>\n"
    )
}

/// Makes the files of a disk's pieces; what qemu-img reads of the expanding ones, all behind each other, is in `joined.raw`.
fn make(room: &Room, raw: &Path, pieces: &[Piece]) -> Bundle {
    let bytes = fs::read(raw).unwrap();
    let mut bundle = Bundle::default();
    let mut joined = vec![0; bytes.len()];
    for (number, piece) in pieces.iter().enumerate() {
        let (start, end) = (piece.range.0 as usize, piece.range.1 as usize);
        let (part, file) = (room.path("part.raw"), room.path(&name(number)));
        sparse(&part, &bytes[start..end]);
        if piece.plain {
            fs::rename(&part, &file).unwrap();
            joined[start..end].copy_from_slice(&bytes[start..end]);
        } else {
            qemu_img(&["convert", "-f", "raw", "-O", "parallels", text(&part), text(&file)]);
            qemu_img(&["convert", "-f", "parallels", "-O", "raw", text(&file), text(&part)]);
            joined[start..end].copy_from_slice(&fs::read(&part).unwrap());
        }
        bundle.add(format!("a.pvm/harddisk.hdd/{}", name(number)), Storage::open(&file).unwrap()).unwrap();
    }
    fs::write(room.path("joined.raw"), joined).unwrap();
    bundle
}

/// A file with `bytes`, where holes are holes.
fn sparse(path: &Path, bytes: &[u8]) {
    use std::os::unix::fs::FileExt;
    let file = fs::File::create(path).unwrap();
    file.set_len(bytes.len() as u64).unwrap();
    for (number, piece) in bytes.chunks(4096).enumerate() {
        if piece.iter().any(|byte| *byte != 0) {
            file.write_all_at(piece, number as u64 * 4096).unwrap();
        }
    }
}

fn disk(mut bundle: Bundle, description: &str) -> Result<Box<dyn ReadImage>> {
    let text = Storage::memory(description.into());
    bundle.add("a.pvm/harddisk.hdd/DiskDescriptor.xml".to_owned(), text)?;
    let (format, image) = bundle.disk()?;
    assert_eq!(format, Format::Parallels);
    Ok(image)
}

#[test]
fn disks_in_pieces_are_put_together() {
    let room = Room::new();
    let runs = [(0, 100_000), (5 * MIB - 3000, 70_000), (11 * MIB, 2_000_000), (16 * MIB - 700, 700)];
    let raw = room.disk(16 * MIB, &runs);
    let (a, b, end) = (5 * MIB, 12 * MIB - 512, 16 * MIB);
    for ranges in [
        &[(0, end, false)][..],
        &[(0, end, true)],
        &[(0, a, false), (a, b, false), (b, end, false)],
        &[(0, a, true), (a, b, true), (b, end, true)],
        // In any order.
        &[(a, b, true), (b, end, false), (0, a, false)],
    ] {
        let pieces = pieces(ranges);
        let bundle = make(&room, &raw, &pieces);
        assert!(fs::read(room.path("joined.raw")).unwrap() == fs::read(&raw).unwrap());
        let image = disk(bundle, &description(&pieces)).unwrap();
        same(image.as_ref(), &raw);
        let data: u64 = Extents::of(image.as_ref(), &|| false).map(|extent| extent.unwrap().length).sum();
        assert!(data < 8 * MIB, "holes of plain pieces are holes, too: {data}");
    }
}

#[test]
fn pieces_that_do_not_make_a_disk_are_refused() {
    let room = Room::new();
    let raw = room.disk(3 * MIB, &[(0, 5000)]);
    let two = pieces(&[(0, MIB, false), (MIB, 3 * MIB, true)]);
    let sound = description(&two);
    let refused = |text: &str| match disk(make(&room, &raw, &two), text) {
        Ok(_) => panic!("{text}"),
        Err(error) => error,
    };
    for (from, to, why) in [
        (">Plain<", ">Compressed<", "is no expanding disk"),
        (".hdd.1.", ".hdd.7.", "which is not there"),
        (".hdd.1.", "../.hdd.1.", "which lies elsewhere"),
        ("<End>6144<", "<End>6145<", "not as long as it is said to be"),
        ("<Start>2048<", "<Start>2000<", "overlap"),
    ] {
        assert!(sound.contains(from));
        let error = refused(&sound.replace(from, to));
        assert!(error.to_string().contains(why), "{error} instead of {why}");
    }
    let longer = sound.replace("Disk_size>6144<", "Disk_size>6152<").replace("<End>6144<", "<End>6152<");
    assert!(matches!(refused(&longer), ImageError::Truncated(what) if what.contains(".hdd.1.")));
    let shifted = sound.replace(">2048</End>", ">4096</End>").replace("<Start>2048<", "<Start>4096<");
    assert!(matches!(refused(&shifted), ImageError::Corrupt(what) if what.contains("differ in size")));
    let snapshot = sound.replace("</Image></Storage>", "</Image><Image><File>x</File></Image></Storage>");
    let error = refused(&snapshot);
    let hint = posada_provider_api::Fault::hint(&error).unwrap();
    assert!(matches!(error, ImageError::Differences(_)) && hint.contains("merge the snapshots"));
    let mut two_disks = make(&room, &raw, &two);
    let other = Storage::memory(sound.clone().into());
    two_disks.add("a.pvm/other.hdd/DiskDescriptor.xml".to_owned(), other).unwrap();
    assert!(
        matches!(disk(two_disks, &sound), Err(ImageError::Ambiguous(what)) if what.contains("other.hdd"))
    );
}
