//! LZ4's legacy frames, which kernels use (LZ4 frame format, "legacy frame"), and blocks (LZ4 block format).

use super::codec::CodecError;

/// What a legacy frame begins with.
pub const MAGIC: [u8; 4] = [0x02, 0x21, 0x4c, 0x18];
/// The most that one block unpacks to.
const BLOCK_MAX: usize = 8 << 20;

/// Unpacks frames that follow each other until the input ends or something else comes; takes them off `input`. No
/// frame says where it ends: a size that no block has, or 0, ends it.
///
/// # Errors
/// [`CodecError`].
pub fn decode(input: &mut &[u8], limit: usize, output: &mut Vec<u8>) -> Result<(), CodecError> {
    let start = output.len();
    while let Some((&size, rest)) = input.split_first_chunk::<4>() {
        if size == MAGIC {
            *input = rest;
            continue;
        }
        let size = u32::from_le_bytes(size) as usize;
        // A payload of a kernel ends with its unpacked size, which looks like a block that the input has no room for.
        if size == 0 || size > rest.len() {
            break;
        }
        let (block, rest) = rest.split_at(size);
        let room = (limit - (output.len() - start)).min(BLOCK_MAX);
        decode_block(block, room, output)?;
        *input = rest;
    }
    Ok(())
}

/// Unpacks a block to at most `limit` bytes.
fn decode_block(mut input: &[u8], limit: usize, output: &mut Vec<u8>) -> Result<(), CodecError> {
    let start = output.len();
    let corrupt = || CodecError::Corrupt("LZ4", "a block ends early or points before its start".into());
    loop {
        let token = take(&mut input, 1).ok_or_else(corrupt)?[0];
        let literals = length(token >> 4, &mut input).ok_or_else(corrupt)?;
        let literals = take(&mut input, literals).ok_or_else(corrupt)?;
        if literals.len() > limit - (output.len() - start) {
            return Err(CodecError::TooLarge(limit));
        }
        output.extend_from_slice(literals);
        if input.is_empty() {
            return Ok(());
        }
        let distance = take(&mut input, 2).ok_or_else(corrupt)?;
        let distance = usize::from(u16::from_le_bytes([distance[0], distance[1]]));
        let count =
            length(token & 0xf, &mut input).ok_or_else(corrupt)?.checked_add(4).ok_or_else(corrupt)?;
        if distance == 0 || distance > output.len() - start {
            return Err(corrupt());
        }
        if count > limit - (output.len() - start) {
            return Err(CodecError::TooLarge(limit));
        }
        copy_match(output, distance, count);
    }
}

/// Repeats the `distance` last bytes until `count` have come.
fn copy_match(output: &mut Vec<u8>, distance: usize, mut count: usize) {
    let from = output.len() - distance;
    while count > 0 {
        // What has been copied already repeats with the same period.
        let part = count.min(output.len() - from);
        output.extend_from_within(from..from + part);
        count -= part;
    }
}

fn take<'a>(input: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, rest) = input.split_at_checked(count)?;
    *input = rest;
    Some(taken)
}

/// A length that begins in four bits and goes on in bytes while those are full.
fn length(nibble: u8, input: &mut &[u8]) -> Option<usize> {
    let mut length = usize::from(nibble);
    if nibble == 15 {
        loop {
            let byte = take(input, 1)?[0];
            length = length.checked_add(byte.into())?;
            if byte < 255 {
                break;
            }
        }
    }
    Some(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(blocks: &[&[u8]]) -> Vec<u8> {
        let mut frame = MAGIC.to_vec();
        for block in blocks {
            frame.extend((block.len() as u32).to_le_bytes());
            frame.extend(*block);
        }
        frame
    }

    #[test]
    fn unpacks_literals_and_overlapping_matches() {
        // "ab", then 4 + 15 + 3 bytes that repeat it, then "z".
        let block = [0x2f, b'a', b'b', 2, 0, 3, 0x10, b'z'];
        let data = frame(&[&block, &[0x10, b'!']]);
        let (mut input, mut output) = (data.as_slice(), Vec::new());
        decode(&mut input, 1000, &mut output).unwrap();
        assert_eq!(output, [b"ab".repeat(12).as_slice(), b"z!"].concat());
        assert!(input.is_empty());
    }

    #[test]
    fn ends_where_no_block_follows() {
        let mut data = frame(&[&[0x10, b'x']]);
        data.extend(50_000_000u32.to_le_bytes());
        let (mut input, mut output) = (data.as_slice(), Vec::new());
        decode(&mut input, 1000, &mut output).unwrap();
        assert_eq!((output.as_slice(), input.len()), (&b"x"[..], 4));
    }

    #[test]
    fn refuses_nonsense_and_too_much() {
        for block in [&[0x1f][..], &[0x20, b'a'], &[0x10, b'a', 2, 0], &[0x10, b'a', 0, 0], &[0xf0, 255, 255]]
        {
            let data = frame(&[block]);
            assert!(matches!(decode(&mut &data[..], 1000, &mut Vec::new()), Err(CodecError::Corrupt(..))));
        }
        let data = frame(&[&[0x1f, b'a', 1, 0, 255, 255, 255, 0]]);
        assert!(matches!(decode(&mut &data[..], 500, &mut Vec::new()), Err(CodecError::TooLarge(500))));
    }
}
