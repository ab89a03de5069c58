//! Entries for the fuzz targets in `fuzz/`: each takes bytes that nobody has looked at.

use crate::{Extents, ImageError, ReadImage, Storage, open_storage};

/// Most bytes that are read of a disk.
const READ: u64 = 8 << 20;

/// A disk image of any format.
pub fn image(bytes: &[u8]) {
    if let Ok((_, image)) = open_storage(Storage::memory(bytes.to_vec())) {
        look(image.as_ref());
    }
}

/// The log of a VHDX, whose entries get the checksums they should have.
pub fn vhdx_log(log: &[u8]) {
    image(&vhdx_with(log));
}

/// An empty disk of 4 MiB with a log.
fn vhdx_with(log: &[u8]) -> Vec<u8> {
    const LOG: usize = 1 << 20;
    const LENGTH: usize = 6 << 20;
    let mut bytes = vec![0; LENGTH];
    let mut put = |at: usize, piece: &[u8]| bytes[at..at + piece.len()].copy_from_slice(piece);
    put(0, b"vhdxfile");
    for (at, piece) in crate::write::vhdx_structures(4 << 20, 1 << 20, uuid::Uuid::nil()) {
        put(at as usize, &piece);
    }
    put(LOG, &log[..log.len().min(LOG)]);
    // The first entry's identity is that of the log.
    let id: [u8; 16] = *bytes[LOG + 32..].first_chunk().unwrap_or(&[0; 16]);
    for at in [64 << 10, 128 << 10] {
        bytes[at + 48..at + 64].copy_from_slice(&id);
        seal(&mut bytes[at..at + 4096]);
    }
    for at in (LOG..2 * LOG).step_by(4096) {
        let length = crate::bytes::Header(&bytes).le32(at + 8) as usize;
        if bytes[at..].starts_with(b"loge") && (4096..=2 * LOG - at).contains(&length) {
            seal(&mut bytes[at..at + length]);
        }
    }
    bytes
}

fn seal(bytes: &mut [u8]) {
    bytes[4..8].fill(0);
    let sum = crate::bytes::crc32c(bytes);
    bytes[4..8].copy_from_slice(&sum.to_le_bytes());
}

/// The text that describes a machine: OVF, XenServer's, Parallels'.
pub fn description(bytes: &[u8]) {
    for image in crate::bundle::read_descriptions(&String::from_utf8_lossy(bytes), &expanding()) {
        look(image.as_ref());
    }
}

/// An expanding disk of Parallels', of 16 sectors, of which there are the first eight.
fn expanding() -> Vec<u8> {
    let mut bytes = vec![7; 8192];
    bytes[..4096].fill(0);
    bytes[..16].copy_from_slice(b"WithouFreSpacExt");
    for (at, value) in [(16, 2_u32), (28, 8), (32, 2), (36, 16), (64, 1)] {
        bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }
    bytes
}

/// Goes through all that an image says, and reads the start of what it holds.
fn look(image: &dyn ReadImage) {
    let steps = std::cell::Cell::new(0_u32);
    let cancelled = || {
        steps.set(steps.get() + 1);
        steps.get() > 100_000
    };
    let checked = image.check(&cancelled);
    let mut left = READ;
    let mut buffer = vec![0; 64 << 10];
    for extent in Extents::of(image, &cancelled) {
        let Ok(extent) = extent else { break };
        assert!(extent.length > 0 && extent.offset + extent.length <= image.size());
        let mut at = extent.offset;
        while at < extent.offset + extent.length && left > 0 {
            let count = (extent.offset + extent.length - at).min(buffer.len() as u64);
            let read = image.read_at(&mut buffer[..count as usize], at);
            // What was found sound is there.
            if checked.is_ok() {
                assert!(!matches!(read, Err(ImageError::Io { .. })));
            }
            at += count;
            left = left.saturating_sub(count);
        }
        if left == 0 {
            break;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::read::log_entry::{Change, Entry};

    /// The first bytes of each format, so that what comes behind them is looked at.
    const STARTS: [&[u8]; 9] = [
        b"QFI\xfb\0\0\0\x03",
        b"QFI\xfb\0\0\0\x02",
        b"KDMV\x01\0\0\0\x03\0\0\0",
        b"KDMV\x03\0\0\0\x01\0\x03\0",
        b"conectix",
        b"vhdxfile",
        b"WithoutFreeSpace\x02\0\0\0",
        b"WithouFreSpacExt\x02\0\0\0",
        b"# Disk DescriptorFile\nRW ",
    ];

    #[test]
    fn logs_are_replayed() {
        let block = Change::Data {
            at: 3 << 20,
            bytes: Box::new([6, 0, 0x40, 0, 0, 0, 0, 0].repeat(512).try_into().unwrap()),
        };
        let data = Change::Data { at: (4 << 20) + 4096, bytes: Box::new([9; 4096]) };
        let log = Entry { sequence: 1, guid: [1; 16], ..Entry::default() }.bytes(&[block, data]);
        let (_, image) = crate::open_storage(crate::Storage::memory(super::vhdx_with(&log))).unwrap();
        let mut read = [0; 8193];
        image.read_at(&mut read, 4095).unwrap();
        assert!(read[0] == 0 && read[1..4097] == [9; 4096] && read[4097] == 0);
    }

    #[test]
    fn pieces_are_put_together() {
        let storage = |start: u64, end: u64, kind: &str, file: &str| {
            format!(
                "<Storage><Start>{start}</Start><End>{end}</End><Image><Type>{kind}</Type><File>{file}</File></Image></Storage>"
            )
        };
        let text = storage(0, 16, "Compressed", "a")
            + &storage(16, 20, "Plain", "p")
            + &storage(20, 24, "Compressed", "b");
        let text = format!("<Parallels_disk_image><StorageData>{text}</StorageData></Parallels_disk_image>");
        let images = crate::bundle::read_descriptions(&text, &super::expanding());
        let mut read = vec![0xee; 24 * 512];
        images[0].read_at(&mut read, 0).unwrap();
        let runs: Vec<_> = read.chunk_by(|a, b| a == b).map(|run| (run[0], run.len() / 512)).collect();
        assert_eq!((images[0].size(), runs), (24 * 512, vec![(7, 8), (0, 8), (1, 4), (7, 4)]));
        images[0].check(&|| false).unwrap();
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20))]

        #[test]
        fn nothing_in_a_log_panics(
            entries in proptest::collection::vec((0_u64..3, 0_u32..4, prop::option::of(0_u64..1500), any::<u64>(), any::<u32>()), 0..8),
            noise in proptest::collection::vec((0_usize..40_000, any::<u8>()), 0..4),
        ) {
            let mut log = Vec::new();
            for (number, (step, tail, at, long, last)) in entries.into_iter().enumerate() {
                let at = at.map_or(long, |sector| sector * 4096);
                let changes = match step {
                    0 => vec![Change::Zero { at, length: long >> (long & 63) & !4095 }],
                    _ => vec![Change::Data { at, bytes: Box::new([last as u8; 4096]) }],
                };
                let entry = Entry { sequence: 1 + number as u64, tail: tail * 8192, last: last.into(), ..Entry::default() };
                log.extend(Entry { guid: [1; 16], ..entry }.bytes(&changes));
            }
            for (at, byte) in noise {
                if let Some(place) = log.get_mut(at) {
                    *place = byte;
                }
            }
            super::vhdx_log(&log);
        }
    }

    proptest! {
        #[test]
        fn nothing_in_a_description_panics(text in "(<(Item|Disk|File|member|name|struct|value|/value|/name|/struct)( id=\"a\"| fileRef=\"a\")?/?>|[a-z17]){0,40}") {
            super::description(format!("<a>{text}</a>").as_bytes());
            super::description(text.as_bytes());
        }

        #[test]
        fn nothing_in_a_description_of_pieces_panics(
            pieces in proptest::collection::vec((0_u64..20, 1_u64..12, prop::option::of("Plain|Compressed|[a-z]"), "[pa][0-9]?", 0_usize..40), 0..6),
            odd in any::<bool>(),
        ) {
            let (mut text, mut at) = (String::new(), 0);
            for (start, length, kind, file, cut) in pieces {
                let start = if odd && cut < 5 { start } else { at };
                let kind = kind.map_or_else(String::new, |kind| format!("<Type>{kind}</Type>"));
                at = start + length;
                let inner = format!("<Start>{start}</Start><End>{at}</End><Image>{kind}<File>{file}</File></Image>");
                text += &format!("<Storage>{}</Storage>", if cut == 0 { "" } else { &inner });
            }
            let text = format!("<Parallels_disk_image><StorageData>{text}</StorageData></Parallels_disk_image>");
            super::description(text.as_bytes());
        }

        #[test]
        fn nothing_in_an_image_panics(start in 0..STARTS.len() + 1, rest in proptest::collection::vec(any::<u8>(), 0..5000)) {
            let mut bytes = STARTS.get(start).map_or_else(|| {
                let mut vdi = vec![0; 0x40];
                vdi.extend([0x7f, 0x10, 0xda, 0xbe, 1, 0, 1, 0]);
                vdi
            }, |start| start.to_vec());
            bytes.extend(rest);
            super::image(&bytes);
        }
    }
}
