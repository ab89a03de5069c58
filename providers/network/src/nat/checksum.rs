//! The Internet checksum (RFC 1071).

use std::net::Ipv4Addr;

/// A sum under way. All parts but the last must be of even length.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Checksum(u64);

impl Checksum {
    /// Begins with the pseudo header of TCP and UDP (RFC 9293, section 3.1). `length` is that of their header and
    /// payload, bytes.
    pub(super) fn pseudo_header(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, length: u16) -> Self {
        Self::default()
            .add(&source.octets())
            .add(&destination.octets())
            .add(&[0, protocol])
            .add(&length.to_be_bytes())
    }

    /// Adds `bytes`.
    pub(super) fn add(self, bytes: &[u8]) -> Self {
        // Sums of 32-bit words in the host's order; what is left over is folded in `finish`. 64 KiB cannot
        // overflow 64 bits.
        let (words, rest) = bytes.as_chunks::<4>();
        let mut sum = words.iter().map(|word| u64::from(u32::from_ne_bytes(*word))).sum::<u64>();
        let mut last = [0; 4];
        last[..rest.len()].copy_from_slice(rest);
        sum += u64::from(u32::from_ne_bytes(last));
        Self(self.0 + sum)
    }

    /// Adds two parts that follow one another, the first of which may be of odd length.
    pub(super) fn add_both(self, [first, second]: [&[u8]; 2]) -> Self {
        if first.len().is_multiple_of(2) || second.is_empty() {
            return self.add(first).add(second);
        }
        let (head, odd) = first.split_at(first.len() - 1);
        self.add(head).add(&[odd[0], second[0]]).add(&second[1..])
    }

    /// The checksum as it stands in a header.
    pub(super) fn finish(self) -> [u8; 2] {
        let mut sum = self.0;
        while sum > 0xffff {
            sum = (sum >> 16) + (sum & 0xffff);
        }
        (!(sum as u16)).to_ne_bytes()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The definition, word by word.
    fn by_definition(bytes: &[u8]) -> [u8; 2] {
        let mut sum = 0_u32;
        for pair in bytes.chunks(2) {
            sum += u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        (!(sum as u16)).to_be_bytes()
    }

    #[test]
    fn agrees_with_the_example_of_the_rfc() {
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(Checksum::default().add(&bytes).finish(), (!0xddf2_u16).to_be_bytes());
    }

    proptest! {
        #[test]
        fn is_the_sum_of_the_definition(bytes in proptest::collection::vec(any::<u8>(), 0..300), at in 0..300_usize) {
            let (first, second) = bytes.split_at(at.min(bytes.len()));
            prop_assert_eq!(Checksum::default().add(&bytes).finish(), by_definition(&bytes));
            prop_assert_eq!(Checksum::default().add_both([first, second]).finish(), by_definition(&bytes));
        }
    }
}
