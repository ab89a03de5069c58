//! Versions, ordered as RubyGems orders them, which is what Vagrant and its catalogs go by.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};

use serde::{Deserialize, Serialize};

use super::InvalidRef;

/// The longest version, bytes: it becomes part of file names.
const MAX_VERSION: usize = 128;

/// A version of a box: `12.4`, `20261122.1`, `2.0.0-rc1`.
///
/// Numbers and words are compared piece by piece; a word makes the version a prerelease and sorts before every
/// number, so `2.0.rc1 < 2.0`. Zeros at the end do not count: `2` and `2.0` are equal. A hyphen reads as `.pre.`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Version {
    text: String,
    segments: Vec<Segment>,
}

/// A piece of a version. The order of the variants is their order: words come before numbers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Segment {
    Word(String),
    Number(Number),
}

/// Decimal digits without leading zeros, as versions may be longer than any machine integer. Shorter is smaller.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Number(String);

impl Number {
    fn new(digits: &str) -> Self {
        Self(digits.trim_start_matches('0').to_owned())
    }

    fn is_zero(&self) -> bool {
        self.0.is_empty()
    }

    fn successor(&self) -> Self {
        let kept = self.0.trim_end_matches('9');
        let nines = self.0.len() - kept.len();
        let mut digits = kept.to_owned();
        match digits.pop() {
            Some(last) => digits.push(char::from(last as u8 + 1)),
            None => digits.push('1'),
        }
        digits.extend(std::iter::repeat_n('0', nines));
        Self(digits)
    }
}

impl Ord for Number {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.len().cmp(&other.0.len()).then_with(|| self.0.cmp(&other.0))
    }
}

impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Version {
    /// Takes a version.
    ///
    /// # Errors
    /// [`InvalidRef`] where it is none.
    pub fn parse(text: &str) -> Result<Self, InvalidRef> {
        let text = text.trim();
        if text.len() > MAX_VERSION || !is_version(text) {
            return Err(InvalidRef(format!(
                "`{text}` is no version: write numbers and words with dots between, such as `12.4` or `2.0.rc1`"
            )));
        }
        Ok(Self { text: text.to_owned(), segments: segments(text) })
    }

    /// The version as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it holds a word and so comes before the version it leads to.
    #[must_use]
    pub fn is_prerelease(&self) -> bool {
        self.segments.iter().any(|segment| matches!(segment, Segment::Word(_)))
    }

    /// The version that a prerelease leads to: `2.0.rc1` gives `2.0`.
    pub(super) fn release(&self) -> Self {
        Self::from_segments(self.leading_numbers().to_vec())
    }

    /// The first version that `~>` no longer covers: `1.2.3` gives `1.3`, `1` gives `2`.
    pub(super) fn bump(&self) -> Self {
        let mut segments = self.leading_numbers().to_vec();
        if segments.len() > 1 {
            segments.pop();
        }
        if let Some(Segment::Number(last)) = segments.last_mut() {
            *last = last.successor();
        }
        Self::from_segments(segments)
    }

    fn leading_numbers(&self) -> &[Segment] {
        let end = self.segments.iter().position(|segment| matches!(segment, Segment::Word(_)));
        &self.segments[..end.unwrap_or(self.segments.len())]
    }

    fn from_segments(segments: Vec<Segment>) -> Self {
        let pieces: Vec<&str> = segments
            .iter()
            .map(|segment| match segment {
                Segment::Number(number) if number.is_zero() => "0",
                Segment::Number(Number(text)) | Segment::Word(text) => text,
            })
            .collect();
        Self { text: pieces.join("."), segments }
    }

    /// The segments without the zeros that do not count: those at the end of the numbers before the first word,
    /// and those at the very end.
    fn canonical(&self) -> impl Iterator<Item = &Segment> {
        let numbers = self.leading_numbers();
        let rest = &self.segments[numbers.len()..];
        without_trailing_zeros(numbers).iter().chain(without_trailing_zeros(rest))
    }
}

fn without_trailing_zeros(segments: &[Segment]) -> &[Segment] {
    let is_zero = |segment: &Segment| matches!(segment, Segment::Number(number) if number.is_zero());
    let end = segments.iter().rposition(|segment| !is_zero(segment)).map_or(0, |last| last + 1);
    &segments[..end]
}

/// `[0-9]+(\.[0-9a-zA-Z]+)*(-[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?`
fn is_version(text: &str) -> bool {
    let (main, tail) = match text.split_once('-') {
        Some((main, tail)) => (main, Some(tail)),
        None => (text, None),
    };
    let mut pieces = main.split('.');
    let plain = |piece: &str| !piece.is_empty() && piece.bytes().all(|b| b.is_ascii_alphanumeric());
    pieces.next().is_some_and(|first| !first.is_empty() && first.bytes().all(|b| b.is_ascii_digit()))
        && pieces.all(plain)
        && tail.is_none_or(|tail| tail.split('.').all(|piece| plain(&piece.replace('-', "x"))))
}

/// Runs of digits and runs of letters; what stands between only separates.
fn segments(text: &str) -> Vec<Segment> {
    let text = text.replace('-', ".pre.");
    let mut segments = Vec::new();
    let mut rest = text.as_str();
    while let Some(first) = rest.bytes().next() {
        let same = |b: u8| match first {
            b'0'..=b'9' => b.is_ascii_digit(),
            b'a'..=b'z' | b'A'..=b'Z' => b.is_ascii_alphabetic(),
            _ => !b.is_ascii_alphanumeric(),
        };
        let end = rest.bytes().position(|b| !same(b)).unwrap_or(rest.len());
        let (run, after) = rest.split_at(end);
        rest = after;
        if first.is_ascii_digit() {
            segments.push(Segment::Number(Number::new(run)));
        } else if first.is_ascii_alphabetic() {
            segments.push(Segment::Word(run.to_owned()));
        }
    }
    segments
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        let zero = Segment::Number(Number(String::new()));
        let (mut left, mut right) = (self.canonical(), other.canonical());
        loop {
            let (a, b) = (left.next(), right.next());
            if a.is_none() && b.is_none() {
                return Ordering::Equal;
            }
            let order = a.unwrap_or(&zero).cmp(b.unwrap_or(&zero));
            if order != Ordering::Equal {
                return order;
            }
        }
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Version {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Version {}

impl Hash for Version {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // Equal versions differ in zeros only, so these are left out altogether.
        let is_zero = |segment: &&Segment| matches!(segment, Segment::Number(number) if number.is_zero());
        self.canonical().filter(|segment| !is_zero(segment)).for_each(|segment| segment.hash(state));
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl TryFrom<String> for Version {
    type Error = InvalidRef;
    fn try_from(text: String) -> Result<Self, InvalidRef> {
        Self::parse(&text)
    }
}

impl From<Version> for String {
    fn from(value: Version) -> String {
        value.text
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn version(text: &str) -> Version {
        Version::parse(text).unwrap()
    }

    /// Checked against `Gem::Version` of RubyGems 3.3.
    #[test]
    fn order_is_that_of_rubygems() {
        use Ordering::{Equal, Greater, Less};
        for (left, order, right) in [
            ("1", Equal, "1.0"),
            ("1.0.0", Equal, "1"),
            ("1.a", Equal, "1.0.a"),
            ("1.a.0", Equal, "1.a"),
            ("1.00", Equal, "1.0"),
            ("01.2", Equal, "1.2"),
            ("1.2", Less, "1.10"),
            ("1.9.9", Less, "2"),
            ("20261122.1", Greater, "20261121.9"),
            ("1.0.a", Less, "1.0"),
            ("1.0.b1", Less, "1.0.b2"),
            ("1.0.b10", Greater, "1.0.b9"),
            ("1.0-rc1", Less, "1.0"),
            ("1.0-rc1", Equal, "1.0.pre.rc1"),
            ("1.0.rc1", Greater, "1.0.pre1"),
            ("1.0.A", Less, "1.0.a"),
            ("1.1.rc10", Greater, "1.1.rc9"),
            ("1.8.2.b10", Less, "1.8.2"),
            ("1.8.2.a", Less, "1.8.2.1"),
            ("0.0.beta.1", Less, "0.0.beta.2"),
            ("0", Equal, "0.0.0"),
            (
                "99999999999999999999999999999999999999999999",
                Greater,
                "99999999999999999999999999999999999999999998",
            ),
        ] {
            assert_eq!(version(left).cmp(&version(right)), order, "{left} against {right}");
            assert_eq!(version(right).cmp(&version(left)), order.reverse(), "{right} against {left}");
        }
    }

    #[test]
    fn bump_and_release_are_those_of_rubygems() {
        for (text, bump, release) in [
            ("5.2.4", "5.3", "5.2.4"),
            ("5", "6", "5"),
            ("5.9", "6", "5.9"),
            ("9.9.9", "9.10", "9.9.9"),
            ("5.2.4.a", "5.3", "5.2.4"),
            ("5.2.4.a10", "5.3", "5.2.4"),
            ("1.0.a", "2", "1.0"),
            ("0.0.4", "0.1", "0.0.4"),
        ] {
            assert_eq!(version(text).bump().as_str(), bump, "bump of {text}");
            assert_eq!(version(text).release().as_str(), release, "release of {text}");
        }
    }

    #[test]
    fn what_is_no_version_is_refused() {
        for bad in
            ["", "a", "v1", "1.", ".1", "1..2", "1_2", "1 2", "1/2", "../1", "1-", "1-.a", "1-a..b", "ü"]
        {
            assert!(Version::parse(bad).is_err(), "{bad}");
        }
        for good in ["1", "12.4", "1.0-rc1", "1.2.x86-64.b", "1-a-b", " 1.0 "] {
            assert!(Version::parse(good).is_ok(), "{good}");
        }
    }

    proptest! {
        #[test]
        fn order_is_total_and_hash_agrees(
            texts in proptest::collection::vec("(0|1|01|10)(\\.(0|1|9|a|b|rc1)){0,4}(-a)?", 3)
        ) {
            let versions: Vec<Version> = texts.iter().map(|text| version(text)).collect();
            let [a, b, c] = &versions[..] else { unreachable!() };
            prop_assert_eq!(a.cmp(b), b.cmp(a).reverse());
            if a <= b && b <= c {
                prop_assert!(a <= c);
            }
            let hash = |version: &Version| {
                let mut state = std::collections::hash_map::DefaultHasher::new();
                version.hash(&mut state);
                state.finish()
            };
            if a == b {
                prop_assert_eq!(hash(a), hash(b));
            }
        }

        #[test]
        fn any_text_is_taken_or_refused(text in ".{0,40}") {
            if let Ok(version) = Version::parse(&text) {
                prop_assert!(version >= Version::parse("0.a").unwrap() || version.is_prerelease());
                prop_assert_eq!(Version::parse(version.as_str()).unwrap(), version);
            }
        }
    }
}
