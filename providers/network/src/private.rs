//! Networks between machines of this host, without any right on it.
//!
//! A network is a directory. Each machine that is in it has a socket there, and every two of them a connection that
//! carries frames: whoever joins connects to all who are there. What a machine sends goes to the one that has the
//! address, or to all where nobody is known to have it, as in a switch.

pub mod leases;
mod switch;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};

use posada_provider_api::MachineId;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use switch::Switch;

/// Guards the directory while somebody joins.
const LOCK: &str = ".lock";
/// Connections that wait to be accepted.
const BACKLOG: i32 = 1024;
/// Wished for in each direction of a connection, bytes; the host may give less.
const BUFFER: usize = 1 << 20;

/// The largest IP packet of these networks, bytes: nothing but memory lies between the machines.
pub const MTU: u16 = 65_520;

/// A machine's place in a network. Dropping it leaves the network.
#[derive(Debug)]
pub struct Private {
    socket: PathBuf,
    stop: Option<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl Private {
    /// Joins the network in the directory `dir`, which is made where it is missing, as the machine `id`. `link` is
    /// the machine's cable: each read and write is one Ethernet frame. Works in a thread of its own.
    ///
    /// Only one process at a time may join as `id`.
    ///
    /// # Errors
    /// Where the directory or the sockets in it cannot be had.
    pub fn join(dir: &Path, id: &MachineId, link: OwnedFd) -> io::Result<Self> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        rustix::io::ioctl_fionbio(&link, true)?;
        // Sockets are named through the open directory: their full names can be longer than an address holds.
        let directory = fs_err::File::open(dir)?;
        let lock = fs_err::File::create(dir.join(LOCK))?;
        lock.file().lock()?;
        let mut peers = Vec::new();
        for entry in fs_err::read_dir(dir)? {
            let name = entry?.file_name();
            let Some(name) = name.to_str().filter(|name| MachineId::parse(*name).is_ok()) else { continue };
            let is_gone = if name == id.as_str() {
                true
            } else {
                match connect(&address(&directory, name)?) {
                    Ok(peer) => {
                        peers.push(peer);
                        false
                    }
                    Err(error) => error == Errno::CONNREFUSED,
                }
            };
            if is_gone {
                // Left behind by a process that was killed; under the lock nobody can be taking its place.
                fs_err::remove_file(dir.join(name))?;
            }
        }
        let listener = listen(&address(&directory, id.as_str())?)?;
        drop(lock);

        let socket = dir.join(id.as_str());
        let (stop, stopped) = rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::STREAM,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            None,
        )?;
        let switch = Switch::new(link, listener, peers, stopped);
        let thread = thread::Builder::new().name("posada-switch".to_owned()).spawn(move || switch.run())?;
        Ok(Self { socket, stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        // Who joins from now on does not find us, and who has found us finds the connection closed.
        let _ = fs_err::remove_file(&self.socket);
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic in there has been told by the panic hook already.
            let _ = thread.join();
        }
    }
}

fn address(directory: &fs_err::File, name: &str) -> io::Result<SocketAddrUnix> {
    use std::os::fd::AsRawFd;
    let directory = directory.file().as_fd().as_raw_fd();
    Ok(SocketAddrUnix::new(format!("/proc/self/fd/{directory}/{name}"))?)
}

fn socket() -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
}

fn connect(to: &SocketAddrUnix) -> Result<OwnedFd, Errno> {
    let socket = socket()?;
    rustix::net::connect(&socket, to)?;
    widen(&socket)?;
    Ok(socket)
}

fn listen(at: &SocketAddrUnix) -> Result<OwnedFd, Errno> {
    let socket = socket()?;
    rustix::net::bind(&socket, at)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket)
}

/// Gives a connection room for frames.
fn widen(socket: &OwnedFd) -> Result<(), Errno> {
    rustix::net::sockopt::set_socket_send_buffer_size(socket, BUFFER)
}
