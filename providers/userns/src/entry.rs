//! `__userns -- PROGRAM ARGS…`: runs a program as root of the caller's id map.
//!
//! ```text
//! caller ── monitor (this process) ── child: new user and mount namespace ── exec PROGRAM
//! ```
//! The monitor writes the map for the child, passes signals on to it, kills it when the caller dies, and ends
//! the way it ended.

use std::convert::Infallible;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::signal::{SigHandler, SigSet, Signal, raise, signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Gid, Pid, Uid, fork, getppid, setgroups, setresgid, setresuid};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{PidfdFlags, pidfd_open, pidfd_send_signal};

use crate::{IdMap, IdMapError, MapTools};

/// Exit status where the program could not be run at all.
const CANNOT: u8 = 125;

/// What is passed on to the program.
const PASSED_ON: [Signal; 6] =
    [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGUSR1, Signal::SIGUSR2];

/// Runs the program that `args` name after `--`. To be called in a process that has just one thread; ends with
/// the program's exit status, or 125 and a line on standard error where it could not be run.
#[must_use]
pub fn entry(args: &[OsString]) -> ExitCode {
    match args {
        [dashes, program, rest @ ..] if dashes == "--" => match run(program, rest) {
            Ok(status) => finish(status),
            Err(error) => complain(&error),
        },
        _ => complain(&"usage: __userns -- PROGRAM ARGS"),
    }
}

/// Standard error belongs to whoever started this process: it is the only way to tell.
fn complain(what: &dyn std::fmt::Display) -> ExitCode {
    // Where even that is closed, the exit status still tells.
    let _ = rustix::io::write(rustix::stdio::stderr(), format!("posada: {what}\n").as_bytes());
    ExitCode::from(CANNOT)
}

fn run(program: &OsString, args: &[OsString]) -> Result<WaitStatus, IdMapError> {
    let map = IdMap::of_host()?;
    let tools = MapTools::find()?;
    let caller = Pidfd::open(getppid()).map_err(IdMapError::Refused)?;
    let (made, made_end) = pipe()?;
    let (mapped, mapped_end) = pipe()?;
    // SAFETY: this process has one thread, so the child may run any code.
    match unsafe { fork() }.map_err(|error| IdMapError::Refused(error.into()))? {
        ForkResult::Child => {
            drop((made, mapped_end));
            let Err(error) = become_root(program, args, made_end, mapped);
            let _ = complain(&error);
            // SAFETY: _exit runs nothing that belongs to the monitor.
            unsafe { libc::_exit(CANNOT.into()) }
        }
        ForkResult::Parent { child } => {
            drop((made_end, mapped));
            let child = Pidfd::open(child).map_err(IdMapError::Refused)?;
            if wait_for_byte(made) {
                // Dropping `mapped_end` where this fails ends the child.
                tools.write(child.pid.as_raw(), &map)?;
                let _ = rustix::io::write(&mapped_end, &[1]);
            }
            drop(mapped_end);
            monitor(&caller, &child).map_err(IdMapError::Refused)
        }
    }
}

/// The child: makes its namespaces, waits for the map, becomes root of it and runs the program.
fn become_root(
    program: &OsString,
    args: &[OsString],
    made: OwnedFd,
    mapped: OwnedFd,
) -> Result<Infallible, IdMapError> {
    let refused = |error: nix::Error| IdMapError::Refused(error.into());
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS).map_err(refused)?;
    let _ = rustix::io::write(&made, &[1]);
    drop(made);
    if !wait_for_byte(mapped) {
        // The monitor has told why.
        // SAFETY: as in `run`.
        unsafe { libc::_exit(CANNOT.into()) }
    }
    setgroups(&[]).map_err(refused)?;
    setresgid(Gid::from_raw(0), Gid::from_raw(0), Gid::from_raw(0)).map_err(refused)?;
    setresuid(Uid::from_raw(0), Uid::from_raw(0), Uid::from_raw(0)).map_err(refused)?;
    // Only now: a change of ids takes it back.
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(refused)?;
    let error = Command::new(program).args(args).exec();
    Err(IdMapError::NotWritten(format!("cannot run {}: {error}", program.display())))
}

/// Waits for the child's end. The death signal of the child follows this process; this process follows its
/// caller by a pidfd, as a death signal would follow the caller's thread.
fn monitor(caller: &Pidfd, child: &Pidfd) -> io::Result<WaitStatus> {
    let mut mask = SigSet::empty();
    PASSED_ON.into_iter().for_each(|signal| mask.add(signal));
    mask.thread_block()?;
    let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
    loop {
        let mut ready = [
            PollFd::new(&child.fd, PollFlags::IN),
            PollFd::new(&signals, PollFlags::IN),
            PollFd::new(&caller.fd, PollFlags::IN),
        ];
        match poll(&mut ready, None) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        }
        let [child_ended, signalled, caller_ended] = ready.map(|fd| !fd.revents().is_empty());
        if child_ended {
            return Ok(waitpid(child.pid, None)?);
        }
        if signalled {
            pass_on(&signals, child)?;
        }
        if caller_ended {
            child.signal(rustix::process::Signal::KILL);
            return Ok(waitpid(child.pid, None)?);
        }
    }
}

fn pass_on(signals: &SignalFd, child: &Pidfd) -> io::Result<()> {
    while let Some(info) = signals.read_signal()? {
        // What the terminal sends, it sends to the child as well.
        let from_process = info.ssi_code <= 0;
        if let (true, Ok(number)) = (from_process, i32::try_from(info.ssi_signo))
            && let Some(signal) = rustix::process::Signal::from_named_raw(number)
        {
            child.signal(signal);
        }
    }
    Ok(())
}

/// Ends as the program did: by the same signal, or with the same status.
fn finish(status: WaitStatus) -> ExitCode {
    match status {
        WaitStatus::Exited(_, code) => ExitCode::from(u8::try_from(code & 0xff).unwrap_or(CANNOT)),
        WaitStatus::Signaled(_, number, _) => {
            // One core dump, the program's own, is enough.
            let _ = prctl::set_dumpable(false);
            // SAFETY: the default action is no function of ours.
            let _ = unsafe { signal(number, SigHandler::SigDfl) };
            let mut mask = SigSet::empty();
            mask.add(number);
            let _ = mask.thread_unblock();
            let _ = raise(number);
            ExitCode::from(CANNOT)
        }
        _ => ExitCode::from(CANNOT),
    }
}

struct Pidfd {
    pid: Pid,
    fd: OwnedFd,
}

impl Pidfd {
    fn open(pid: Pid) -> io::Result<Self> {
        let number = rustix::process::Pid::from_raw(pid.as_raw()).ok_or(rustix::io::Errno::SRCH)?;
        Ok(Self { pid, fd: pidfd_open(number, PidfdFlags::empty())? })
    }

    fn signal(&self, signal: rustix::process::Signal) {
        // A process that is gone needs no signal.
        let _ = pidfd_send_signal(self.fd.as_fd(), signal);
    }
}

fn pipe() -> Result<(OwnedFd, OwnedFd), IdMapError> {
    rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
        .map_err(|error| IdMapError::Refused(error.into()))
}

/// Waits until the other side writes a byte; false where it goes away instead.
fn wait_for_byte(end: OwnedFd) -> bool {
    let mut byte = [0_u8; 1];
    loop {
        match rustix::io::read(&end, &mut byte) {
            Err(rustix::io::Errno::INTR) => {}
            result => return result == Ok(1),
        }
    }
}
