//! Pax extended headers: records of `LENGTH KEY=VALUE\n`.

use super::refusal::Refusal;
use super::sparse::PaxSparse;

/// What a pax header says of the entry that follows it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pax {
    pub path: Option<Vec<u8>>,
    pub link: Option<Vec<u8>>,
    pub size: Option<u64>,
    pub uid: Option<u64>,
    pub gid: Option<u64>,
    pub mtime: Option<(i64, u32)>,
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub sparse: Option<PaxSparse>,
}

const XATTR: &[u8] = b"SCHILY.xattr.";
const SPARSE: &[u8] = b"GNU.sparse.";

pub fn parse_pax(bytes: &[u8]) -> Result<Pax, Refusal> {
    let mut pax = Pax::default();
    let mut rest = bytes;
    // Some writers pad the records with zeros.
    while rest.first().is_some_and(|byte| *byte != 0) {
        let (key, value, after) = record(rest).ok_or_else(|| damaged("record"))?;
        rest = after;
        match key {
            b"path" => pax.path = Some(value.to_vec()),
            b"linkpath" => pax.link = Some(value.to_vec()),
            b"size" => pax.size = Some(number(value).ok_or_else(|| damaged("size"))?),
            b"uid" => pax.uid = Some(number(value).ok_or_else(|| damaged("uid"))?),
            b"gid" => pax.gid = Some(number(value).ok_or_else(|| damaged("gid"))?),
            b"mtime" => pax.mtime = Some(time(value).ok_or_else(|| damaged("mtime"))?),
            _ => {
                if let Some(name) = key.strip_prefix(XATTR) {
                    pax.xattrs.push((name.to_vec(), value.to_vec()));
                } else if let Some(name) = key.strip_prefix(SPARSE) {
                    pax.sparse.get_or_insert_default().record(name, value)?;
                }
            }
        }
    }
    Ok(pax)
}

fn damaged(what: &str) -> Refusal {
    Refusal::Corrupt(format!("a pax header's {what}"))
}

/// The first record's key and value, and what comes after it.
fn record(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let blank = bytes.iter().take(20).position(|byte| *byte == b' ')?;
    let length = usize::try_from(number(&bytes[..blank])?).ok()?;
    let body = bytes.get(blank + 1..length)?.strip_suffix(b"\n")?;
    let equals = body.iter().position(|byte| *byte == b'=')?;
    Some((&body[..equals], &body[equals + 1..], &bytes[length..]))
}

pub(super) fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    str::from_utf8(digits).ok()?.parse().ok()
}

/// `-12.5` means half a second after second -13.
fn time(text: &[u8]) -> Option<(i64, u32)> {
    let text = str::from_utf8(text).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().ok()?;
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let nanoseconds: u32 = format!("{fraction:0<9}")[..9].parse().ok()?;
    match (whole.starts_with('-'), nanoseconds) {
        (true, 1..) => Some((seconds.checked_sub(1)?, 1_000_000_000 - nanoseconds)),
        _ => Some((seconds, nanoseconds)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn build(records: &[(&str, &[u8])]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (key, value) in records {
            let body = key.len() + value.len() + 3;
            let length =
                (1..6).map(|digits| body + digits).find(|l| l.to_string().len() + body == *l).unwrap();
            bytes.extend_from_slice(format!("{length} {key}=").as_bytes());
            bytes.extend_from_slice(value);
            bytes.push(b'\n');
        }
        bytes
    }

    #[test]
    fn records_are_read_whatever_their_values_hold() {
        let bytes = build(&[
            ("path", b"a/b=c\nd"),
            ("uid", b"1000"),
            ("mtime", b"1700000000.25"),
            ("SCHILY.xattr.user.x", b"\x00\n\xff="),
            ("comment", b"none"),
        ]);
        let pax = parse_pax(&bytes).unwrap();
        assert_eq!(pax.path.as_deref(), Some(&b"a/b=c\nd"[..]));
        assert_eq!(pax.uid, Some(1000));
        assert_eq!(pax.mtime, Some((1_700_000_000, 250_000_000)));
        assert_eq!(pax.xattrs, [(b"user.x".to_vec(), b"\x00\n\xff=".to_vec())]);
    }

    #[test]
    fn times_before_the_epoch_count_backwards() {
        assert_eq!(time(b"-12.5"), Some((-13, 500_000_000)));
        assert_eq!(time(b"-12"), Some((-12, 0)));
        assert_eq!(time(b"0.1234567891"), Some((0, 123_456_789)));
        assert_eq!(time(b"1.x"), None);
        assert_eq!(time(b""), None);
    }

    #[test]
    fn damage_is_told() {
        for bad in
            [&b"5 a=b"[..], b"99999999999999999999 a=b\n", b"7 path\n", b"x a=b\n", b"1 a=b\n", b"0 \n"]
        {
            assert!(matches!(parse_pax(bad), Err(Refusal::Corrupt(_))), "{bad:?}");
        }
        assert!(parse_pax(&build(&[("size", b"-1")])).is_err());
        assert!(parse_pax(&build(&[("uid", b"99999999999999999999")])).is_err());
    }

    proptest! {
        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            crate::fuzzing::pax(&bytes);
        }

        #[test]
        fn never_panics_on_what_is_nearly_right(text in "([0-9]{1,2} (size|mtime|path|GNU.sparse.map)=[0-9.,-]{0,9}\n){0,4}") {
            crate::fuzzing::pax(text.as_bytes());
        }
    }
}
