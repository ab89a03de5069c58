//! The keeper: a process with one thread that launches a container and stays its parent.
//!
//! ```text
//! launching ──► running ──► ended
//!     └────────────┴──── the supervisor is gone: kill the container ────► ended
//! ```
//! Its standard input is the socket to the supervisor, its standard output the lock that spans its life.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::ExitCode;

use posada_provider_api::MachineDir;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags, open};
use rustix::process::{Signal, WaitIdStatus};

use super::launch::{Running, describe, launch};
use super::network;
use super::wire::{Ended, Launch, Order, Report};
use crate::cgroup::Group;
use crate::failure::{During, Failure};
use crate::sys::message;

/// The keeper's entry, behind [`super::ENTRY`]: `args` are what follows that word. To be called in a process
/// that has just one thread.
#[must_use]
pub fn keeper_entry(args: &[OsString]) -> ExitCode {
    let args: Vec<&OsStr> = args.iter().map(OsString::as_os_str).collect();
    let done = match args[..] {
        [] => match serve() {
            // A supervisor that is gone needs nothing, and what it had is undone by whoever comes next.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            result => result.during("serve the supervisor"),
        },
        [job, path] if job == "remove-groups" => {
            Group::new(path).remove_below().during("remove control groups")
        }
        [job, path] if job == "remove-tree" => super::top::remove_tree(Path::new(path)),
        _ => Err(Failure::internal("usage: __container-keeper [remove-groups|remove-tree PATH]")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // Standard error is the only way to tell whoever started this process.
            let _ = rustix::io::write(rustix::stdio::stderr(), format!("posada: {failure}\n").as_bytes());
            ExitCode::FAILURE
        }
    }
}

/// Moves a standard stream out of the way of programs that this process starts, and closes it to them.
fn take(stream: impl AsFd) -> io::Result<OwnedFd> {
    Ok(rustix::io::fcntl_dupfd_cloexec(stream, 3)?)
}

fn serve() -> io::Result<()> {
    let socket = take(io::stdin())?;
    let _lock = take(io::stdout())?;
    let null = open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    // Signals that the caller's terminal sends are the supervisor's to judge.
    let _ = rustix::process::setsid();
    rustix::process::umask(Mode::from_raw_mode(0o022));
    rustix::process::chdir("/")?;
    let Some((Order::Launch(order), _)) = message::receive(&socket)? else { return Ok(()) };
    let Launch { exe, dir, spec } = *order;
    let phase = format!("starting {}", spec.name);
    message::send(&socket, &Report::Phase(phase), &[])?;
    match launch(&exe, &MachineDir::new(dir), &spec) {
        Ok(running) => keep(&socket, running),
        Err(failure) => message::send(&socket, &Report::Failed(failure), &[]),
    }
}

fn keep(socket: &OwnedFd, running: Running) -> io::Result<()> {
    let Running { child, halt, console, run, cables, group, warnings } = running;
    let way_out = cables.way_out.is_some();
    let launched = Report::Launched { init_pid: child.pid.as_raw_nonzero().get(), way_out, warnings };
    let mut fds = vec![console.as_fd(), run.as_fd()];
    fds.extend(cables.way_out.iter().chain(&cables.private).map(AsFd::as_fd));
    let mut alone = message::send(socket, &launched, &fds).is_err();
    // The supervisor has them now; the cables must end with it.
    drop((console, run, cables));
    while !alone {
        let mut ready = [PollFd::new(socket, PollFlags::IN), PollFd::new(&child, PollFlags::IN)];
        match poll(&mut ready, None) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        }
        let [spoken_to, ended] = ready.map(|fd| !fd.revents().is_empty());
        if ended {
            break;
        }
        if spoken_to {
            alone = match message::receive(socket) {
                Ok(Some((Order::Socket { ticket, protocol }, _))) => {
                    answer(socket, ticket, network::socket(protocol)).is_err()
                }
                Ok(Some((Order::Stop, _))) => {
                    child.signal(signal(halt.signal()))?;
                    false
                }
                Ok(Some((Order::Kill, _))) => {
                    child.signal(Signal::KILL)?;
                    false
                }
                Ok(Some((Order::Launch(_), _)) | None) | Err(_) => true,
            };
        }
    }
    if alone {
        child.signal(Signal::KILL)?;
    }
    let status = child.wait()?;
    // All processes of the container ended before its first one could be waited for. The groups below belong
    // to this process's user, and to nobody else who is likely to come by.
    let _ = group.remove_below();
    match message::send(socket, &Report::Ended(ended(&status)), &[]) {
        Err(_) if alone => Ok(()),
        result => result,
    }
}

fn answer(socket: &OwnedFd, ticket: u64, made: io::Result<OwnedFd>) -> io::Result<()> {
    let sent = made
        .and_then(|made| message::send(socket, &Report::Socket { ticket, made: Ok(()) }, &[made.as_fd()]));
    match sent {
        // The socket could not be made, or not be handed over while too many others are on their way.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            message::send(socket, &Report::Socket { ticket, made: Err(network::errno(&error)) }, &[])
        }
        sent => sent,
    }
}

fn signal(number: i32) -> Signal {
    Signal::from_named_raw(number).unwrap_or_else(|| {
        // SAFETY: the only unnamed number in use is systemd's real-time signal, which no C library here
        // reserves for itself.
        unsafe { Signal::from_raw_unchecked(number) }
    })
}

/// The kernel tells what reboot(2) was called with by the signal that a namespace's init dies of.
fn ended(status: &WaitIdStatus) -> Ended {
    const REBOOT: i32 = libc::SIGHUP;
    const HALT: i32 = libc::SIGINT;
    match (status.exit_status(), status.terminating_signal()) {
        (_, Some(REBOOT)) => Ended::Rebooted,
        // Without the right to call reboot, an init just exits.
        (Some(0), _) | (_, Some(HALT)) => Ended::Halted,
        _ => Ended::Died(format!("its init {}", describe(status))),
    }
}
