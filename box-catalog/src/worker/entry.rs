//! The worker's side.

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::process::Signal;

use super::protocol::{Event, job};
use crate::unpack::{self, Limits};

/// Bytes between two reports.
const REPORT: u64 = 2 * 1024 * 1024;

/// What our binary does when its first argument is [`super::WORKER`]; `args` are those after it.
#[must_use]
pub fn worker_entry(args: &[OsString]) -> ExitCode {
    let mut args = args.iter().cloned();
    let word = args.next().unwrap_or_default();
    let done = match word.to_str() {
        Some(job::UNPACK) => unpack(args.next().and_then(|user| user.into_string().ok())),
        Some(job::DELETE) => delete(args),
        Some(job::RUN) => run(args),
        _ => Err(format!("no such job: {}", word.display())),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            // Read by the process that started us, which tells it.
            let _ = writeln!(io::stderr(), "{message}");
            ExitCode::FAILURE
        }
    }
}

fn unpack(user: Option<String>) -> Result<(), String> {
    die_with_parent(Signal::KILL)?;
    // Shared with the process that started us: the directory counts as abandoned once both are gone.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let here = rustix::fs::open(".", flags, Mode::empty()).map_err(text)?;
    rustix::fs::flock(&here, FlockOperation::LockShared).map_err(text)?;
    let mut unreported = 0;
    let seen = move |bytes| {
        unreported += bytes;
        if unreported >= REPORT {
            // Where nobody listens any more we are killed, too.
            let _ = tell(&Event::Read(std::mem::take(&mut unreported)));
        }
    };
    let done = unpack::unpack(io::stdin(), Limits::default(), user.as_deref(), seen);
    tell(&done.map_or_else(Event::Refused, Event::Unpacked)).map_err(text)
}

fn tell(event: &Event) -> io::Result<()> {
    let mut line = serde_json::to_vec(event)?;
    line.push(b'\n');
    let mut out = io::stdout().lock();
    out.write_all(&line)?;
    out.flush()
}

fn delete(names: impl Iterator<Item = OsString>) -> Result<(), String> {
    for name in names {
        match fs_err::remove_dir_all(&name) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.to_string()),
            _ => {}
        }
    }
    Ok(())
}

fn run(mut command: impl Iterator<Item = OsString>) -> Result<(), String> {
    die_with_parent(Signal::TERM)?;
    let program = command.next().ok_or("nothing to run")?;
    let error = Command::new(&program).args(command).exec();
    Err(format!("{}: {error}", program.display()))
}

fn die_with_parent(signal: Signal) -> Result<(), String> {
    rustix::process::set_parent_process_death_signal(Some(signal)).map_err(text)
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
