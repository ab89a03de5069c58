//! Chunks on their way from a repository: `box-catalog/server/API.md`, “Reading by chunks”.

use posada_chunks::Digest;

use super::manifest::MAX_CHUNK;

/// Bytes before each frame: digest, length of the chunk, length of the frame.
const HEAD: usize = 40;

/// Takes the next chunk off a bundle: what it was found to be, and its bytes; `None` where there is something else.
pub(super) fn next(bundle: &mut &[u8]) -> Option<(Digest, Vec<u8>)> {
    let (head, rest) = bundle.split_at_checked(HEAD)?;
    let number = |at: usize| head[at..at + 4].try_into().map(u32::from_le_bytes).ok();
    let (length, frame) = (number(32)?, number(36)?);
    let (frame, rest) = rest.split_at_checked(frame as usize)?;
    if length > MAX_CHUNK {
        return None;
    }
    let bytes = zstd::bulk::decompress(frame, length as usize).ok()?;
    let digest = Digest::of(&bytes);
    if bytes.len() != length as usize || digest.as_bytes()[..] != head[..32] {
        return None;
    }
    *bundle = rest;
    Some((digest, bytes))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record(digest: Digest, bytes: &[u8], length: u32) -> Vec<u8> {
        let frame = zstd::bulk::compress(bytes, 1).unwrap();
        let frame_length = (frame.len() as u32).to_le_bytes();
        [&digest.as_bytes()[..], &length.to_le_bytes(), &frame_length, &frame].concat()
    }

    #[test]
    fn chunks_are_what_they_are_called() {
        let (one, two) = (b"one".as_slice(), [7; 100_000]);
        let whole = [record(Digest::of(one), one, 3), record(Digest::of(&two), &two, 100_000)].concat();
        let mut bundle = whole.as_slice();
        assert_eq!(next(&mut bundle).unwrap().1, one);
        assert_eq!(next(&mut bundle).unwrap().1, two);
        assert_eq!(next(&mut bundle), None);
        for wrong in [
            record(Digest::of(b"other"), one, 3),
            record(Digest::of(one), one, 2),
            record(Digest::of(one), one, 4),
            record(Digest::of(&two), &two, u32::MAX),
            whole[..42].to_vec(),
        ] {
            assert_eq!(next(&mut wrong.as_slice()), None);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            crate::fuzzing::delta_bundle(&bytes);
        }
    }
}
