//! The kernel's lock on an image, so that two monitors never write one.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// Takes an open-file-description lock on all of `file`: exclusive to write it, shared to read it. It lives as long
/// as the open file and dies with its holder. QEMU's tools see it too. Returns false where somebody else is in the
/// way.
///
/// # Errors
/// What the kernel says.
pub(super) fn take(file: &File, exclusive: bool) -> io::Result<bool> {
    let kind = if exclusive { libc::F_WRLCK } else { libc::F_RDLCK };
    // SAFETY: all zero is a valid flock.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = kind as libc::c_short;
    lock.l_whence = libc::SEEK_SET as libc::c_short;
    // SAFETY: the descriptor is open, and the call reads `lock` only.
    if unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &lock) } == 0 {
        return Ok(true);
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::EAGAIN | libc::EACCES) => Ok(false),
        _ => Err(error),
    }
}
