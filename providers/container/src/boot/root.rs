//! The container's root file system: an overlay of the layers and the machine's own top.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::mount::{
    MountAttrFlags, MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount,
};
use rustix::process::{chdir, fchdir, pivot_root};

use crate::failure::{During, Failure};
use crate::sys::mount::Detached;

/// Where the host's root file system still is, until [`leave`].
#[derive(Debug)]
pub struct OldRoot(OwnedFd);

/// Where layers are attached on the way; covered in the container's own mount namespace only. `/sys` is there
/// on every host and holds nothing that is still needed.
const STAGING: &str = "/sys";

/// Makes the overlay and enters it. The host's file systems are still mounted, out of reach of paths.
///
/// # Errors
/// [`Failure`] where the kernel refuses.
pub fn enter(layers: Vec<Detached>, top: Detached) -> Result<OldRoot, Failure> {
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .during("make mounts private")?;
    let staging =
        Detached::new("tmpfs", &[("mode", "0755"), ("size", "1m")], MountAttrFlags::MOUNT_ATTR_NOSUID)
            .during("make a place for mounts")?;
    staging.attach(Path::new(STAGING)).during("make a place for mounts")?;
    chdir(STAGING).during("go to the place for mounts")?;
    // Relative names keep the option string short: it is bounded by a page.
    let mut lower = Vec::new();
    for (index, layer) in layers.into_iter().enumerate() {
        let name = index.to_string();
        attach_at(layer, &name)?;
        lower.push(name);
    }
    attach_at(top, "top")?;
    fs_err::create_dir("root").during("make a place for mounts")?;
    // The overlay names its topmost layer first.
    lower.reverse();
    let options = format!("lowerdir={},upperdir=top/upper,workdir=top/work,userxattr", lower.join(":"));
    let options = CString::new(options).map_err(std::io::Error::from).during("name the layers")?;
    mount("posada", "root", "overlay", MountFlags::empty(), options.as_c_str()).map_err(overlay_failure)?;
    let old = File::open("/").during("hold the host's root")?;
    chdir("root").during("enter the overlay")?;
    pivot_root(".", ".").during("make the overlay the root")?;
    chdir("/").during("enter the overlay")?;
    Ok(OldRoot(old.into()))
}

/// Lets go of the host's file systems.
///
/// # Errors
/// [`Failure`] where the kernel refuses.
pub fn leave(old: OldRoot) -> Result<(), Failure> {
    fchdir(&old.0).during("go back to the host's root")?;
    unmount(".", UnmountFlags::DETACH).during("let go of the host's file systems")?;
    chdir("/").during("enter the overlay")
}

fn attach_at(mount: Detached, name: &str) -> Result<(), Failure> {
    fs_err::create_dir(name).during("make a place for mounts")?;
    mount.attach(Path::new(name)).during(format_args!("attach layer {name}"))
}

fn overlay_failure(error: rustix::io::Errno) -> Failure {
    let what = format!("the kernel refuses the overlay of box and machine: {error}");
    match error {
        rustix::io::Errno::INVAL | rustix::io::Errno::PERM | rustix::io::Errno::OPNOTSUPP => Failure::host(
            what,
            "posada needs Linux 5.11 for ordinary users and 5.19 for root, and a file system that can be an overlay's upper layer: ext4, xfs, btrfs or tmpfs",
        ),
        rustix::io::Errno::NODEV => Failure::host(what, "run `sudo modprobe overlay`"),
        _ => Err::<(), _>(error).during("mount the overlay of box and machine").unwrap_err(),
    }
}
