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

/// The text that describes a machine: OVF, XenServer's, Parallels'.
pub fn description(bytes: &[u8]) {
    crate::bundle::read_descriptions(&String::from_utf8_lossy(bytes));
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

    proptest! {
        #[test]
        fn nothing_in_a_description_panics(text in "(<(Item|Disk|File|member|name|struct|value|/value|/name|/struct)( id=\"a\"| fileRef=\"a\")?/?>|[a-z17]){0,40}") {
            super::description(format!("<a>{text}</a>").as_bytes());
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
