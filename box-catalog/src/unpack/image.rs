//! Making a disk image of an unpacked tree: one ext4 file system in one partition. The same tree and the same digest
//! give the same image.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use mkext4::{FsBuilder, InodeHandle, Meta, Options, ROOT, RegionSink, SpecialKind};
use posada_disk::table::{NewPartition, write_gpt};
use sha2::{Digest as _, Sha256};

use super::refusal::Refusal;
use crate::Digest;

/// Size of the disk, bytes; most of it is a hole. A machine's own disk may be larger.
pub const DISK: u64 = 10 << 30;
/// Where the partition begins, and what is left behind it for the other copy of the table, bytes.
const MARGIN: u64 = 1 << 20;
/// The label by which the file system's own `/etc/fstab` finds it.
pub const LABEL: &str = "posada";
/// Deepest directory.
const MAX_DEPTH: usize = 256;
/// Extended attributes that are kept; access control lists have another form on the disk.
const KEPT: [&[u8]; 3] = [b"security.capability", b"user.", b"trusted."];

/// Writes the tree at `layers`, of which later ones lie over those before them, as the disk image `image` of `size` bytes. What is unique about the disk comes from `digest`; `time`,
/// seconds since 1970, is that of the file system.
pub fn write(layers: &[&Path], image: &str, size: u64, digest: &Digest, time: i64) -> Result<(), Refusal> {
    let mut options = Options::new(size - 2 * MARGIN, id(digest, "file system"), time);
    options.label = Some(LABEL.to_owned());
    let mut building =
        Building { to: FsBuilder::new(options).map_err(refused)?, linked: HashMap::new(), files: Vec::new() };
    let layers: Vec<PathBuf> = layers.iter().map(|layer| layer.to_path_buf()).collect();
    if let Some(tree) = layers.first() {
        let root = fs::symlink_metadata(tree).map_err(|error| host(tree, &error))?;
        building.to.set_meta(ROOT, meta(&root)).map_err(refused)?;
    }
    building.directory(ROOT, &layers, 0)?;
    let failed = |error: io::Error| host(Path::new(image), &error);
    let file = File::options().read(true).write(true).create_new(true).open(image).map_err(failed)?;
    file.set_len(size).map_err(failed)?;
    let mut sink = Partition { file: &file };
    let layout = building.to.seal().map_err(refused)?;
    let mut writer = layout.writer(&mut sink).map_err(refused)?;
    for (handle, path) in &building.files {
        let mut content = File::open(path).map_err(|error| host(path, &error))?;
        writer.fill(*handle, &mut content).map_err(refused)?;
    }
    writer.finish().map_err(refused)?;
    let kind =
        if cfg!(target_arch = "aarch64") { NewPartition::ROOT_ARM64 } else { NewPartition::ROOT_X86_64 };
    let root = NewPartition {
        kind,
        id: id(digest, "partition"),
        offset: MARGIN,
        length: size - 2 * MARGIN,
        label: "root",
    };
    write_gpt(&file, size, id(digest, "disk"), &[root]).map_err(failed)
}

struct Building {
    to: FsBuilder,
    /// Files with several names, by device and inode.
    linked: HashMap<(u64, u64), InodeHandle>,
    files: Vec<(InodeHandle, PathBuf)>,
}

impl Building {
    /// What is in a directory: in each of `layers`, of which the last that has a name counts, but for directories, which are one.
    fn directory(&mut self, parent: InodeHandle, layers: &[PathBuf], depth: usize) -> Result<(), Refusal> {
        let mut names: BTreeMap<OsString, Vec<PathBuf>> = BTreeMap::new();
        for path in layers {
            let failed = |error: io::Error| host(path, &error);
            if depth > MAX_DEPTH {
                return Err(Refusal::absurd(path.as_os_str().as_encoded_bytes(), "too deep a place"));
            }
            for entry in fs::read_dir(path).map_err(failed)? {
                let name = entry.map_err(failed)?.file_name();
                let below = path.join(&name);
                names.entry(name).or_default().push(below);
            }
        }
        for (name, mut paths) in names {
            if depth > 0 || name != "lost+found" {
                match paths.iter().rposition(|path| !is_directory(path)) {
                    Some(last) if last + 1 == paths.len() => drop(paths.drain(..last)),
                    Some(last) => drop(paths.drain(..=last)),
                    None => {}
                }
                self.entry(parent, &paths, &name, depth)?;
            }
        }
        Ok(())
    }

    fn entry(
        &mut self,
        parent: InodeHandle,
        layers: &[PathBuf],
        name: &OsStr,
        depth: usize,
    ) -> Result<(), Refusal> {
        let Some(path) = layers.first() else { return Ok(()) };
        let failed = |error: io::Error| host(path, &error);
        let utf8 = |text: &OsStr| {
            text.to_str().map(str::to_owned).ok_or_else(|| {
                Refusal::absurd(path.as_os_str().as_encoded_bytes(), "a name that is no UTF-8")
            })
        };
        let name = utf8(name)?;
        let there = fs::symlink_metadata(path).map_err(failed)?;
        let (kind, key) = (there.file_type(), (there.dev(), there.ino()));
        let several = there.nlink() > 1 && !kind.is_dir();
        if let Some(first) = self.linked.get(&key).filter(|_| several) {
            return self.to.hardlink(parent, &name, *first).map_err(refused);
        }
        let made = if kind.is_dir() {
            self.to.mkdir(parent, &name, meta(&there))
        } else if kind.is_symlink() {
            let target = utf8(fs::read_link(path).map_err(failed)?.as_os_str())?;
            self.to.symlink(parent, &name, &target, meta(&there))
        } else if kind.is_file() {
            self.to.file(parent, &name, meta(&there), there.len())
        } else if kind.is_fifo() {
            self.to.mknod(parent, &name, meta(&there), SpecialKind::Fifo)
        } else {
            // Devices are made by the kernel at boot.
            return Ok(());
        };
        let made = made.map_err(refused)?;
        if kind.is_file() && there.len() > 0 {
            self.files.push((made, path.to_owned()));
        }
        if several {
            self.linked.insert(key, made);
        }
        if kind.is_dir() || kind.is_file() {
            self.attributes(made, path)?;
        }
        if kind.is_dir() { self.directory(made, layers, depth + 1) } else { Ok(()) }
    }

    fn attributes(&mut self, made: InodeHandle, path: &Path) -> Result<(), Refusal> {
        let failed = |errno: rustix::io::Errno| host(path, &errno.into());
        let mut names = vec![0; 64 << 10];
        let length = match rustix::fs::llistxattr(path, &mut names) {
            Err(rustix::io::Errno::OPNOTSUPP) => return Ok(()),
            length => length.map_err(failed)?,
        };
        for name in names[..length].split(|byte| *byte == 0) {
            let Ok(text) = str::from_utf8(name) else { continue };
            if KEPT.iter().any(|kept| name.starts_with(kept)) {
                let mut value = vec![0; 64 << 10];
                let length = rustix::fs::lgetxattr(path, text, &mut value).map_err(failed)?;
                self.to.set_xattr(made, text, &value[..length]).map_err(refused)?;
            }
        }
        Ok(())
    }
}

fn is_directory(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|there| there.is_dir())
}

/// The part of the image that the file system is written to.
struct Partition<'a> {
    file: &'a File,
}

impl RegionSink for Partition<'_> {
    fn data(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, MARGIN + offset)
    }

    fn zeros(&mut self, _: u64, _: u64) -> io::Result<()> {
        // They are holes already.
        Ok(())
    }
}

fn meta(there: &Metadata) -> Meta {
    let nanoseconds = u32::try_from(there.mtime_nsec()).unwrap_or(0);
    Meta::new((there.mode() & 0o7777) as u16, there.uid(), there.gid(), (there.mtime(), nanoseconds))
}

/// An id of 16 bytes that says it is random (RFC 9562, version 4), out of the digest.
fn id(digest: &Digest, of: &str) -> [u8; 16] {
    let hash = Sha256::digest(format!("{digest} {of}"));
    let mut id: [u8; 16] = std::array::from_fn(|index| hash[index]);
    id[6] = id[6] & 0x0f | 0x40;
    id[8] = id[8] & 0x3f | 0x80;
    // A GUID's first three parts lie the other way round in a partition table.
    if of != "file system" {
        id[..4].reverse();
        id[4..6].reverse();
        id[6..8].reverse();
    }
    id
}

fn refused(error: mkext4::Error) -> Refusal {
    match error {
        mkext4::Error::Io(error) => host(Path::new("the file system"), &error),
        other => Refusal::Host { entry: "the file system".to_owned(), detail: other.to_string() },
    }
}

fn host(path: &Path, error: &io::Error) -> Refusal {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Refusal::DiskFull,
        _ => Refusal::Host { entry: path.display().to_string(), detail: error.to_string() },
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::process::Command;

    use posada_disk::{Backing, Image, inspect};

    use super::*;

    #[test]
    fn a_tree_becomes_a_disk_that_checks_clean_and_boots_from_its_partition() {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("tree");
        for directory in ["etc", "boot", "usr/lib/systemd", "many"] {
            fs::create_dir_all(tree.join(directory)).unwrap();
        }
        let over = dir.path().join("over");
        fs::create_dir_all(over.join("boot")).unwrap();
        let mut kernel = vec![0x90; 100_000];
        kernel[0x202..0x206].copy_from_slice(b"HdrS");
        fs::write(tree.join("boot/vmlinuz-6.1"), kernel).unwrap();
        fs::write(tree.join("boot/initrd.img-6.1"), b"hidden").unwrap();
        fs::write(over.join("boot/initrd.img-6.1"), b"initrd").unwrap();
        fs::write(tree.join("etc/os-release"), "ID=debian\n").unwrap();
        fs::set_permissions(tree.join("etc/os-release"), fs::Permissions::from_mode(0o4750)).unwrap();
        fs::hard_link(tree.join("etc/os-release"), tree.join("etc/again")).unwrap();
        symlink("usr/lib", tree.join("lib")).unwrap();
        for index in 0..2000 {
            fs::write(tree.join(format!("many/{index}")), index.to_string()).unwrap();
        }
        let digest = Digest::from_bytes([3; 32]);
        let (first, second) = (dir.path().join("a.raw"), dir.path().join("b.raw"));
        for image in [&first, &second] {
            write(&[&tree, &over], image.to_str().unwrap(), 256 << 20, &digest, 1_700_000_000).unwrap();
        }
        let run = |program: &str, args: &[&str]| {
            let output = Command::new(program).args(args).output().unwrap();
            let told = String::from_utf8_lossy(&output.stdout);
            assert!(
                output.status.success(),
                "{program} {args:?}: {told}{}",
                String::from_utf8_lossy(&output.stderr)
            );
        };
        let (a, b) = (first.to_str().unwrap(), second.to_str().unwrap());
        run("cmp", &[a, b]);
        run("sfdisk", &["--verify", a]);
        // The file system begins at the partition.
        run("e2fsck", &["-fn", &format!("{a}?offset={MARGIN}")]);
        let image = Image::open(&first, Backing::Refused).unwrap();
        let contents = inspect(&image).unwrap();
        let boot = contents.boot.unwrap();
        assert_eq!(boot.cmdline, format!("root=PARTUUID={} ro", contents.system.root.id.unwrap()));
        assert_eq!(boot.initrd.as_deref(), Some(&b"initrd"[..]));
        assert_eq!(contents.system.os_release, "ID=debian\n");
        assert!(fs::metadata(&first).unwrap().blocks() * 512 < 100 << 20, "it is mostly holes");
    }
}
