//! An initial RAM disk as Linux reads it (Documentation/driver-api/early-userspace/buffer-format.rst): cpio archives,
//! plain or compressed, one after another, each at a multiple of four bytes of what they unpack to.

use super::codec::{Codec, CodecError};

/// The most that an initial RAM disk is unpacked to, bytes.
pub const MAX_INITRD: usize = 1 << 30;

/// Size of a member's header: a magic number of six digits and thirteen fields of eight hexadecimal digits.
const HEADER: usize = 6 + 13 * 8;
/// The name of an archive's last member.
const TRAILER: &[u8] = b"TRAILER!!!\0";

/// Unpacks the compressed archives of an initial RAM disk, so that the guest need not. It never changes, so callers do
/// well to keep it. `None` where it is best left as it is: nothing in it is compressed, or something in it is not
/// understood here.
///
/// # Errors
/// [`CodecError`] where a compressed archive is damaged, or all come to more than [`MAX_INITRD`].
pub fn unpack_initrd(file: &[u8]) -> Result<Option<Vec<u8>>, CodecError> {
    unpack(file, MAX_INITRD)
}

fn unpack(mut input: &[u8], limit: usize) -> Result<Option<Vec<u8>>, CodecError> {
    let mut output = Vec::new();
    let mut unpacked = false;
    loop {
        // What Linux skips.
        let zeros = input.iter().take_while(|byte| **byte == 0).count();
        input = &input[zeros..];
        if input.is_empty() {
            return Ok(unpacked.then_some(output));
        }
        output.resize(output.len().next_multiple_of(4), 0);
        let room = limit.checked_sub(output.len()).ok_or(CodecError::TooLarge(limit))?;
        if input.starts_with(b"0") {
            let Some(size) = archive_size(input) else { return Ok(None) };
            if size > room {
                return Err(CodecError::TooLarge(limit));
            }
            let (archive, rest) = input.split_at(size);
            output.extend_from_slice(archive);
            input = rest;
        } else {
            let Some(codec) = Codec::detect(input) else { return Ok(None) };
            codec.decode(&mut input, room, &mut output).map_err(|error| match error {
                CodecError::TooLarge(_) => CodecError::TooLarge(limit),
                other => other,
            })?;
            unpacked = true;
        }
    }
}

/// The size of the cpio archive (of the "newc" forms) that `data` begins with, up to the end of its trailer.
fn archive_size(data: &[u8]) -> Option<usize> {
    let mut at = 0usize;
    loop {
        let header = data.get(at..at.checked_add(HEADER)?)?;
        if !header.starts_with(b"070701") && !header.starts_with(b"070702") {
            return None;
        }
        let (size, name_size) = (field(header, 6)?, field(header, 11)?);
        let name_end = (at + HEADER).checked_add(name_size)?;
        let name = data.get(at + HEADER..name_end)?;
        let end = name_end.checked_next_multiple_of(4)?.checked_add(size)?;
        if name == TRAILER {
            return Some(end.min(data.len()));
        }
        at = end.checked_next_multiple_of(4)?;
    }
}

/// The header's field `index`.
fn field(header: &[u8], index: usize) -> Option<usize> {
    let digits = std::str::from_utf8(header.get(6 + index * 8..14 + index * 8)?).ok()?;
    u32::from_str_radix(digits, 16).ok().map(|value| value as usize)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;

    /// An archive with one file.
    fn archive(name: &str, content: &[u8]) -> Vec<u8> {
        let mut archive = Vec::new();
        for (name, content) in [(name, content), ("TRAILER!!!", &[][..])] {
            archive.extend(b"070701");
            for index in 0..13 {
                let value = match index {
                    6 => content.len(),
                    11 => name.len() + 1,
                    _ => 0,
                };
                write!(archive, "{value:08X}").unwrap();
            }
            archive.extend(name.bytes().chain([0]));
            archive.resize(archive.len().next_multiple_of(4), 0);
            archive.extend(content);
            archive.resize(archive.len().next_multiple_of(4), 0);
        }
        archive
    }

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn microcode_in_front_stays_and_archives_are_aligned() {
        let (early, main, more) =
            (archive("kernel/x86/microcode", b"12345"), archive("init", b"#!"), archive("x", b""));
        let mut file = early.clone();
        file.resize(file.len().next_multiple_of(512), 0);
        file.extend(gzip(&[main.as_slice(), &[0; 3]].concat()));
        file.extend([0; 5]);
        file.extend(zstd::encode_all(&more[..], 1).unwrap());
        let unpacked = unpack_initrd(&file).unwrap().unwrap();
        assert_eq!(unpacked, [early.as_slice(), &main, &[0; 4], &more].concat());
        // What comes out is archives alone.
        assert_eq!(unpack_initrd(&unpacked).unwrap(), None);
        assert_eq!(archive_size(&unpacked), Some(early.len()));
    }

    #[test]
    fn what_is_not_understood_is_left_alone() {
        let plain = archive("init", b"#!");
        for file in
            [plain.clone(), [&plain[..], b"BZh91AY"].concat(), b"070707".to_vec(), b"ext4?".to_vec(), vec![]]
        {
            assert_eq!(unpack_initrd(&file).unwrap(), None);
        }
        assert_eq!(unpack_initrd(&plain[..plain.len() - 40]).unwrap(), None);
    }

    #[test]
    fn sizes_are_limited() {
        let file = [archive("a", &[1; 100]), gzip(&[b'0'; 4000])].concat();
        assert!(matches!(unpack(&file, 4000), Err(CodecError::TooLarge(4000))));
        assert!(matches!(unpack(&file, 100), Err(CodecError::TooLarge(100))));
        assert!(unpack(&file, 5000).unwrap().is_some());
    }

    proptest! {
        #[test]
        fn nothing_panics_and_limits_hold(start in 0usize..4, tail in prop::collection::vec(any::<u8>(), 0..300)) {
            let head = [archive("a", b"b"), gzip(b"x"), b"070701".to_vec(), vec![0x02, 0x21, 0x4c, 0x18]][start].clone();
            if let Ok(Some(unpacked)) = unpack(&[head, tail].concat(), 1000) {
                prop_assert!(unpacked.len() <= 1003);
            }
        }
    }
}
