//! User namespaces that exist for their id map alone: idmapped mounts take the map from one.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use posada_userns::{Extent, IdMap};
use rustix::process::{Pid, Signal};

use super::clone::{Who, clone};

/// Writes the map of process `pid`'s user namespace; the caller is root.
///
/// # Errors
/// Those of writing `/proc/PID/uid_map`, see user_namespaces(7).
pub fn write_maps(pid: Pid, uids: &[Extent], gids: &[Extent]) -> io::Result<()> {
    let pid = pid.as_raw_nonzero();
    fs_err::write(format!("/proc/{pid}/uid_map"), IdMap::to_proc(uids))?;
    fs_err::write(format!("/proc/{pid}/gid_map"), IdMap::to_proc(gids))
}

/// The user namespace of process `pid`.
///
/// # Errors
/// Those of opening `/proc/PID/ns/user`.
pub fn of(pid: Pid) -> io::Result<OwnedFd> {
    Ok(File::open(format!("/proc/{}/ns/user", pid.as_raw_nonzero()))?.into())
}

/// A user namespace with a map, in which no process is.
///
/// # Errors
/// Those of clone3(2) and of writing the map.
pub fn holding(uids: &[Extent], gids: &[Extent]) -> io::Result<OwnedFd> {
    let (held, holder) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    // SAFETY: only the keeper calls this, which has one thread.
    match unsafe { clone(libc::CLONE_NEWUSER, None) }? {
        Who::Child => {
            drop(holder);
            // Ends with the parent, or when it has what it wants: whichever closes the pipe.
            let _ = rustix::io::read(&held, &mut [0_u8; 1]);
            // SAFETY: runs nothing that belongs to the parent.
            unsafe { libc::_exit(0) }
        }
        Who::Parent(child) => {
            let namespace = write_maps(child.pid, uids, gids).and_then(|()| of(child.pid));
            child.signal(Signal::KILL)?;
            child.wait()?;
            namespace
        }
    }
}
