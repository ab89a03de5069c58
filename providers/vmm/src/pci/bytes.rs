//! Registers under accesses of any size and alignment: an access sees, and changes, just the bytes it touches.

/// Whether an access of `length` bytes at `offset` touches the field of `size` bytes at `field`.
pub(crate) fn touches(offset: usize, length: usize, field: usize, size: usize) -> bool {
    offset < field + size && field < offset + length
}

/// Reads at `offset` of `image`; what lies behind its end reads as zero.
pub(crate) fn read_image(image: &[u8], offset: usize, data: &mut [u8]) {
    data.fill(0);
    if let Some(rest) = image.get(offset..) {
        let length = rest.len().min(data.len());
        data[..length].copy_from_slice(&rest[..length]);
    }
}

/// Puts what a write of `data` at `offset` changes into `image`, whose first byte is at `field`. Returns whether it
/// touches it at all.
pub(crate) fn merge(image: &mut [u8], field: usize, offset: usize, data: &[u8]) -> bool {
    if !touches(offset, data.len(), field, image.len()) {
        return false;
    }
    let (from, to) = (offset.saturating_sub(field), field.saturating_sub(offset));
    for (byte, new) in image[from..].iter_mut().zip(&data[to..]) {
        *byte = *new;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merges_what_overlaps() {
        let merged = |offset, data: &[u8]| {
            let mut image = [0xa, 0xb, 0xc, 0xd];
            merge(&mut image, 8, offset, data).then_some(image)
        };
        assert_eq!(merged(8, &[1, 2, 3, 4]), Some([1, 2, 3, 4]));
        assert_eq!(merged(10, &[1]), Some([0xa, 0xb, 1, 0xd]));
        assert_eq!(merged(6, &[1, 2, 3, 4]), Some([3, 4, 0xc, 0xd]));
        assert_eq!(merged(10, &[1, 2, 3, 4]), Some([0xa, 0xb, 1, 2]));
        assert_eq!(merged(4, &[1, 2, 3, 4, 5, 6, 7, 8]), Some([5, 6, 7, 8]));
        assert_eq!(merged(12, &[1]), None);
        assert_eq!(merged(4, &[1, 2, 3, 4]), None);
    }

    #[test]
    fn reads_zero_behind_the_end() {
        let mut data = [0xff; 4];
        read_image(&[1, 2, 3], 1, &mut data);
        assert_eq!(data, [2, 3, 0, 0]);
        read_image(&[1, 2, 3], 9, &mut data);
        assert_eq!(data, [0; 4]);
    }
}
