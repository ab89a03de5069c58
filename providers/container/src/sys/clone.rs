//! clone3(2): a child in namespaces and a cgroup of its own, held by a pidfd.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, WaitIdStatus, pidfd_open, pidfd_send_signal, waitid,
};

/// The argument of clone3, `struct clone_args` of `linux/sched.h`.
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

const CLONE_PIDFD: u64 = 0x1000;
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// A child process.
#[derive(Debug)]
pub struct Child {
    /// Its id in our namespace.
    pub pid: Pid,
    pidfd: OwnedFd,
}

/// Who one is after [`clone`].
#[derive(Debug)]
pub enum Who {
    /// The process that called.
    Parent(Child),
    /// The one that was made.
    Child,
}

/// Makes a child with the namespaces `flags` (`CLONE_NEW…`), in the version 2 cgroup that `cgroup` is open on.
///
/// # Safety
/// The calling process has one thread; otherwise the child finds locks that nobody will ever open.
///
/// # Errors
/// Those of clone3(2).
pub unsafe fn clone(flags: libc::c_int, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Who> {
    let mut pidfd: libc::c_int = -1;
    let mut args = CloneArgs {
        flags: u64::from(flags.cast_unsigned()) | CLONE_PIDFD,
        pidfd: std::ptr::from_mut(&mut pidfd) as u64,
        // A sibling ends with the signal that its maker would end with.
        exit_signal: if flags & libc::CLONE_PARENT == 0 { libc::SIGCHLD.unsigned_abs().into() } else { 0 },
        ..CloneArgs::default()
    };
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = u64::from(cgroup.as_raw_fd().unsigned_abs());
    }
    // SAFETY: `args` has the layout and size that are passed, and the pidfd's place outlives the call. Without
    // CLONE_VM the child runs on a copy of this memory, as after fork.
    let pid =
        unsafe { libc::syscall(libc::SYS_clone3, std::ptr::from_mut(&mut args), size_of::<CloneArgs>()) };
    match i32::try_from(pid) {
        Ok(0) => Ok(Who::Child),
        Ok(pid) if pid > 0 => {
            let pid = Pid::from_raw(pid).ok_or(rustix::io::Errno::SRCH)?;
            // SAFETY: the kernel has just put a descriptor there that nobody else owns.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Who::Parent(Child { pid, pidfd }))
        }
        _ => Err(io::Error::last_os_error()),
    }
}

impl Child {
    /// Takes over a child of ours that another process has made; it has not been waited for.
    ///
    /// # Errors
    /// Those of pidfd_open(2).
    pub fn adopt(pid: i32) -> io::Result<Self> {
        let pid = Pid::from_raw(pid).ok_or(rustix::io::Errno::SRCH)?;
        Ok(Self { pid, pidfd: pidfd_open(pid, PidfdFlags::empty())? })
    }

    /// Ends it, as it is of no use any more after `why`.
    pub fn abandon<E>(self, why: E) -> E {
        // Where it cannot be killed it is dead already.
        let _ = self.signal(Signal::KILL);
        let _ = self.wait();
        why
    }

    /// Sends a signal by its number; a child that is gone needs none.
    ///
    /// # Errors
    /// Those of pidfd_send_signal(2).
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        match pidfd_send_signal(&self.pidfd, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    /// Those of waitid(2).
    pub fn wait(&self) -> io::Result<WaitIdStatus> {
        loop {
            match waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED) {
                Ok(Some(status)) => return Ok(status),
                Ok(None) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl AsFd for Child {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}
