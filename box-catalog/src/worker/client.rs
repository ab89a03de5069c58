//! The store's side.

use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};

use super::WORKER;
use super::protocol::{DiskOfTree, Event, job};
use crate::pack::Job;
use crate::unpack::{Refusal, Unpacked};
use crate::{BoxError, Cancel, Form, Progress};

/// Why nothing was unpacked.
pub enum Failure {
    /// The archive is at fault, or the disk is full.
    Refused(Refusal),
    /// All else.
    Other(BoxError),
}

/// Whether the worker can be started at all.
pub fn check(exe: &Path) -> Result<(), BoxError> {
    posada_userns::command(exe, [WORKER])?;
    Ok(())
}

/// Unpacks `input` in `directory`, and where `form` is a disk makes one of it; `user`, where given, is who logs in.
pub fn unpack(
    exe: &Path,
    directory: &Path,
    input: Stdio,
    user: Option<&str>,
    form: Form,
    progress: &dyn Progress,
    cancel: &Cancel,
) -> Result<Unpacked, Failure> {
    let job = match form {
        Form::Rootfs => job::UNPACK,
        Form::Disk => job::UNPACK_AS_DISK,
    };
    let words = [OsStr::new(WORKER), OsStr::new(job)];
    work(exe, directory, words.into_iter().chain(user.map(OsStr::new)), input, progress, cancel)
}

/// Takes the root file system on the disk image `disk` into `directory`; `user`, where it has that account, is who logs in.
pub fn tree_of_disk(
    exe: &Path,
    directory: &Path,
    disk: &Path,
    user: Option<&str>,
    progress: &dyn Progress,
    cancel: &Cancel,
) -> Result<Unpacked, Failure> {
    let words = [OsStr::new(WORKER), OsStr::new(job::TREE_OF_DISK), disk.as_os_str()];
    work(exe, directory, words.into_iter().chain(user.map(OsStr::new)), Stdio::null(), progress, cancel)
}

/// Makes a disk image in `directory`.
pub fn disk_of_tree(
    exe: &Path,
    directory: &Path,
    wanted: &DiskOfTree,
    progress: &dyn Progress,
    cancel: &Cancel,
) -> Result<Unpacked, Failure> {
    let text = serde_json::to_string(wanted)
        .map_err(|error| Failure::Other(BoxError::Worker { what: error.to_string() }))?;
    let words = [OsStr::new(WORKER), OsStr::new(job::DISK_OF_TREE), OsStr::new(&text)];
    work(exe, directory, words, Stdio::null(), progress, cancel)
}

fn work<'a>(
    exe: &Path,
    directory: &Path,
    words: impl IntoIterator<Item = &'a OsStr>,
    input: Stdio,
    progress: &dyn Progress,
    cancel: &Cancel,
) -> Result<Unpacked, Failure> {
    let mut command = posada_userns::command(exe, words).map_err(|e| Failure::Other(e.into()))?;
    command.current_dir(directory).stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped());
    let failed = |what: String| Failure::Other(BoxError::Worker { what });
    let mut child = command.spawn().map_err(|error| failed(error.to_string()))?;
    // Our copy of the other end of the archive's pipe has to go, or its writer never sees the worker gone.
    drop(command);
    let _watch = cancel.watch(&child);
    let output = child.stdout.take();
    let mut outcome = None;
    for line in output.into_iter().flat_map(|output| BufReader::new(output).lines()) {
        let line = line.map_err(|error| failed(error.to_string()))?;
        match serde_json::from_str(&line).map_err(|error| failed(format!("it said `{line}`: {error}")))? {
            Event::Read(bytes) => progress.advance(bytes),
            Event::Unpacked(unpacked) => outcome = Some(Ok(*unpacked)),
            Event::Refused(refusal) => outcome = Some(Err(Failure::Refused(refusal))),
        }
    }
    let mut complaint = String::new();
    if let Some(mut errors) = child.stderr.take() {
        errors.read_to_string(&mut complaint).map_err(|error| failed(error.to_string()))?;
    }
    let status = child.wait().map_err(|error| failed(error.to_string()))?;
    if cancel.is_cancelled() {
        return Err(Failure::Other(BoxError::Cancelled));
    }
    outcome.unwrap_or_else(|| Err(failed(format!("{status}: {}", complaint.trim()))))
}

/// Deletes directories `names` of `directory`, whoever owns what is in them.
pub fn delete(exe: &Path, directory: &Path, names: &[OsString]) -> Result<(), BoxError> {
    let words = [OsStr::new(WORKER), OsStr::new(job::DELETE)];
    let mut command =
        posada_userns::command(exe, words.into_iter().chain(names.iter().map(OsString::as_os_str)))?;
    let output = command.current_dir(directory).stdin(Stdio::null()).output();
    let output = output.map_err(|error| BoxError::Worker { what: error.to_string() })?;
    if output.status.success() {
        Ok(())
    } else {
        let what = format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
        Err(BoxError::Worker { what })
    }
}

/// A command that runs `program` in `/`, has it end when this process dies, and holds `directory` until it and all
/// that it started have ended. The thread that starts it has to wait for it, as the kernel goes by the thread.
pub fn dying_with_us(exe: &Path, directory: &Path, program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(exe);
    command.arg(WORKER).arg(job::RUN).arg(exe).arg(program).current_dir(directory);
    command
}

/// Packs trees: `take` is given the archive as it comes, all of which it reads.
pub fn pack(
    exe: &Path,
    work: &Job,
    cancel: &Cancel,
    take: impl FnOnce(&mut dyn Read) -> std::io::Result<()>,
) -> Result<(), BoxError> {
    let failed = |what: String| BoxError::Worker { what };
    let text = serde_json::to_string(work).map_err(|error| failed(error.to_string()))?;
    let mut command =
        posada_userns::command(exe, [OsStr::new(WORKER), OsStr::new(job::PACK), OsStr::new(&text)])?;
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| failed(error.to_string()))?;
    let _watch = cancel.watch(&child);
    let taken = child.stdout.take().map_or(Ok(()), |mut archive| take(&mut archive));
    // Its end of the pipe is closed: where it was not read to the end, that ends the worker.
    let mut complaint = String::new();
    if let Some(mut errors) = child.stderr.take() {
        errors.read_to_string(&mut complaint).map_err(|error| failed(error.to_string()))?;
    }
    let status = child.wait().map_err(|error| failed(error.to_string()))?;
    if cancel.is_cancelled() {
        return Err(BoxError::Cancelled);
    }
    taken.map_err(|error| BoxError::io("write", "the archive of the machine's files", error))?;
    if status.success() { Ok(()) } else { Err(failed(complaint.trim().to_owned())) }
}
