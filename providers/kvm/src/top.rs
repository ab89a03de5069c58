//! What is a machine's own: `top/` in its directory.
//!
//! ```text
//! disk.qcow2   what differs from the box's disk; the machine writes here
//! seed.img     what cloud-init is told; the machine reads it (mode 0600, as a private key is in it)
//! boot/        kernel (unpacked) and initial RAM file system that were taken out of the machine's disk for its last boot
//! instance     how the instance of its last boot fared (instance.rs)
//! booted       there since its first boot began: from then on its disk may hold another kernel than the box's
//! ```
//! Files appear whole. Nothing of a virtual machine is anywhere else.

use std::fs::{DirBuilder, File};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use posada_disk::overlay;
use posada_provider_api::{MachineDir, ProviderError};

use crate::bottom::Bottom;
use crate::failure;

/// The machine's own directory.
#[derive(Debug, Clone)]
pub(crate) struct Top(PathBuf);

impl Top {
    /// That of the machine in `dir`.
    pub(crate) fn of(dir: &MachineDir) -> Self {
        Self(dir.top())
    }

    /// The machine's disk, a qcow2 image.
    pub(crate) fn disk(&self) -> PathBuf {
        self.0.join("disk.qcow2")
    }

    /// The volume with the seed, a raw image.
    pub(crate) fn seed(&self) -> PathBuf {
        self.0.join("seed.img")
    }

    /// Where what was taken out of the disk for a boot is kept.
    pub(crate) fn boot(&self) -> PathBuf {
        self.0.join("boot")
    }

    /// Where it is written how the machine's instance fared.
    pub(crate) fn instance(&self) -> PathBuf {
        self.0.join("instance")
    }

    fn booted(&self) -> PathBuf {
        self.0.join("booted")
    }

    /// Makes what is missing. A disk that is smaller than `size` bytes grows; none ever shrinks, and that is what is
    /// returned in words.
    pub(crate) fn complete(
        &self,
        bottom: &Bottom<'_>,
        size: Option<u64>,
    ) -> Result<Option<String>, ProviderError> {
        match DirBuilder::new().mode(0o700).create(&self.0) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                return Err(failure::io("make the machine's layer", &error));
            }
            _ => {}
        }
        let disk = self.disk();
        if !disk.exists() {
            overlay::create(&disk, bottom.disk, size).map_err(failure::disk)?;
            return Ok(None);
        }
        let has = overlay::read(&disk).map_err(failure::disk)?.size;
        match size {
            Some(size) if size > has => posada_disk::grow(&disk, size).map_err(failure::disk).map(|()| None),
            Some(size) if size < has => {
                Ok(Some(format!("the disk stays at {} MiB: disks grow and never shrink", has >> 20)))
            }
            _ => Ok(None),
        }
    }

    /// Whether the machine has been booted before.
    pub(crate) fn was_booted(&self) -> bool {
        self.booted().exists()
    }

    /// Writes down that it is about to be booted.
    pub(crate) fn set_booted(&self) -> Result<(), ProviderError> {
        File::create(self.booted())
            .map(drop)
            .map_err(|error| failure::io("write in the machine's layer", &error))
    }

    /// Writes the seed's volume, unless it is there already.
    pub(crate) fn write_seed(&self, image: &[u8]) -> Result<(), ProviderError> {
        let path = self.seed();
        match fs_err::read(&path) {
            Ok(there) if there == image => Ok(()),
            _ => write_whole(&path, image).map_err(|error| failure::io("write the machine's seed", &error)),
        }
    }

    /// Removes all of it; nothing where there is none, or where it is another backend's: of a machine whose record
    /// is damaged nobody knows whose it is, and every backend is asked to remove what it finds.
    pub(crate) fn remove(&self) -> Result<(), ProviderError> {
        let holds_a_tree = ["upper", "work"].iter().any(|name| self.0.join(name).is_dir());
        if holds_a_tree {
            return Ok(());
        }
        // By rename: a machine is never left with a part of its layer.
        let doomed = self.0.with_extension("removed");
        let removed = remove_all(&doomed).and_then(|()| match fs_err::rename(&self.0, &doomed) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
            Ok(()) => remove_all(&doomed),
        });
        removed.map_err(|error| ProviderError::Host {
            what: format!("the machine's layer cannot be removed: {error}"),
            remedy: "look who holds it, and destroy the machine again".to_owned(),
        })
    }
}

/// Writes a file that only its owner may read, whole.
pub(crate) fn write_whole(path: &Path, content: &[u8]) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    // Made with mode 0600.
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    file.write_all(content)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

fn remove_all(path: &Path) -> io::Result<()> {
    match fs_err::remove_dir_all(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use posada_provider_api::Seeding;

    use super::*;

    #[test]
    fn a_layer_is_made_completed_and_removed_whole() {
        let temp = tempfile::tempdir().unwrap();
        let base = temp.path().join("base.raw");
        fs_err::write(&base, vec![0; 1 << 20]).unwrap();
        let bottom = Bottom { disk: &base, below: Vec::new(), boot: None, seeding: Seeding::CloudInit };
        let top = Top::of(&MachineDir::new(temp.path()));
        let size = || overlay::read(&top.disk()).unwrap().size;

        top.remove().expect("removing what is not there");
        assert_eq!(top.complete(&bottom, None).unwrap(), None);
        assert_eq!(size(), 1 << 20);
        assert_eq!(top.complete(&bottom, Some(8 << 20)).unwrap(), None);
        assert_eq!(size(), 8 << 20);
        assert!(top.complete(&bottom, Some(4 << 20)).unwrap().unwrap().contains("8 MiB"));
        assert_eq!(top.complete(&bottom, None).unwrap(), None, "no size asked for is no wish to shrink");
        assert_eq!(size(), 8 << 20);

        assert!(!top.was_booted());
        top.set_booted().unwrap();
        assert!(top.was_booted());

        // As a destroy that was killed leaves it.
        fs_err::create_dir(temp.path().join("top.removed")).unwrap();
        top.remove().unwrap();
        assert_eq!(fs_err::read_dir(temp.path()).unwrap().count(), 1, "only the box's disk is left");
    }

    #[test]
    fn a_containers_layer_is_left_to_it() {
        let temp = tempfile::tempdir().unwrap();
        fs_err::create_dir_all(temp.path().join("top/upper/etc")).unwrap();
        Top::of(&MachineDir::new(temp.path())).remove().unwrap();
        assert!(temp.path().join("top/upper/etc").is_dir());
    }

    #[test]
    fn a_disk_that_cannot_hold_the_boxs_is_refused_before_it_is_made() {
        let temp = tempfile::tempdir().unwrap();
        let base = temp.path().join("base.raw");
        fs_err::write(&base, vec![0; 1 << 20]).unwrap();
        let bottom = Bottom { disk: &base, below: Vec::new(), boot: None, seeding: Seeding::None };
        let top = Top::of(&MachineDir::new(temp.path()));
        let error = top.complete(&bottom, Some(1 << 19)).unwrap_err();
        assert!(matches!(error, ProviderError::Host { .. }), "{error:?}");
        assert!(!top.disk().exists());
    }

    #[test]
    fn the_seed_is_the_owners_alone_and_written_when_it_changes() {
        let temp = tempfile::tempdir().unwrap();
        fs_err::create_dir(temp.path().join("top")).unwrap();
        let top = Top::of(&MachineDir::new(temp.path()));
        top.write_seed(b"one").unwrap();
        let first = fs_err::metadata(top.seed()).unwrap();
        assert_eq!(first.permissions().mode() & 0o777, 0o600);
        top.write_seed(b"one").unwrap();
        let same = fs_err::metadata(top.seed()).unwrap();
        assert_eq!(same.modified().unwrap(), first.modified().unwrap());
        top.write_seed(b"two").unwrap();
        assert_eq!(fs_err::read(top.seed()).unwrap(), b"two");
    }
}
