//! Finding the box's own init and becoming it.

use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use posada_provider_api::MachineSpec;
use serde::{Deserialize, Serialize};

use crate::failure::Failure;

/// Where an init may be, in the order in which the kernel would look.
const PLACES: [&str; 5] =
    ["/sbin/init", "/usr/sbin/init", "/usr/lib/systemd/systemd", "/lib/systemd/systemd", "/init"];

/// How an init is asked to shut the machine down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Halt {
    /// systemd: `SIGRTMIN+3`, as its interface for containers has it. See systemd(1).
    Systemd,
    /// Others, as LXC does: `SIGPWR`.
    Other,
}

impl Halt {
    /// The signal's number. systemd means glibc's first real-time signal, 34, whatever the C library here.
    #[must_use]
    pub fn signal(self) -> i32 {
        match self {
            Self::Systemd => 34 + 3,
            Self::Other => libc::SIGPWR,
        }
    }
}

/// The init of the root file system that has just been entered.
#[derive(Debug)]
pub struct Init {
    path: PathBuf,
    /// How it is asked to shut down.
    pub halt: Halt,
}

impl Init {
    /// Finds it.
    ///
    /// # Errors
    /// [`Failure::Box`] where there is none.
    pub fn find() -> Result<Self, Failure> {
        let path = PLACES.iter().map(Path::new).find(|path| is_program(path)).ok_or_else(|| {
            Failure::of_box(
                format!("it has no init: none of {} is a program", PLACES.join(", ")),
                "build the box with the packages `systemd-sysv` and `openssh-server`",
            )
        })?;
        let real = fs_err::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let systemd = real.file_name() == Some(OsStr::new("systemd"));
        Ok(Self { path: path.to_owned(), halt: if systemd { Halt::Systemd } else { Halt::Other } })
    }

    /// Becomes it, with `terminal` as its standard streams; returns only where that fails.
    pub fn become_it(self, spec: &MachineSpec, machine_id: &str, terminal: OwnedFd) -> Failure {
        let result = self.exec(spec, machine_id, terminal);
        let error = result.err().unwrap_or_else(|| io::Error::other("it returned"));
        if error.raw_os_error() == Some(libc::ENOEXEC) {
            let what = format!("its init {} is not a program for this computer", self.path.display());
            return Failure::of_box(what, format!("take a box for {}", std::env::consts::ARCH));
        }
        Failure::of_box(
            format!("its init {} cannot be run: {error}", self.path.display()),
            "build the box again",
        )
    }

    fn exec(&self, spec: &MachineSpec, machine_id: &str, terminal: OwnedFd) -> io::Result<()> {
        let path = CString::new(self.path.as_os_str().as_bytes())?;
        let environment = [
            "container=posada".to_owned(),
            format!("container_uuid={machine_id}"),
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
            "TERM=xterm-256color".to_owned(),
            "HOME=/root".to_owned(),
            format!("HOSTNAME={}", spec.hostname),
        ];
        let environment: Vec<CString> =
            environment.into_iter().map(CString::new).collect::<Result<_, _>>()?;
        rustix::process::setsid()?;
        rustix::stdio::dup2_stdin(&terminal)?;
        rustix::stdio::dup2_stdout(&terminal)?;
        rustix::stdio::dup2_stderr(&terminal)?;
        close_others_on_exec()?;
        reset_signals()?;
        nix::unistd::execve(&path, &[path.as_c_str()], &environment)?;
        Ok(())
    }
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    fs_err::metadata(path)
        .is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

fn close_others_on_exec() -> io::Result<()> {
    // SAFETY: only marks descriptors; all that are open stay so for this process.
    let result = unsafe { libc::close_range(3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC.cast_signed()) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// An init expects no signal ignored or blocked; Rust's runtime ignores SIGPIPE.
fn reset_signals() -> io::Result<()> {
    for number in 1..=64 {
        // SAFETY: the default action runs none of our code. Signals that cannot be set refuse, harmlessly.
        unsafe { libc::signal(number, libc::SIG_DFL) };
    }
    nix::sys::signal::SigSet::empty().thread_set_mask()?;
    Ok(())
}
