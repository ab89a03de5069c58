//! `/etc/subuid` and `/etc/subgid`: lines of `owner:first:count`, see subuid(5).

/// A range of subordinate ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Range {
    pub first: u32,
    pub count: u32,
}

impl Range {
    fn end(self) -> u64 {
        u64::from(self.first) + u64::from(self.count)
    }
}

/// The ranges that `text` grants to a user known by `name` (if any) or by number, in the file's order. Lines
/// that make no sense are passed over, as newuidmap does; so are ranges that hold id 0 or overlap an earlier
/// one of the same user.
pub(crate) fn granted(text: &str, name: Option<&str>, uid: u32) -> Vec<Range> {
    let mut ranges: Vec<Range> = Vec::new();
    for line in text.lines() {
        let Some((owner, range)) = parse(line) else { continue };
        if Some(owner) != name && owner.parse() != Ok(uid) {
            continue;
        }
        let overlaps = ranges
            .iter()
            .any(|other| u64::from(range.first) < other.end() && u64::from(other.first) < range.end());
        if range.first > 0 && !overlaps {
            ranges.push(range);
        }
    }
    ranges
}

fn parse(line: &str) -> Option<(&str, Range)> {
    let mut fields = line.trim().split(':');
    let owner = fields.next().filter(|owner| !owner.is_empty())?;
    let first: u32 = fields.next()?.parse().ok()?;
    let count: u32 = fields.next()?.parse().ok()?;
    // The last id, 2^32 - 1, is the kernel's "no id".
    let fits = u64::from(first) + u64::from(count) <= u64::from(u32::MAX);
    (fields.next().is_none() && count > 0 && fits).then_some((owner, Range { first, count }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn finds_ranges_by_name_and_by_number() {
        let text = "ana:100000:65536\n1000:300000:10\nbob:1:5\n ana:200000:3\n";
        assert_eq!(
            granted(text, Some("ana"), 1000),
            [
                Range { first: 100_000, count: 65_536 },
                Range { first: 300_000, count: 10 },
                Range { first: 200_000, count: 3 }
            ]
        );
        assert_eq!(granted(text, None, 1000), [Range { first: 300_000, count: 10 }]);
        assert_eq!(granted(text, Some("eve"), 7), []);
    }

    #[test]
    fn passes_over_nonsense_id_zero_and_overlaps() {
        let text =
            "ana\nana:1\nana:x:1\nana:1:0\nana:1:1:1\n:1:1\nana:4294967295:1\nana:0:10\nana:5:5\nana:7:1\n";
        assert_eq!(granted(text, Some("ana"), 1), [Range { first: 5, count: 5 }]);
    }

    proptest! {
        #[test]
        fn any_text_gives_disjoint_ranges_without_root(text in "((ana|7|bob)?:?[0-9]{0,11}:?[0-9]{0,11}\n?){0,8}") {
            let ranges = granted(&text, Some("ana"), 7);
            for (index, range) in ranges.iter().enumerate() {
                prop_assert!(range.first > 0 && range.count > 0 && range.end() <= u64::from(u32::MAX));
                for other in &ranges[..index] {
                    prop_assert!(other.end() <= u64::from(range.first) || range.end() <= u64::from(other.first));
                }
            }
        }
    }
}
