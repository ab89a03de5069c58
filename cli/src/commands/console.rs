use std::io::ErrorKind;
use std::os::fd::{AsFd as _, OwnedFd};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use crate::commands::common::NameArg;
use crate::commands::operation;
use crate::context::Context;
use crate::exit::ExitStatus;
use crate::failure::{CliError, Result};
use crate::printer::Printer;
use crate::terminal::Raw;

/// Sit down at a machine's console; Ctrl-] leaves it
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    name: NameArg,
}

/// Ctrl-], as telnet and virsh have it.
const LEAVE: u8 = 0x1d;

/// Why the console was left.
enum Left {
    /// The user wanted to.
    Asked,
    /// The machine's end is gone.
    Closed,
    /// A signal came.
    Signal(i32),
}

pub fn run(args: Args, context: &Context) -> Result<ExitStatus> {
    if context.printer.is_json() {
        return Err(CliError::usage(
            "a console cannot be JSON lines",
            "`posada log --follow --json` prints what it prints as events",
        )
        .into());
    }
    let project = context.project()?;
    let (orchestrator, _) = operation::orchestrator(context)?;
    let entry = orchestrator.one(&project, args.name.name.as_deref())?;
    let stream = context.block_on_here(orchestrator.console(&entry))??;
    let name = &entry.record.name;
    let signals = signals()?;
    let raw = Raw::enter()?;
    context.printer.note(&format!("this is the console of {name}; Ctrl-] leaves it\r"));
    let left = converse(&stream, &signals, &context.printer);
    drop(raw);
    context.printer.line("");
    match left? {
        Left::Asked => Ok(ExitStatus::OK),
        Left::Closed => {
            context.printer.note(&format!("the console of {name} has closed"));
            Ok(ExitStatus::OK)
        }
        Left::Signal(number) => Ok(ExitStatus::signal(number)),
    }
}

/// What would end the process without the terminal being put back.
fn signals() -> Result<SignalFd> {
    let mut set = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT] {
        set.add(signal);
    }
    let failed = |errno: nix::Error| CliError::internal("cannot listen for signals")(errno.into());
    set.thread_block().map_err(failed)?;
    Ok(SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC).map_err(failed)?)
}

/// Passes on what is typed and what is printed, until one side ends.
fn converse(stream: &OwnedFd, signals: &SignalFd, printer: &Printer) -> Result<Left> {
    let failed = |errno: Errno| CliError::host("the console broke off", errno.into());
    let stdin = std::io::stdin();
    let mut chunk = [0_u8; 4096];
    loop {
        let mut ready = [
            PollFd::new(&stdin, PollFlags::IN),
            PollFd::new(stream, PollFlags::IN),
            PollFd::new(signals, PollFlags::IN),
        ];
        match poll(&mut ready, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(failed(errno).into()),
        }
        let [typed, printed, signal] = ready.map(|fd| !fd.revents().is_empty());
        if signal && let Ok(Some(info)) = signals.read_signal() {
            return Ok(Left::Signal(i32::try_from(info.ssi_signo).unwrap_or(Signal::SIGTERM as i32)));
        }
        if printed {
            match rustix::io::read(stream, &mut chunk) {
                Ok(0) | Err(Errno::CONNRESET) => return Ok(Left::Closed),
                Ok(count) => printer.raw(&chunk[..count]),
                Err(Errno::INTR | Errno::AGAIN) => {}
                Err(errno) => return Err(failed(errno).into()),
            }
        }
        if typed {
            let count = match rustix::io::read(stdin.as_fd(), &mut chunk) {
                Ok(0) | Err(Errno::IO) => return Ok(Left::Asked),
                Ok(count) => count,
                Err(Errno::INTR | Errno::AGAIN) => continue,
                Err(errno) => return Err(failed(errno).into()),
            };
            let (keys, leave) = until_leave(&chunk[..count]);
            match write_all(stream, keys) {
                Ok(()) if leave => return Ok(Left::Asked),
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(Left::Closed),
                Err(error) => return Err(CliError::host("the console broke off", error).into()),
            }
        }
    }
}

/// What was typed before the key that leaves, and whether that was typed.
fn until_leave(keys: &[u8]) -> (&[u8], bool) {
    match keys.iter().position(|key| *key == LEAVE) {
        Some(at) => (&keys[..at], true),
        None => (keys, false),
    }
}

fn write_all(stream: &OwnedFd, mut bytes: &[u8]) -> std::io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(stream, bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(Errno::INTR) => {}
            // The stream does not block, and its other end is slow: wait for it.
            Err(Errno::AGAIN) => {
                poll(&mut [PollFd::new(stream, PollFlags::OUT)], None)?;
            }
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_that_leaves_is_not_typed() {
        assert_eq!(until_leave(b"ls\r"), (&b"ls\r"[..], false));
        assert_eq!(until_leave(b"ls\x1dmore"), (&b"ls"[..], true));
    }

    #[test]
    fn what_is_written_arrives_whole() {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let bytes = vec![7_u8; 1 << 20];
        let reader = std::thread::spawn(move || {
            let mut all = Vec::new();
            std::io::Read::read_to_end(&mut { theirs }, &mut all).unwrap();
            all
        });
        let ours = OwnedFd::from(ours);
        write_all(&ours, &bytes).unwrap();
        drop(ours);
        assert_eq!(reader.join().unwrap(), bytes);
    }
}
