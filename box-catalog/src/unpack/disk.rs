//! Taking a disk image: written down as it is, looked at, and what it boots laid beside it.

use std::fs::{self, File, Permissions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::Path;

use posada_disk::{Backing, BootFiles, DiskError, Drivers, Image, System};
use posada_provider_api::{Fault as _, Seeding};
use serde::Deserialize;

use super::foreign;
use super::inspect::Declaration;
use super::refusal::Refusal;
use super::sparse::Extent;
use crate::disk::{BootRecord, DiskRecord, INITRD, KERNEL, file_name};
use crate::kernel::KernelUnpacker;
use crate::metadata::{self, BoxMetadata, Form, Os};

/// The image while its format is not known.
pub const PART: &str = "disk.part";
/// Pieces of this many zeros become holes, bytes.
const PIECE: usize = 64 << 10;
/// Whom Vagrant's boxes let in by a published key.
const VAGRANT: &str = "vagrant";

/// A disk image that was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    pub record: DiskRecord,
    pub metadata: BoxMetadata,
    /// Bytes it takes on the host, with what was laid beside it.
    pub size: u64,
    /// What whoever uses it should know.
    pub notes: Vec<String>,
}

/// Writes all of `data` into the current directory as the image; `limit` is the most bytes it may take.
pub fn write(data: &mut impl Read, limit: u64) -> Result<(), Refusal> {
    let file = create(PART)?;
    let mut piece = vec![0; PIECE];
    let (mut at, mut written) = (0_u64, 0_u64);
    loop {
        let count = fill(data, &mut piece).map_err(|error| Refusal::reading(&error))?;
        if count == 0 {
            break;
        }
        if piece[..count].iter().any(|byte| *byte != 0) {
            written += count as u64;
            if written > limit {
                return Err(Refusal::TooLarge(format!("{} GiB", limit >> 30)));
            }
            file.write_all_at(&piece[..count], at).map_err(|error| host(PART, error))?;
        }
        at += count as u64;
    }
    file.set_len(at).map_err(|error| host(PART, error))
}

/// Writes a file of an archive into the current directory as the image.
pub fn write_extents(data: &mut impl Read, size: u64, extents: &[Extent], limit: u64) -> Result<(), Refusal> {
    let mut file = create(PART)?;
    append(&mut file, 0, data, extents, limit)?;
    file.set_len(size).map_err(|error| host(PART, error))
}

/// Writes the pieces of a file of an archive into `file` from `start` on.
pub fn append(
    file: &mut File,
    start: u64,
    data: &mut impl Read,
    extents: &[Extent],
    limit: u64,
) -> Result<(), Refusal> {
    if extents.iter().map(|extent| extent.length).fold(0, u64::saturating_add) > limit {
        return Err(Refusal::TooLarge(format!("{} GiB", limit >> 30)));
    }
    for extent in extents {
        file.seek(SeekFrom::Start(start.saturating_add(extent.offset))).map_err(|error| host(PART, error))?;
        let (mut left, mut piece) = (extent.length, vec![0; PIECE]);
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
            data.read_exact(&mut piece[..most]).map_err(|error| Refusal::reading(&error))?;
            if piece[..most].iter().all(|byte| *byte == 0) {
                file.seek_relative(most as i64).map_err(|error| host(PART, error))?;
            } else {
                file.write_all(&piece[..most]).map_err(|error| host(PART, error))?;
            }
            left -= most as u64;
        }
    }
    Ok(())
}

/// Looks at the image that was written, gives it its name, and lays beside it what it boots. `user`, where given, is
/// who logs in; `vagrant` says that it came in a Vagrant box; `kernels` unpacks the kernel, once for all starts. An image that
/// machines cannot run from becomes a raw one, of `limit` bytes at most.
pub fn take(
    user: Option<&str>,
    vagrant: bool,
    kernels: KernelUnpacker,
    limit: u64,
) -> Result<Taken, Refusal> {
    let format = foreign::make_native(limit)?;
    let name = file_name(format);
    fs::rename(PART, name).map_err(|error| host(PART, error))?;
    let image = Image::open(Path::new(name), Backing::Refused)?;
    image.check()?;
    let contents = posada_disk::inspect(&image)?;
    let (metadata, seeding) = describe(&contents.system, user, vagrant)?;
    let mut size = fs::metadata(name).map_err(|error| host(name, error))?.blocks() * 512;
    let mut notes = Vec::new();
    let boot = contents.boot.map(|boot| driven(&image, boot, &mut notes)).transpose()?;
    let boot = boot.map(|boot| lay_beside(boot, kernels, &mut size)).transpose()?;
    for source in &contents.system.foreign_mounts {
        notes.push(format!(
            "its /etc/fstab names `{source}`, a disk of other hardware: a machine waits for it; say `UUID=` there"
        ));
    }
    read_only(name)?;
    let record = DiskRecord { format, size: image.size(), seeding, boot };
    Ok(Taken { record, metadata, size, notes })
}

/// What boots, with the drivers for the disks that machines have.
fn driven(image: &Image, boot: BootFiles, notes: &mut Vec<String>) -> Result<BootFiles, Refusal> {
    match posada_disk::drivers(image, &boot)? {
        Drivers::There => Ok(boot),
        Drivers::Added { names, archive } => {
            notes.push(format!(
                "its initial RAM file system was made for other hardware: {} from its own disk were added to it",
                names.join(" and ")
            ));
            Ok(boot.with_drivers(&archive))
        }
        Drivers::Missing { names, why } => {
            notes.push(format!(
                "it has no {} to find its disk with, and {why}: virtual machines of it will not come up before that is installed in it",
                names.join(" and ")
            ));
            Ok(boot)
        }
    }
}

fn lay_beside(boot: BootFiles, kernels: KernelUnpacker, size: &mut u64) -> Result<BootRecord, Refusal> {
    let directory = KERNEL.split('/').next().unwrap_or_default();
    fs::create_dir(directory)
        .and_then(|()| fs::set_permissions(directory, Permissions::from_mode(0o755)))
        .map_err(|error| host(directory, error))?;
    let mut keep = |name: &str, bytes: &[u8]| {
        create(name)?.write_all(bytes).map_err(|error| host(name, error))?;
        *size += bytes.len() as u64;
        read_only(name)
    };
    keep(KERNEL, kernels(&boot.kernel).as_ref().unwrap_or(&boot.kernel))?;
    if let Some(initrd) = &boot.initrd {
        keep(INITRD, initrd)?;
    }
    Ok(BootRecord {
        initrd: boot.initrd.is_some(),
        cmdline: boot.cmdline,
        version: boot.version,
        chosen_by: boot.chosen_by.to_string(),
    })
}

fn describe(system: &System, user: Option<&str>, vagrant: bool) -> Result<(BoxMetadata, Seeding), Refusal> {
    let declaration = system.declaration.as_deref().map(Declaration::parse).transpose()?.unwrap_or_default();
    let accounts = metadata::accounts(&system.passwd);
    let has = |user: &str| accounts.iter().any(|account| account.name == user);
    let user = user.or(declaration.user.as_deref());
    // cloud-init makes the user that it is told of.
    if let Some(user) = user
        && !system.cloud_init
        && !has(user)
    {
        return Err(Refusal::Contradiction(format!("it does not have the login user `{user}`")));
    }
    let seeding = match (system.cloud_init, has(VAGRANT)) {
        (true, _) => Seeding::CloudInit,
        (false, true) => Seeding::InsecureKey,
        (false, false) => Seeding::None,
    };
    let by_itself = || {
        let first = metadata::login_user(&accounts);
        if vagrant && has(VAGRANT) {
            VAGRANT.to_owned()
        } else if first == "root" && system.cloud_init {
            system.cloud_config.as_deref().and_then(default_user).unwrap_or(first)
        } else {
            first
        }
    };
    let metadata = BoxMetadata {
        user: user.map_or_else(by_itself, str::to_owned),
        architecture: system.init.as_ref().and_then(metadata::architecture_of_elf).map(str::to_owned),
        os: Os::from_release(&system.os_release),
        provides: [Form::Disk].into(),
        recipe: declaration.recipe,
    };
    Ok((metadata, seeding))
}

/// The user whom cloud-init makes unless told otherwise: `system_info.default_user.name`.
fn default_user(config: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Config {
        system_info: SystemInfo,
    }
    #[derive(Deserialize)]
    struct SystemInfo {
        default_user: DefaultUser,
    }
    #[derive(Deserialize)]
    struct DefaultUser {
        name: String,
    }
    let config: Config = serde_yaml::from_str(config).ok()?;
    let name = config.system_info.default_user.name;
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    (!name.is_empty() && name.chars().all(plain)).then_some(name)
}

pub fn create(name: &str) -> Result<File, Refusal> {
    File::options().read(true).write(true).create_new(true).open(name).map_err(|error| host(name, error))
}

/// Nobody writes to it again, and the store's user reads it whoever of the id map it belongs to.
fn read_only(name: &str) -> Result<(), Refusal> {
    fs::set_permissions(name, Permissions::from_mode(0o444)).map_err(|error| host(name, error))
}

fn fill(data: &mut impl Read, piece: &mut [u8]) -> io::Result<usize> {
    let mut done = 0;
    while done < piece.len() {
        match data.read(&mut piece[done..]) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

pub fn host(name: &str, error: io::Error) -> Refusal {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Refusal::DiskFull,
        _ => Refusal::Host { entry: name.to_owned(), detail: error.to_string() },
    }
}

impl From<DiskError> for Refusal {
    fn from(error: DiskError) -> Self {
        match error {
            DiskError::Io { source, path, .. } => {
                Self::Host { entry: path.display().to_string(), detail: source.to_string() }
            }
            other => Self::Disk { what: other.reason(), hint: other.hint() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cloud_inits_own_user_is_found() {
        let text = "users:\n - default\nsystem_info:\n  distro: debian\n  default_user:\n    name: debian\n    groups: [adm]\n";
        assert_eq!(default_user(text).as_deref(), Some("debian"));
        for bad in ["", "a: b", "system_info: {default_user: {name: 'a b'}}", "["] {
            assert_eq!(default_user(bad), None, "{bad}");
        }
    }
}
