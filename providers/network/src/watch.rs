//! Descriptors of any kind, watched by the runtime.

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::unix::AsyncFd;

/// Makes `fd` non-blocking and registers it with the current runtime.
pub(crate) fn watch(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    rustix::io::ioctl_fionbio(&fd, true)?;
    // SAFETY: an `OwnedFd` owns its open descriptor and nobody can replace or close it inside the `AsyncFd`.
    Ok(unsafe { AsyncFd::register(fd) }?)
}
