//! Names of directory entries.

use std::ffi::CString;

use rustix::io::Errno;
use rustix::path::Arg;

/// The longest name of an entry, bytes (`NAME_MAX`).
const LONGEST: usize = 255;

/// One component of a path: never empty, `.` or `..`, without a slash. Below a directory it leads to that directory's
/// own entries only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name(CString);

impl Name {
    /// The name that `bytes` are.
    ///
    /// # Errors
    /// `EINVAL` where they are none, `ENAMETOOLONG`.
    pub fn new(bytes: &[u8]) -> Result<Self, Errno> {
        if bytes.len() > LONGEST {
            return Err(Errno::NAMETOOLONG);
        }
        if matches!(bytes, b"" | b"." | b"..") || bytes.contains(&b'/') {
            return Err(Errno::INVAL);
        }
        CString::new(bytes).map(Self).map_err(|_| Errno::INVAL)
    }

    /// Without its NUL.
    pub fn bytes(&self) -> &[u8] {
        self.0.to_bytes()
    }

    /// As a path for a system call.
    pub fn path(&self) -> impl Arg + '_ {
        self.0.as_c_str()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_leads_elsewhere_is_no_name() {
        for bytes in [&b""[..], b".", b"..", b"/", b"a/b", b"../x", b"a\0b", b"x/"] {
            assert_eq!(Name::new(bytes), Err(Errno::INVAL), "{bytes:?}");
        }
        assert_eq!(Name::new(&[b'a'; 256]), Err(Errno::NAMETOOLONG));
        for bytes in [&b"..."[..], b"..a", b".git", b"\xff", &[b'a'; 255]] {
            assert!(Name::new(bytes).is_ok(), "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn a_name_is_one_component(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(name) = Name::new(&bytes) {
                let path = std::path::Path::new(name.0.to_str().unwrap_or("x"));
                prop_assert!(path.components().all(|part| matches!(part, std::path::Component::Normal(_))));
                prop_assert_eq!(path.components().count(), 1);
            }
        }
    }
}
