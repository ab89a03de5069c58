//! The host's end of connections: Unix sockets.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, connect, listen, socket_with,
};

/// How many clients wait to be accepted.
const WAITING: i32 = 128;

fn socket() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?)
}

/// Connects to `path_PORT`, at once or not at all.
pub(super) fn connect_to(stem: &Path, port: u32) -> io::Result<OwnedFd> {
    let mut path = OsString::from(stem);
    path.push(format!("_{port}"));
    let socket = socket()?;
    connect(&socket, &SocketAddrUnix::new(Path::new(&path))?)?;
    Ok(socket)
}

/// Where clients connect. Its path goes with it.
#[derive(Debug)]
pub(super) struct Listener {
    socket: OwnedFd,
    path: PathBuf,
}

impl Listener {
    pub(super) fn bind(path: PathBuf) -> io::Result<Self> {
        let address = SocketAddrUnix::new(&path)?;
        let socket = socket()?;
        match bind(&socket, &address) {
            Err(Errno::ADDRINUSE) if is_abandoned(&path, &address)? => {
                fs_err::remove_file(&path)?;
                bind(&socket, &address)?;
            }
            bound => bound?,
        }
        listen(&socket, WAITING)?;
        Ok(Self { socket, path })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn accept(&self) -> io::Result<OwnedFd> {
        Ok(accept_with(&self.socket, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?)
    }
}

/// Whether there is a socket on which nobody listens. What is no socket refuses connections in the same way.
fn is_abandoned(path: &Path, address: &SocketAddrUnix) -> io::Result<bool> {
    if !fs_err::symlink_metadata(path)?.file_type().is_socket() {
        return Ok(false);
    }
    match connect(&socket()?, address) {
        Err(Errno::CONNREFUSED) => Ok(true),
        _ => Ok(false),
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // Somebody may have removed it already.
        let _ = fs_err::remove_file(&self.path);
    }
}
