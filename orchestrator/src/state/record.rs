//! Who a machine is.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use posada_provider_api::{MachineId, MachineName, ProviderKind};
use serde::{Deserialize, Serialize};

/// The format of `machine.json` that this version writes.
pub(crate) const FORMAT: u32 = 1;

/// `machine.json`: what stays the same as long as the machine exists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineRecord {
    /// Which form the file has; this version writes 1.
    pub format: u32,
    /// Identity on this host.
    pub id: MachineId,
    /// Name in the Vmfile.
    pub name: MachineName,
    /// The project it belongs to.
    pub project: ProjectRecord,
    /// The backend it lives on.
    pub provider: ProviderKind,
    /// The box's name, as it was asked for.
    pub box_name: String,
    /// The box's version.
    pub box_version: String,
    /// The box's content.
    pub box_digest: String,
    /// When it was made, seconds since 1970.
    pub created_at: u64,
}

/// A project directory: where it is, and what it is known by when it is moved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProjectRecord {
    /// Absolute path without symbolic links.
    pub path: PathBuf,
    /// Device number of the directory.
    pub device: u64,
    /// Inode number of the directory.
    pub inode: u64,
    /// When the directory was made, nanoseconds since 1970; an inode number alone may be used again.
    pub born: Option<u64>,
}

impl ProjectRecord {
    /// The project at `path`.
    ///
    /// # Errors
    /// Where the directory cannot be read.
    pub fn of(path: &Path) -> std::io::Result<Self> {
        let metadata = fs_err::metadata(path)?;
        let since_epoch = |time: SystemTime| time.duration_since(UNIX_EPOCH).ok();
        Ok(Self {
            path: path.to_owned(),
            device: metadata.dev(),
            inode: metadata.ino(),
            born: metadata
                .created()
                .ok()
                .and_then(since_epoch)
                .and_then(|since| u64::try_from(since.as_nanos()).ok()),
        })
    }

    /// Whether `now` is this directory under another path, where it no longer is under its old one.
    #[must_use]
    pub fn moved_to(&self, now: &Self) -> bool {
        let same = (self.device, self.inode, self.born) == (now.device, now.inode, now.born);
        same && self.path != now.path && !self.path.exists()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moved_directory_is_known_again_and_a_new_one_is_not() {
        let temp = tempfile::tempdir().unwrap();
        let (old, new) = (temp.path().join("old"), temp.path().join("new"));
        fs_err::create_dir(&old).unwrap();
        let before = ProjectRecord::of(&old).unwrap();
        fs_err::rename(&old, &new).unwrap();
        let after = ProjectRecord::of(&new).unwrap();
        assert!(before.moved_to(&after));
        fs_err::create_dir(&old).unwrap();
        assert!(!before.moved_to(&after), "the old path is in use again");
        assert!(!before.moved_to(&ProjectRecord::of(&old).unwrap()));
    }
}
