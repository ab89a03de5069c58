//! Synced folders, locked: attributes such as read-only, once copied into a container's mount namespace from one
//! of somebody with more rights, cannot be taken back by the container's root.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::sched::{CloneFlags, setns, unshare};
use rustix::mount::{MountAttrFlags, MountPropagationFlags, mount_change};

use super::prepare::Folder;
use crate::failure::{During, Failure};
use crate::sys::mount::{Depth, Detached};

/// Where folders are attached in a mount namespace that lives for a moment; there on every host.
const PLACE: &str = "/tmp";

/// A keeper on its way: in a mount namespace of its own, from which the container is to be made.
#[derive(Debug)]
pub struct Staged {
    home: OwnedFd,
}

impl Staged {
    /// Enters a mount namespace and attaches folders there.
    ///
    /// # Errors
    /// [`Failure`] where the kernel refuses.
    pub fn enter(folders: Vec<Folder>) -> Result<(Self, Vec<PathBuf>), Failure> {
        let doing = "lock the synced folders";
        let home = File::open("/proc/self/ns/mnt").during(doing)?.into();
        unshare(CloneFlags::CLONE_NEWNS).during(doing)?;
        let staged = Self { home };
        Ok((staged, attach_staged(folders)?))
    }

    /// Goes back, after the container has been made; what was attached lives on there only.
    ///
    /// # Errors
    /// [`Failure`] where the kernel refuses.
    pub fn leave(self) -> Result<(), Failure> {
        setns(self.home.as_fd(), CloneFlags::CLONE_NEWNS).during("leave the synced folders")
    }
}

/// Attaches folders where [`take`] finds them; returns where they are to go.
///
/// # Errors
/// [`Failure`] where the kernel refuses.
pub fn attach_staged(folders: Vec<Folder>) -> Result<Vec<PathBuf>, Failure> {
    let doing = "lock the synced folders";
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).during(doing)?;
    let place =
        Detached::new("tmpfs", &[("mode", "0755"), ("size", "1m")], MountAttrFlags::MOUNT_ATTR_NOSUID);
    place.and_then(|place| place.attach(Path::new(PLACE))).during(doing)?;
    let mut targets = Vec::new();
    for Folder { mount, target } in folders {
        let at = place_of(targets.len());
        fs_err::create_dir(&at).during(doing)?;
        mount.attach(&at).during(doing)?;
        targets.push(target);
    }
    Ok(targets)
}

/// The folders that came along, in the container's first process.
///
/// # Errors
/// [`Failure`] where the kernel refuses.
pub fn take(targets: Vec<PathBuf>) -> Result<Vec<Folder>, Failure> {
    let take = |(index, target)| {
        let mount =
            Detached::copy_of(&place_of(index), Depth::Tree).during("take over the synced folders")?;
        Ok(Folder { mount, target })
    };
    targets.into_iter().enumerate().map(take).collect()
}

fn place_of(index: usize) -> PathBuf {
    Path::new(PLACE).join(index.to_string())
}
