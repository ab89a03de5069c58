//! What is on a disk: its file systems, the system they hold, and what it boots.

use crate::boot::{self, BootFiles, Drivers, Volumes};
use crate::files;
use crate::table::{self, Partition};
use crate::{DiskError, Image};

/// Largest file that describes a system, bytes.
const MAX_TEXT: u64 = 1 << 20;
const INITS: [&str; 4] = ["/sbin/init", "/usr/sbin/init", "/usr/lib/systemd/systemd", "/lib/systemd/systemd"];
const CLOUD_INIT: [&str; 2] = ["/usr/bin/cloud-init", "/usr/lib/python3/dist-packages/cloudinit"];

/// The system on a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct System {
    /// The partition of the root file system.
    pub root: Partition,
    /// The UUID of the root file system.
    pub root_uuid: Option<String>,
    /// Its os-release(5), as it is written; empty where there is none.
    pub os_release: String,
    /// Its passwd(5), as it is written; empty where there is none.
    pub passwd: String,
    /// The first bytes of its init, by which its architecture is seen.
    pub init: Option<[u8; 20]>,
    /// Whether cloud-init is installed.
    pub cloud_init: bool,
    /// cloud-init's own configuration, `/etc/cloud/cloud.cfg`.
    pub cloud_config: Option<String>,
    /// Whether systemd is its init.
    pub systemd: bool,
    /// What its fstab(5) mounts, besides the root, by names that disks have on other hardware: `/dev/sda5`.
    pub foreign_mounts: Vec<String>,
    /// Its `/usr/lib/posada/box.json`, by which a box of Posada's own describes itself.
    pub declaration: Option<String>,
}

/// A disk with what was found on it.
#[derive(Debug)]
pub struct Contents {
    /// The system.
    pub system: System,
    /// What its own boot loader would start; `None` where no kernel was found.
    pub boot: Option<BootFiles>,
}

/// Looks for a system on `disk`.
///
/// # Errors
/// [`DiskError::NotADisk`] where there is no file system, [`DiskError::Unsupported`] where none of those there can be
/// read and [`DiskError::Corrupt`] where none of them holds a system; [`DiskError::Truncated`], [`DiskError::Absurd`],
/// [`DiskError::Io`].
pub fn inspect(disk: &Image) -> Result<Contents, DiskError> {
    let (volumes, root) = found(disk)?;
    let text = |path: &str| -> Result<Option<String>, DiskError> {
        volumes.text(&boot::Place { volume: root, path: path.to_owned() }, MAX_TEXT)
    };
    let release = match text("/etc/os-release")? {
        Some(release) => Some(release),
        None => text("/usr/lib/os-release")?,
    };
    let has = |paths: &[&str]| paths.iter().any(|path| volumes.exists(root, path));
    let system = System {
        root: volumes.0[root].partition.clone(),
        root_uuid: volumes.0[root].uuid.clone(),
        os_release: release.unwrap_or_default(),
        passwd: text("/etc/passwd")?.unwrap_or_default(),
        init: init(&volumes, root)?,
        cloud_init: has(&CLOUD_INIT),
        cloud_config: text("/etc/cloud/cloud.cfg")?,
        systemd: has(&["/usr/lib/systemd/systemd", "/lib/systemd/systemd"]),
        foreign_mounts: foreign_mounts(&text("/etc/fstab")?.unwrap_or_default()),
        declaration: text("/usr/lib/posada/box.json")?,
    };
    let boot = boot::find(&volumes, Some(root))?;
    Ok(Contents { system, boot })
}

/// The file systems on `disk`, and which of them is the root.
pub(crate) fn found(disk: &Image) -> Result<(Volumes, usize), DiskError> {
    let (_, partitions) = table::partitions(disk)?;
    let mut volumes = Vec::new();
    let mut first_fault = None;
    for partition in &partitions {
        match files::open(disk, partition) {
            Ok(volume) => volumes.extend(volume),
            // Another partition may hold all that is needed.
            Err(error) if partitions.len() > 1 => first_fault = first_fault.or(Some(error)),
            Err(error) => return Err(error),
        }
    }
    let volumes = Volumes(volumes);
    let is_root = |volume: &usize| {
        volumes.exists(*volume, "/etc/os-release")
            || volumes.exists(*volume, "/usr/lib/os-release")
            || INITS.iter().any(|init| volumes.exists(*volume, init))
    };
    match (0..volumes.len()).find(is_root) {
        Some(root) => Ok((volumes, root)),
        None => Err(first_fault.unwrap_or_else(|| no_root(disk, &volumes))),
    }
}

/// Whether what `boot` boots from `disk`, on which it was found, has the drivers for its disk.
///
/// # Errors
/// Those of [`inspect`].
pub fn drivers(disk: &Image, boot: &BootFiles) -> Result<Drivers, DiskError> {
    let (volumes, root) = found(disk)?;
    boot::drivers(&volumes, root, boot)
}

fn init(volumes: &Volumes, root: usize) -> Result<Option<[u8; 20]>, DiskError> {
    const MAX_PROGRAM: u64 = 64 << 20;
    for path in INITS {
        let place = boot::Place { volume: root, path: path.to_owned() };
        if let Some(program) = volumes.read(&place, MAX_PROGRAM)? {
            return Ok(program.first_chunk().copied());
        }
    }
    Ok(None)
}

fn foreign_mounts(fstab: &str) -> Vec<String> {
    let lines = fstab.lines().map(|line| line.split_ascii_whitespace());
    let sources = lines.filter_map(|mut fields| Some((fields.next()?, fields.next()?)));
    sources
        .filter(|(source, at)| *at != "/" && boot::is_foreign(source))
        .map(|(source, _)| source.to_owned())
        .collect()
}

fn no_root(disk: &Image, volumes: &Volumes) -> DiskError {
    let path = disk.path().to_owned();
    let unread: Vec<&str> = volumes
        .0
        .iter()
        .filter(|volume| volume.files.is_none() && volume.kind != "FAT")
        .map(|v| v.kind)
        .collect();
    if !unread.is_empty() {
        return DiskError::Unsupported {
            path,
            what: format!("a root file system that is {}", unread.join(" or ")),
        };
    }
    if volumes.len() == 0 {
        return DiskError::NotADisk { path, what: "it holds no file system".to_owned() };
    }
    DiskError::Corrupt { path, what: "none of its file systems holds a system".to_owned() }
}
