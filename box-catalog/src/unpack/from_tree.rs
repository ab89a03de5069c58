//! A disk image with a root file system, and with another box's kernel where it has none.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use posada_disk::{Backing, Drivers, Image, NodeKind};
use posada_provider_api::Seeding;

use super::from_disk::{FSTAB, MAX_TEXT, entry, without_disks};
use super::pump::Pumped;
use super::sparse;
use super::tar_stream::{Entry, Kind};
use super::tree::Tree;
use super::{Limits, Refusal, Unpacked, as_disk, disk, image, inspect};
use crate::{Digest, KernelUnpacker};

/// What lies over the tree in the image: the kernel with its modules, and what is said otherwise on this disk.
const OVER: &str = "over";
/// The image is this much larger than its files, at least: room for what a machine adds.
const ROOM: u64 = 2;

/// Makes of the root file system at `tree`, with `size` bytes in its files, a disk image in the current directory: with the kernel that the disk image `kernel` boots,
/// and its modules, where the tree has none in `/boot`. `digest` stands for it, and `user` is who logs in.
///
/// # Errors
/// [`Refusal::NoKernel`], [`Refusal::NoWayIn`].
pub fn disk_of_tree(
    tree: &Path,
    kernel: Option<&Path>,
    size: u64,
    digest: &Digest,
    user: &str,
    limits: Limits,
    kernels: KernelUnpacker,
) -> Result<Unpacked, Refusal> {
    let failed = |error: io::Error| disk::host(&tree.display().to_string(), error);
    let own = fs::read_dir(tree.join("boot")).into_iter().flatten().flatten();
    let has_kernel = own.into_iter().any(|entry| entry.file_name().as_encoded_bytes().starts_with(b"vmlinu"));
    let mut over = Tree::create(OVER)?;
    mount_itself(tree, &mut over)?;
    if !has_kernel {
        let usr = fs::symlink_metadata(tree.join("lib")).is_ok_and(|lib| lib.is_symlink());
        take_kernel(kernel.ok_or(Refusal::NoKernel)?, usr, &mut over)?;
    }
    over.finish()?;
    let time = fs::metadata(tree).map_err(failed)?.mtime();
    let room = size.saturating_mul(ROOM).checked_next_multiple_of(1 << 30).unwrap_or(u64::MAX);
    let size = image::DISK.max(room);
    image::write(&[tree, Path::new(OVER)], disk::PART, size, digest, time)?;
    fs::remove_dir_all(OVER).map_err(|error| disk::host(OVER, error))?;
    let taken = as_disk(Some(user), false, kernels, limits.bytes, &Pumped { digest: *digest, size: 0 })?;
    match &taken.disk {
        Some(disk) if disk.boot.is_some() && disk.seeding == Seeding::None => Err(Refusal::NoWayIn),
        Some(disk) if disk.boot.is_some() => Ok(taken),
        _ => Err(Refusal::NoKernel),
    }
}

/// What the tree's fstab(5) says of disks is of another one, and left out. The root file system has to be in it, or it stays as the
/// kernel has mounted it, where nobody may write.
fn mount_itself(tree: &Path, over: &mut Tree) -> Result<(), Refusal> {
    let tree = File::open(tree).map_err(|error| disk::host(&tree.display().to_string(), error))?;
    let mut text = Vec::new();
    if let Some(fstab) = inspect::regular(tree.as_fd(), FSTAB) {
        let read = File::from(fstab).take(MAX_TEXT).read_to_end(&mut text);
        read.map_err(|error| disk::host("etc/fstab", error))?;
    }
    let label = format!("LABEL={}", image::LABEL);
    let mut ours = without_disks(&text, Some(&label));
    if !String::from_utf8_lossy(&ours).lines().any(|line| line.trim_start().starts_with(&label)) {
        ours = [format!("{label} / ext4 errors=remount-ro 0 1\n").as_bytes(), &ours].concat();
    }
    lay(over, "etc/fstab", &ours)
}

/// Lays a file of root's into a tree.
fn lay(tree: &mut Tree, path: &str, mut content: &[u8]) -> Result<(), Refusal> {
    let size = content.len() as u64;
    let file = Entry {
        path: Vec::new(),
        kind: Kind::File { size, extents: sparse::whole(size) },
        mode: 0o644,
        uid: 0,
        gid: 0,
        mtime: (0, 0),
        xattrs: Vec::new(),
    };
    tree.write(path.as_bytes(), &file, &mut content).map(drop)
}

/// Lays what the disk image `from` boots, with its modules, into `tree`; `usr` says that modules are below `/usr`.
fn take_kernel(from: &Path, usr: bool, tree: &mut Tree) -> Result<(), Refusal> {
    let from = Image::open(from, Backing::Refused)?;
    let nothing =
        || Refusal::Contradiction("the box that it should have its kernel from has none".to_owned());
    let boot = posada_disk::inspect(&from)?.boot.ok_or_else(nothing)?;
    let boot = match posada_disk::drivers(&from, &boot)? {
        Drivers::Added { archive, .. } => boot.with_drivers(&archive),
        Drivers::There | Drivers::Missing { .. } => boot,
    };
    let version = boot.version.as_str();
    if version.is_empty() || version.contains('/') {
        return Err(nothing());
    }
    lay(tree, &format!("boot/vmlinuz-{version}"), &boot.kernel)?;
    if let Some(initrd) = &boot.initrd {
        lay(tree, &format!("boot/initrd.img-{version}"), initrd)?;
    }
    let place = if usr { "usr/lib/modules" } else { "lib/modules" };
    let there = [format!("usr/lib/modules/{version}"), format!("lib/modules/{version}")];
    posada_disk::walk(&from, &mut |node, mut content| {
        let below = there.iter().find_map(|start| node.path.strip_prefix(start.as_bytes()));
        let Some(below) = below.filter(|below| below.is_empty() || below.starts_with(b"/")) else {
            return Ok(());
        };
        // What leads to where the kernel was built.
        if matches!(node.kind, NodeKind::Symlink(_) | NodeKind::Hardlink(_)) {
            return Ok(());
        }
        let path = [place.as_bytes(), b"/", version.as_bytes(), below].concat();
        tree.write(&path, &entry(node), &mut content).map(drop)
    })
}
