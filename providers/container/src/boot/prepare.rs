//! The mounts that a container starts with, made by whoever has the right: root's keeper before the container
//! exists, or an ordinary user's container while it is still its caller.

use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use posada_provider_api::{MachineDir, MachineSpec, SyncedFolder};
use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, Uid, chmodat, chownat, makedev, mkdirat, mknodat};
use rustix::mount::MountAttrFlags;

use super::folder_map::folder_map;
use crate::failure::{During, Failure};
use crate::sys::mount::{Depth, Detached};
use crate::sys::userns;

/// Mounts that are not attached yet.
#[derive(Debug)]
pub struct Mounts {
    /// Read-only layers, lowest first.
    pub layers: Vec<Detached>,
    /// The machine's own directory with `upper` and `work`.
    pub top: Detached,
    /// Where `/dev` comes from.
    pub devices: Devices,
    /// Synced folders, in mount order.
    pub folders: Vec<Folder>,
    /// What could not be done as asked.
    pub warnings: Vec<String>,
}

/// Where `/dev` comes from.
#[derive(Debug)]
pub enum Devices {
    /// A file system with nodes of our own: what the container does to them stays there.
    Made(Detached),
    /// The host's nodes, one by one: an ordinary user can make none, but cannot change the host's either.
    Shared(Vec<(&'static str, Detached)>),
}

/// A synced folder.
#[derive(Debug)]
pub struct Folder {
    /// What is seen.
    pub mount: Detached,
    /// Where, in the machine.
    pub target: PathBuf,
}

/// A device node: name, minor and major number, and whether the machine can do without.
struct Node {
    name: &'static str,
    major: u32,
    minor: u32,
    optional: bool,
}

const fn node(name: &'static str, major: u32, minor: u32, optional: bool) -> Node {
    Node { name, major, minor, optional }
}

/// The nodes of `/dev`, see devices.txt of the kernel.
const NODES: [Node; 8] = [
    node("null", 1, 3, false),
    node("zero", 1, 5, false),
    node("full", 1, 7, false),
    node("random", 1, 8, false),
    node("urandom", 1, 9, false),
    node("tty", 5, 0, false),
    node("net/tun", 10, 200, true),
    node("fuse", 10, 229, true),
];

/// Group that terminals belong to, on every distribution.
const TTY: u32 = 5;

impl Mounts {
    /// Made by root, for a machine whose ids begin at `base`. The layers lack their id map still: it needs the
    /// container's user namespace, see [`Mounts::show_layers_to`].
    ///
    /// # Errors
    /// [`Failure`] where a layer or folder is missing or cannot be shared.
    pub fn privileged(dir: &MachineDir, spec: &MachineSpec, base: (u32, u32)) -> Result<Self, Failure> {
        let mut warnings = Vec::new();
        Ok(Self {
            layers: layers(spec)?,
            top: top(dir, base)?,
            devices: Devices::Made(own_devices(base)?),
            folders: spec
                .folders
                .iter()
                .map(|folder| mapped_folder(folder, base, &mut warnings))
                .collect::<Result<_, _>>()?,
            warnings,
        })
    }

    /// Made by the container itself, in its namespaces and still with the id of its caller.
    ///
    /// # Errors
    /// Those of [`Mounts::privileged`].
    pub fn own(dir: &MachineDir, spec: &MachineSpec) -> Result<Self, Failure> {
        let mut shared = Vec::new();
        for node in &NODES {
            match Detached::copy_of(&Path::new("/dev").join(node.name), Depth::One) {
                Ok(mount) => shared.push((node.name, mount)),
                Err(_) if node.optional => {}
                Err(error) => return Err(error).during(format_args!("share /dev/{}", node.name)),
            }
        }
        Ok(Self {
            layers: layers(spec)?,
            top: top(dir, (0, 0))?,
            devices: Devices::Shared(shared),
            folders: spec.folders.iter().map(plain_folder).collect::<Result<_, _>>()?,
            warnings: Vec::new(),
        })
    }

    /// Shows the layers' plain owners as those of the user namespace `map`.
    ///
    /// # Errors
    /// [`Failure::Host`] where the file system of a layer knows no idmapped mounts.
    pub fn show_layers_to(&self, map: BorrowedFd<'_>) -> Result<(), Failure> {
        for layer in &self.layers {
            layer.set_id_map(map, MountAttrFlags::empty(), Depth::One).map_err(|error| {
                Failure::host(
                    format!("the file system that boxes are kept on has no idmapped mounts: {error}"),
                    "keep POSADA_HOME on ext4, xfs, btrfs or tmpfs with Linux 5.19 or newer, or run posada as an ordinary user",
                )
            })?;
        }
        Ok(())
    }
}

fn layers(spec: &MachineSpec) -> Result<Vec<Detached>, Failure> {
    let layers = spec.layers.iter().map(|layer| {
        let path = layer.tree().ok_or_else(Failure::no_tree)?;
        if !path.is_dir() {
            let what = format!("its file system {} is not there", path.display());
            return Err(Failure::of_box(
                what,
                "`posada box list` shows the boxes there are; add or build it again",
            ));
        }
        Detached::copy_of(path, Depth::One).during(format_args!("share {}", path.display()))
    });
    let layers: Vec<Detached> = layers.collect::<Result<_, _>>()?;
    if layers.is_empty() {
        return Err(Failure::of_box("it has no file system", "add or build it again"));
    }
    Ok(layers)
}

/// The writable layer: an overlay wants its upper directory plain and owned by the machine's root.
fn top(dir: &MachineDir, owner: (u32, u32)) -> Result<Detached, Failure> {
    let top = dir.top();
    make_top(&top, owner).during(format_args!("make the writable layer {}", top.display()))?;
    Detached::copy_of(&top, Depth::One).during(format_args!("share {}", top.display()))
}

fn make_top(top: &Path, (uid, gid): (u32, u32)) -> std::io::Result<()> {
    let owner = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
    // The machine's root must get through; others are kept out by the machine's directory.
    let mode = Mode::from_raw_mode(0o755);
    for path in [top.to_owned(), top.join("upper"), top.join("work")] {
        match mkdirat(CWD, &path, mode) {
            Ok(()) => chmodat(CWD, &path, mode, AtFlags::empty())?,
            Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
    }
    // A start that was killed in between may have left them to the caller.
    for name in ["upper", "work"] {
        let path = top.join(name);
        let metadata = fs_err::symlink_metadata(&path)?;
        if (metadata.uid(), metadata.gid()) != (uid, gid) {
            chownat(CWD, &path, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW)?;
        }
    }
    Ok(())
}

fn own_devices(base: (u32, u32)) -> Result<Detached, Failure> {
    let (uid, gid) = (base.0.to_string(), base.1.to_string());
    let options = [("mode", "0755"), ("size", "1m"), ("uid", &uid), ("gid", &gid)];
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let dev = Detached::new("tmpfs", &options, attributes).during("make a file system for /dev")?;
    make_nodes(dev.as_fd(), base).during("make the nodes of /dev")?;
    Ok(dev)
}

fn make_nodes(dev: BorrowedFd<'_>, base: (u32, u32)) -> rustix::io::Result<()> {
    let owner = |group: u32| (Some(Uid::from_raw(base.0)), Some(Gid::from_raw(base.1 + group)));
    mkdirat(dev, "net", Mode::from_raw_mode(0o755))?;
    let root = owner(0);
    chownat(dev, "net", root.0, root.1, AtFlags::empty())?;
    for node in &NODES {
        // What the kernel lacks, the machine shall not see.
        if node.optional && !Path::new("/dev").join(node.name).exists() {
            continue;
        }
        let mode = Mode::from_raw_mode(0o666);
        mknodat(dev, node.name, FileType::CharacterDevice, mode, makedev(node.major, node.minor))?;
        let owner = owner(if node.name == "tty" { TTY } else { 0 });
        chownat(dev, node.name, owner.0, owner.1, AtFlags::empty())?;
        // The process's umask does not count.
        chmodat(dev, node.name, mode, AtFlags::empty())?;
    }
    Ok(())
}

fn existing(folder: &SyncedFolder) -> Result<(), Failure> {
    let source = &folder.source;
    if source.is_dir() {
        return Ok(());
    }
    if source.exists() {
        let what = format!("the synced folder {} is not a directory", source.display());
        return Err(Failure::host(what, "name a directory as its source"));
    }
    if folder.create {
        return fs_err::create_dir_all(source)
            .during(format_args!("make the synced folder {}", source.display()));
    }
    let what = format!("the synced folder {} is not there", source.display());
    Err(Failure::host(what, "make it, or set `create: true`"))
}

fn attributes(folder: &SyncedFolder) -> MountAttrFlags {
    let always = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    if folder.read_only { always | MountAttrFlags::MOUNT_ATTR_RDONLY } else { always }
}

/// Root's: the folder's owner is user 1000 inside, and the machine's other ids are themselves.
fn mapped_folder(
    folder: &SyncedFolder,
    base: (u32, u32),
    warnings: &mut Vec<String>,
) -> Result<Folder, Failure> {
    existing(folder)?;
    let source = &folder.source;
    let sharing = format!("share the synced folder {}", source.display());
    let owner = fs_err::metadata(source).during(&sharing)?;
    let map = userns::holding(&folder_map(owner.uid(), base.0), &folder_map(owner.gid(), base.1))
        .during(&sharing)?;
    let attributes = attributes(folder);
    let mount = Detached::copy_of(source, Depth::Tree).during(&sharing)?;
    let mount = match mount.set_id_map(map.as_fd(), attributes, Depth::Tree) {
        Ok(()) => mount,
        // Something that is mounted below cannot be mapped; it may be just that.
        Err(_) => {
            let alone = Detached::copy_of(source, Depth::One).during(&sharing)?;
            alone.set_id_map(map.as_fd(), attributes, Depth::One).map_err(|error| {
                Failure::host(
                    format!(
                        "the file system of the synced folder {} has no idmapped mounts: {error}",
                        source.display()
                    ),
                    "keep it on ext4, xfs, btrfs or tmpfs, or run posada as an ordinary user",
                )
            })?;
            warnings.push(format!("what is mounted below {} is not seen in the machine", source.display()));
            alone
        }
    };
    Ok(Folder { mount, target: folder.target.clone() })
}

/// An ordinary user's: the machine's id map has the caller at 1000 already.
fn plain_folder(folder: &SyncedFolder) -> Result<Folder, Failure> {
    existing(folder)?;
    let sharing = format!("share the synced folder {}", folder.source.display());
    let mount = Detached::copy_of(&folder.source, Depth::Tree).during(&sharing)?;
    mount.set(attributes(folder), Depth::Tree).during(&sharing)?;
    Ok(Folder { mount, target: folder.target.clone() })
}
