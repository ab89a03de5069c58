//! Detached mounts: made by whoever has the right, configured while nobody sees them, attached by the container.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::CWD;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};

/// Whether what is mounted below belongs to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// This mount alone.
    One,
    /// All that is mounted below as well.
    Tree,
}

/// A mount that is not attached anywhere; it ends with its last descriptor, or lives on where it is attached.
#[derive(Debug)]
pub struct Detached(OwnedFd);

/// Flags for `mount_setattr`.
const AT_RECURSIVE: libc::c_uint = 0x8000;

/// `struct mount_attr` of `linux/mount.h`.
#[repr(C)]
#[derive(Default)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

impl Detached {
    /// A copy of what is seen at `path`.
    ///
    /// # Errors
    /// Those of open_tree(2).
    pub fn copy_of(path: &Path, depth: Depth) -> io::Result<Self> {
        let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        if depth == Depth::Tree {
            flags |= OpenTreeFlags::AT_RECURSIVE;
        }
        Ok(Self(open_tree(CWD, path, flags)?))
    }

    /// A new file system of `kind` with `options`; an option without value is a flag.
    ///
    /// # Errors
    /// Those of fsopen(2), fsconfig(2) and fsmount(2).
    pub fn new(kind: &str, options: &[(&str, &str)], attributes: MountAttrFlags) -> io::Result<Self> {
        let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
        for (key, value) in options {
            if value.is_empty() {
                fsconfig_set_flag(context.as_fd(), *key)?;
            } else {
                fsconfig_set_string(context.as_fd(), *key, *value)?;
            }
        }
        fsconfig_create(context.as_fd())?;
        Ok(Self(fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?))
    }

    /// Sets attributes.
    ///
    /// # Errors
    /// Those of mount_setattr(2).
    pub fn set(&self, attributes: MountAttrFlags, depth: Depth) -> io::Result<()> {
        self.set_attr(&MountAttr { attr_set: attributes.bits().into(), ..MountAttr::default() }, depth)
    }

    /// Shows owners through the id map of the user namespace `map`, and sets attributes with it.
    ///
    /// # Errors
    /// `EINVAL` where the file system knows no idmapped mounts; those of mount_setattr(2).
    pub fn set_id_map(
        &self,
        map: BorrowedFd<'_>,
        attributes: MountAttrFlags,
        depth: Depth,
    ) -> io::Result<()> {
        let attributes = attributes | MountAttrFlags::MOUNT_ATTR_IDMAP;
        let userns_fd = u64::from(map.as_raw_fd().unsigned_abs());
        self.set_attr(
            &MountAttr { attr_set: attributes.bits().into(), userns_fd, ..MountAttr::default() },
            depth,
        )
    }

    fn set_attr(&self, attr: &MountAttr, depth: Depth) -> io::Result<()> {
        let mut flags = libc::AT_EMPTY_PATH.unsigned_abs();
        if depth == Depth::Tree {
            flags |= AT_RECURSIVE;
        }
        // SAFETY: the structure has the layout and size that are passed and outlives the call; the path is an
        // empty string constant.
        let result = unsafe {
            libc::syscall(
                libc::SYS_mount_setattr,
                self.0.as_raw_fd(),
                c"".as_ptr(),
                flags,
                std::ptr::from_ref(attr),
                size_of::<MountAttr>(),
            )
        };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Attaches it at `path`.
    ///
    /// # Errors
    /// Those of move_mount(2).
    pub fn attach(self, path: &Path) -> io::Result<()> {
        Ok(move_mount(self.0.as_fd(), "", CWD, path, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?)
    }
}

impl AsFd for Detached {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
