//! The text that describes a disk ("Virtual Disk Format 5.0", VMware, "The Descriptor File").

use crate::error::{corrupt, unsupported};
use crate::{ImageError, Result};

/// Longest descriptor, bytes; those of disks in hundreds of files have some 20 KiB.
pub const MAX: usize = 1 << 20;
/// Most files of a disk.
const MAX_EXTENTS: usize = 4096;
const NO_PARENT: &str = "ffffffff";
const SECTOR: u64 = 512;

/// What a descriptor says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Descriptor {
    /// `monolithicSparse` and the like.
    pub create_type: String,
    pub extents: Vec<Extent>,
}

/// A piece of the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extent {
    /// How long it is, bytes.
    pub length: u64,
    pub kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    Zero,
    /// The bytes themselves, from `at` on.
    Flat {
        file: String,
        at: u64,
    },
    /// A file with tables of its own.
    Sparse {
        file: String,
    },
}

impl Descriptor {
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        // Padded with zeros where it lies within a disk.
        let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
        let text = String::from_utf8_lossy(text);
        let mut found = Self::default();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            if let Some(extent) = extent(line)? {
                if found.extents.len() == MAX_EXTENTS {
                    return Err(unsupported(format!("more than {MAX_EXTENTS} files")));
                }
                found.extents.push(extent);
                continue;
            }
            let Some((key, value)) = line.split_once('=') else { continue };
            let value = value.trim().trim_matches('"');
            match key.trim().to_ascii_lowercase().as_str() {
                "createtype" => value.clone_into(&mut found.create_type),
                "parentcid" if !value.eq_ignore_ascii_case(NO_PARENT) => {
                    return Err(ImageError::Differences(String::new()));
                }
                "parentfilenamehint" => return Err(ImageError::Differences(format!(", `{value}`"))),
                "encryption" | "keysafe" => return Err(unsupported("encryption")),
                _ => {}
            }
        }
        Ok(found)
    }
}

/// `RW 4192256 SPARSE "name-s001.vmdk"`, or no such line.
fn extent(line: &str) -> Result<Option<Extent>> {
    let (access, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    if !["RW", "RDONLY", "NOACCESS"].contains(&access) {
        return Ok(None);
    }
    let bad = || corrupt(format!("the line `{}` of its descriptor cannot be read", shown(line)));
    let (sectors, rest) = rest.trim_start().split_once(char::is_whitespace).ok_or_else(bad)?;
    let length = sectors.parse::<u64>().ok().and_then(|count| count.checked_mul(SECTOR)).ok_or_else(bad)?;
    let (kind, rest) = rest.trim_start().split_once(char::is_whitespace).unwrap_or((rest.trim(), ""));
    if kind == "ZERO" {
        return Ok(Some(Extent { length, kind: Kind::Zero }));
    }
    let (file, rest) =
        rest.trim_start().strip_prefix('"').and_then(|rest| rest.split_once('"')).ok_or_else(bad)?;
    let kind = match kind {
        "FLAT" | "VMFS" => {
            let sector =
                rest.split_whitespace().next().map_or(Ok(0), str::parse::<u64>).map_err(|_| bad())?;
            Kind::Flat { file: file.to_owned(), at: sector.checked_mul(SECTOR).ok_or_else(bad)? }
        }
        "SPARSE" => Kind::Sparse { file: file.to_owned() },
        other => return Err(unsupported(format!("an extent of the kind {}", shown(other)))),
    };
    Ok(Some(Extent { length, kind }))
}

fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extents_are_read() {
        let text = b"# Disk DescriptorFile\nversion=1\nCID=123\nparentCID=ffffffff\ncreateType=\"custom\"\n\
            RW 10 SPARSE \"a b-s001.vmdk\"\nRW 20 FLAT \"c.vmdk\" 3\nRDONLY 1 ZERO\nRW 2 VMFS \"d-flat.vmdk\"\n\0junk";
        let found = Descriptor::parse(text).unwrap();
        assert_eq!(found.create_type, "custom");
        let kinds: Vec<_> = found.extents.into_iter().map(|extent| (extent.length, extent.kind)).collect();
        assert_eq!(
            kinds,
            [
                (5120, Kind::Sparse { file: "a b-s001.vmdk".into() }),
                (10240, Kind::Flat { file: "c.vmdk".into(), at: 1536 }),
                (512, Kind::Zero),
                (1024, Kind::Flat { file: "d-flat.vmdk".into(), at: 0 }),
            ]
        );
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for bad in [
            "RW x SPARSE \"a\"",
            "RW 1",
            "RW 1 FLAT a",
            "RW 1 FLAT \"a\" b",
            "RW 99999999999999999 SPARSE \"a\"",
            "RW 1 SESPARSE \"a\"",
            "parentCID=00000001",
            "parentFileNameHint=\"/etc/passwd\"",
        ] {
            assert!(Descriptor::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
