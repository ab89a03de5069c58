//! Which bytes of a file are asked for (RFC 9110, section 14).

/// What a `Range` header comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// All of it: no range, or one that may be passed over (an unknown unit, several ranges, nonsense).
    All,
    /// The bytes from `first` on, up to but without `end`; never empty.
    Part {
        /// The first byte.
        first: u64,
        /// The byte behind the last.
        end: u64,
    },
    /// Nothing that the file has.
    Unsatisfiable,
}

/// Reads the header for a file of `size` bytes.
#[must_use]
pub fn parse(header: &str, size: u64) -> Wanted {
    let Some(ranges) = header.trim().strip_prefix("bytes=") else { return Wanted::All };
    let Some((first, last)) = ranges.split_once('-') else { return Wanted::All };
    let (first, last) = (first.trim(), last.trim());
    let number = |text: &str| match text.bytes().all(|b| b.is_ascii_digit()) && !text.is_empty() {
        // More than there can be is as good as the most there can be.
        true => Some(text.parse().unwrap_or(u64::MAX)),
        false => None,
    };
    match (first, number(first), number(last)) {
        ("", _, Some(0)) => Wanted::Unsatisfiable,
        ("", _, Some(_)) if size == 0 => Wanted::Unsatisfiable,
        ("", _, Some(count)) => Wanted::Part { first: size.saturating_sub(count), end: size },
        (_, Some(first), None) if last.is_empty() => open(first, size, size),
        (_, Some(first), Some(last)) if first <= last => open(first, last.saturating_add(1).min(size), size),
        _ => Wanted::All,
    }
}

fn open(first: u64, end: u64, size: u64) -> Wanted {
    if first < size { Wanted::Part { first, end } } else { Wanted::Unsatisfiable }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ranges_are_read_as_the_rfc_has_them() {
        let part = |first, end| Wanted::Part { first, end };
        for (header, wanted) in [
            ("bytes=0-0", part(0, 1)),
            ("bytes=0-", part(0, 100)),
            ("bytes=10-19", part(10, 20)),
            ("bytes=90-1000", part(90, 100)),
            ("bytes=-10", part(90, 100)),
            ("bytes=-1000", part(0, 100)),
            ("bytes= 1 - 2", part(1, 3)),
            ("bytes=99-99999999999999999999999", part(99, 100)),
            ("bytes=100-", Wanted::Unsatisfiable),
            ("bytes=99999999999999999999999-", Wanted::Unsatisfiable),
            ("bytes=-0", Wanted::Unsatisfiable),
            ("bytes=5-4", Wanted::All),
            ("bytes=0-1,5-6", Wanted::All),
            ("bytes=-", Wanted::All),
            ("bytes=a-b", Wanted::All),
            ("bytes=+1-2", Wanted::All),
            ("items=0-1", Wanted::All),
            ("", Wanted::All),
        ] {
            assert_eq!(parse(header, 100), wanted, "{header}");
        }
        assert_eq!(parse("bytes=0-", 0), Wanted::Unsatisfiable);
        assert_eq!(parse("bytes=-5", 0), Wanted::Unsatisfiable);
    }

    proptest! {
        #[test]
        fn no_header_asks_for_what_is_not_there(header in "(bytes=)?[ -9,a]{0,12}|.{0,20}", size in any::<u64>()) {
            if let Wanted::Part { first, end } = parse(&header, size) {
                prop_assert!(first < end && end <= size);
            }
        }
    }
}
