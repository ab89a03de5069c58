//! Order of versions as Debian has it (deb-version(7)): runs of digits by value, letters before all else, `~` before
//! the end. For versions of kernels the Boot Loader Specification's order is the same.

use std::cmp::Ordering;

/// Compares two versions, or names with versions in them.
pub fn compare(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.as_bytes(), b.as_bytes());
    loop {
        let (ours, theirs) = (split(&mut a, false), split(&mut b, false));
        let order = by_weight(ours, theirs).then_with(|| by_value(split(&mut a, true), split(&mut b, true)));
        if order != Ordering::Equal || (a.is_empty() && b.is_empty()) {
            return order;
        }
    }
}

/// Takes digits, or what is none, off the front.
fn split<'a>(text: &mut &'a [u8], digits: bool) -> &'a [u8] {
    let end = text.iter().position(|byte| byte.is_ascii_digit() != digits).unwrap_or(text.len());
    let (taken, rest) = text.split_at(end);
    *text = rest;
    taken
}

fn by_weight(a: &[u8], b: &[u8]) -> Ordering {
    let weight = |byte: Option<&u8>| match byte {
        Some(b'~') => -1,
        None => 0,
        Some(byte) if byte.is_ascii_alphabetic() => i32::from(*byte),
        Some(byte) => i32::from(*byte) + 256,
    };
    (0..a.len().max(b.len()))
        .map(|at| weight(a.get(at)).cmp(&weight(b.get(at))))
        .find(|order| *order != Ordering::Equal)
        .unwrap_or(Ordering::Equal)
}

fn by_value(a: &[u8], b: &[u8]) -> Ordering {
    fn plain(mut digits: &[u8]) -> &[u8] {
        while let [b'0', rest @ ..] = digits {
            digits = rest;
        }
        digits
    }
    let (a, b) = (plain(a), plain(b));
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Each was compared by `dpkg --compare-versions`.
    #[test]
    fn versions_are_in_order() {
        let ascending = [
            "5.10.0-30-amd64",
            "6.1.0~rc1-cloud-amd64",
            "6.1.0-9-cloud-amd64",
            "6.1.0-40-amd64",
            "6.1.0-40-cloud-amd64",
            "6.12.9",
            "6.12.48+deb13-amd64",
            "6.12.48+deb13.1-amd64",
        ];
        for (at, older) in ascending.iter().enumerate() {
            assert_eq!(compare(older, older), Ordering::Equal);
            for newer in &ascending[at + 1..] {
                assert_eq!(
                    (compare(older, newer), compare(newer, older)),
                    (Ordering::Less, Ordering::Greater),
                    "{older} {newer}"
                );
            }
        }
        assert_eq!(compare("1.007", "1.7"), Ordering::Equal);
    }

    proptest! {
        #[test]
        fn it_is_an_order(a in "[0-9a-z.~+-]{0,9}", b in "[0-9a-z.~+-]{0,9}", c in "[0-9a-z.~+-]{0,9}") {
            prop_assert_eq!(compare(&a, &b), compare(&b, &a).reverse());
            if compare(&a, &b).is_le() && compare(&b, &c).is_le() {
                prop_assert!(compare(&a, &c).is_le());
            }
        }
    }
}
