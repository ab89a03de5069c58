//! Which control group hierarchies this host has, read from `/proc/self/mountinfo` and `/proc/self/cgroup`.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use super::Controller;
use crate::failure::{During, Failure};

/// A version 1 hierarchy's mount.
type Version1 = BTreeMap<Controller, PathBuf>;

/// The hierarchies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Where version 2 is mounted.
    pub version2: Option<PathBuf>,
    /// The version 2 group of this process, as a directory.
    pub own: Option<PathBuf>,
    /// Where version 1 controllers are mounted.
    pub version1: Version1,
}

impl Host {
    /// Reads them.
    ///
    /// # Errors
    /// Where `/proc` cannot be read.
    pub fn read() -> Result<Self, Failure> {
        let mounts = fs_err::read("/proc/self/mountinfo").during("find the control groups")?;
        let own = fs_err::read_to_string("/proc/self/cgroup").during("find the control groups")?;
        Ok(Self::parse(&mounts, &own))
    }

    fn parse(mountinfo: &[u8], cgroup: &str) -> Self {
        let own_path = cgroup.lines().find_map(|line| line.strip_prefix("0::")).map(Path::new);
        let mut host = Self { version2: None, own: None, version1: BTreeMap::new() };
        for mount in mountinfo.split(|byte| *byte == b'\n').filter_map(Mount::parse) {
            match mount.kind {
                // The first one counts: others are views of the same hierarchy.
                b"cgroup2" if host.version2.is_none() => {
                    host.own = own_path.and_then(|own| {
                        let below = own.strip_prefix(&mount.root).ok()?;
                        Some(mount.at.join(below))
                    });
                    host.version2 = Some(mount.at);
                }
                b"cgroup" if mount.root == Path::new("/") => {
                    for controller in Controller::ALL {
                        if mount
                            .options
                            .split(|byte| *byte == b',')
                            .any(|option| option == controller.name().as_bytes())
                        {
                            host.version1.entry(controller).or_insert_with(|| mount.at.clone());
                        }
                    }
                }
                _ => {}
            }
        }
        host
    }
}

/// One line of mountinfo, see proc_pid_mountinfo(5).
struct Mount<'a> {
    root: PathBuf,
    at: PathBuf,
    kind: &'a [u8],
    options: &'a [u8],
}

impl<'a> Mount<'a> {
    fn parse(line: &'a [u8]) -> Option<Self> {
        let mut fields = line.split(|byte| *byte == b' ');
        let root = unescape(fields.nth(3)?);
        let at = unescape(fields.next()?);
        // Optional fields end with a hyphen.
        fields.find(|field| *field == b"-")?;
        let kind = fields.next()?;
        let options = fields.nth(1)?;
        Some(Self { root, at, kind, options })
    }
}

/// Undoes mountinfo's octal escapes of white space and backslashes.
fn unescape(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let octal = after.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) if *first == b'\\' => {
                bytes.push(byte);
                rest = &after[3..];
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_pure_host() {
        let host = Host::parse(
            b"30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n",
            "0::/user.slice/user-1000.slice/session-2.scope\n",
        );
        assert_eq!(host.version2.as_deref(), Some(Path::new("/sys/fs/cgroup")));
        let own = "/sys/fs/cgroup/user.slice/user-1000.slice/session-2.scope";
        assert_eq!(host.own.as_deref(), Some(Path::new(own)));
        assert!(host.version1.is_empty());
    }

    #[test]
    fn a_hybrid_host_inside_a_container() {
        let host = Host::parse(
            b"1 0 0:1 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
              2 0 0:2 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n\
              3 0 0:3 /box /mnt/a\\040b rw - cgroup2 none rw\n\
              4 0 0:4 /elsewhere /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n",
            "4:memory:/x\n0::/box/inner\n",
        );
        assert_eq!(host.own.as_deref(), Some(Path::new("/mnt/a b/inner")));
        let cpu = (Controller::Cpu, PathBuf::from("/sys/fs/cgroup/cpu,cpuacct"));
        assert_eq!(host.version1.into_iter().collect::<Vec<_>>(), [cpu]);
    }

    proptest! {
        #[test]
        fn no_text_is_too_odd(mountinfo in prop::collection::vec(any::<u8>(), 0..200), cgroup in ".{0,60}") {
            let _ = Host::parse(&mountinfo, &cgroup);
        }
    }
}
