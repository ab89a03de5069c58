//! Starting a supervisor, and being one.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use posada_provider_api::MachineDir;

use crate::client::short_path;
use crate::liveness::{self, Alive};

/// Where a supervisor finds its listening control socket.
const LISTENER: RawFd = 3;
/// Where it finds its locked `alive` file.
const ALIVE: RawFd = 4;

/// Starts a supervisor for the machine in `dir` by executing `exe entry dir`, unless one lives already. Where
/// there is a `launcher`, it is executed with those words behind it; it must become them, as `systemd-run --scope`
/// does.
/// When this returns, the control socket takes requests, and the supervisor lives on without its starter.
/// Returns whether one was started.
///
/// # Errors
/// Where the socket or the process cannot be made.
pub fn start(launcher: &[&str], exe: &Path, entry: &str, dir: &MachineDir) -> io::Result<bool> {
    let Some(alive) = Alive::acquire(dir)? else { return Ok(false) };
    let listener = bind(dir)?;
    let log = File::options().create(true).write(true).truncate(true).open(dir.supervisor_log())?;
    let handed = [(OwnedFd::from(listener), LISTENER), (OwnedFd::from(alive.into_file()), ALIVE)];
    // Above every target, so that placing one cannot close another.
    let handed = handed.map(|(fd, target)| Ok((rustix::io::fcntl_dupfd_cloexec(&fd, 10)?, target)));
    let [listener, alive] = handed.map(|pair: io::Result<_>| pair);
    let handed = [listener?, alive?];
    let mut command = match launcher {
        [program, words @ ..] => {
            let mut command = Command::new(program);
            // `/proc/self/exe` is another binary in the launcher's process.
            command.args(words).arg(fs_err::canonicalize(exe)?);
            command
        }
        [] => Command::new(exe),
    };
    command.arg(entry).arg(dir.path()).current_dir("/").stdin(Stdio::null());
    command.stdout(log.try_clone()?).stderr(log);
    // SAFETY: the closure runs between fork and exec and makes only system calls (setsid, dup2), no allocation.
    unsafe {
        command.pre_exec(move || {
            rustix::process::setsid()?;
            for (fd, target) in &handed {
                nix::errno::Errno::result(nix::libc::dup2(fd.as_raw_fd(), *target))?;
            }
            Ok(())
        });
    }
    command.spawn()?;
    Ok(true)
}

fn bind(dir: &MachineDir) -> io::Result<UnixListener> {
    let path = dir.control_socket();
    match fs_err::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    UnixListener::bind(short_path(&fs_err::File::open(dir.path())?))
}

/// What a supervisor was handed by its starter.
#[derive(Debug)]
pub struct Inheritance {
    /// The listening control socket.
    pub listener: UnixListener,
    /// The locked `alive` file, to be kept open until the end.
    pub alive: File,
}

/// Takes over what the starter handed down. To be called once, first thing in a supervisor.
///
/// # Errors
/// Where the process was not started by [`start`].
pub fn inherit() -> io::Result<Inheritance> {
    for fd in [LISTENER, ALIVE] {
        // SAFETY: fcntl on a descriptor number; a closed one gives EBADF.
        nix::errno::Errno::result(unsafe { nix::libc::fcntl(fd, nix::libc::F_SETFD, nix::libc::FD_CLOEXEC) })
            .map_err(|_| io::Error::other("not started as a supervisor"))?;
    }
    // SAFETY: both are open (checked above), and nothing else in this process owns them: they were placed
    // there by `start`, and this runs once, before anything opens files.
    let (listener, alive) = unsafe { (OwnedFd::from_raw_fd(LISTENER), OwnedFd::from_raw_fd(ALIVE)) };
    let alive = File::from(alive);
    liveness::sign(&alive);
    Ok(Inheritance { listener: listener.into(), alive })
}
