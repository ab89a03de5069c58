//! Entries for the fuzz targets in `fuzz/`: each takes bytes that nobody has looked at.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::lockfile::LockFile;
use crate::vmfile::{Inputs, MAX_FAULTS, Vmfile};

/// A Vmfile: what is wrong with it is told at places that it has.
///
/// # Panics
/// Where a fault is at no line of it, or there are more faults than are kept.
pub fn vmfile(bytes: &[u8]) {
    let inputs = Inputs {
        params: BTreeMap::from([("size".to_owned(), "2".to_owned())]),
        env: &|name| (name == "HOME").then(|| "/home/me".to_owned()),
        project: PathBuf::from("/project"),
        home: Some(PathBuf::from("/home/me")),
    };
    if let Err(faults) = Vmfile::parse_bytes(bytes, Path::new("/project/Vmfile"), &inputs) {
        assert!(faults.len() <= MAX_FAULTS);
        let _ = faults.to_string();
    }
}

/// A lock file: what is accepted is read the same again once it was written.
///
/// # Panics
/// Where it is another one then.
pub fn lockfile(bytes: &[u8]) {
    if let Ok(file) = LockFile::parse(bytes) {
        let text = serde_json::to_vec(&file).expect("what was read can be written");
        assert_eq!(LockFile::parse(&text), Ok(file));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_lock_file_is_taken_or_refused(
            text in r#"\{"format": [01],"boxes":\{("debian/12":\{"(rootfs|disk)":\{"version":"[0-9a.]{1,5}","digest":"[0-9a-f]{64}"\}\})?\},"scripts":\{\}\}"#
        ) {
            super::lockfile(text.as_bytes());
        }

        #[test]
        fn any_vmfile_is_taken_or_refused(
            lines in proptest::collection::vec("(  ){0,3}(machines|box|cpus|memory|web|provision|- shell|<<|&a|\\*a|!x)?:?( |\t)?([0-9]{1,3}|\\[|\\}|'|\"|\\||\\$\\{env:HOME\\}|~|ä)?", 0..12)
        ) {
            super::vmfile(lines.join("\n").as_bytes());
        }
    }
}
