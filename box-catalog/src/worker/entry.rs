//! The worker's side.

use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode, ExitStatus};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, geteuid, getpgrp, getppid, kill_process_group, pidfd_open};

use super::protocol::{DiskOfTree, Event, job};
use crate::unpack::{self, Limits, Refusal, Unpacked};
use crate::{Form, KernelUnpacker};

/// Bytes between two reports.
const REPORT: u64 = 2 * 1024 * 1024;

/// What our binary does when its first argument is [`super::WORKER`]; `args` are those after it. Kernels found on disks are
/// kept as `kernels` unpacks them.
#[must_use]
pub fn worker_entry(args: &[OsString], kernels: KernelUnpacker) -> ExitCode {
    let mut args = args.iter().cloned();
    let word = args.next().unwrap_or_default();
    let done = match word.to_str() {
        Some(job::UNPACK) => unpack(Form::Rootfs, args.next(), kernels),
        Some(job::UNPACK_AS_DISK) => unpack(Form::Disk, args.next(), kernels),
        Some(job::TREE_OF_DISK) => tree_of_disk(args.next(), args.next()),
        Some(job::DISK_OF_TREE) => disk_of_tree(args.next(), kernels),
        Some(job::PACK) => pack(args.next()),
        Some(job::DELETE) => delete(args),
        Some(job::RUN) => run(args),
        Some(job::BECOME) => become_program(args),
        _ => Err(format!("no such job: {}", word.display())),
    };
    match done {
        Ok(code) => code,
        Err(message) => {
            // Read by the process that started us, which tells it.
            let _ = writeln!(io::stderr(), "{message}");
            ExitCode::FAILURE
        }
    }
}

fn unpack(form: Form, user: Option<OsString>, kernels: KernelUnpacker) -> Result<ExitCode, String> {
    let user = user.and_then(|user| user.into_string().ok());
    let input = io::stdin().as_fd().try_clone_to_owned().map_err(text)?;
    make(|seen| unpack::unpack_file(input.into(), Limits::default(), user.as_deref(), form, kernels, seen))
}

fn tree_of_disk(disk: Option<OsString>, user: Option<OsString>) -> Result<ExitCode, String> {
    let disk = disk.ok_or("no disk")?;
    let user = user.and_then(|user| user.into_string().ok());
    make(|seen| unpack::tree_of_disk(disk.as_ref(), Limits::default(), user.as_deref(), seen))
}

fn disk_of_tree(wanted: Option<OsString>, kernels: KernelUnpacker) -> Result<ExitCode, String> {
    let wanted = wanted.and_then(|wanted| wanted.into_string().ok()).ok_or("no tree")?;
    let wanted: DiskOfTree = serde_json::from_str(&wanted).map_err(text)?;
    let DiskOfTree { tree, size, kernel, digest, user } = &wanted;
    make(|_| unpack::disk_of_tree(tree, kernel.as_deref(), *size, digest, user, Limits::default(), kernels))
}

/// Has `work` make what a box holds in the current directory; what it is given hears of bytes that were read.
fn make(
    work: impl FnOnce(Box<dyn FnMut(u64) + Send>) -> Result<Unpacked, Refusal>,
) -> Result<ExitCode, String> {
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
    let done = work(Box::new(seen));
    tell(&done.map_or_else(Event::Refused, |unpacked| Event::Unpacked(Box::new(unpacked)))).map_err(text)?;
    Ok(ExitCode::SUCCESS)
}

fn pack(work: Option<OsString>) -> Result<ExitCode, String> {
    let work = work.and_then(|work| work.into_string().ok()).ok_or("nothing to pack")?;
    let work = serde_json::from_str(&work).map_err(text)?;
    die_with_parent(Signal::KILL)?;
    crate::pack::write_archive(&work, io::stdout().lock()).map_err(text)?;
    Ok(ExitCode::SUCCESS)
}

fn tell(event: &Event) -> io::Result<()> {
    let mut line = serde_json::to_vec(event)?;
    line.push(b'\n');
    let mut out = io::stdout().lock();
    out.write_all(&line)?;
    out.flush()
}

fn delete(names: impl Iterator<Item = OsString>) -> Result<ExitCode, String> {
    let here = std::env::current_dir().map_err(text)?;
    let mounts = fs_err::read_to_string("/proc/self/mountinfo").map_err(text)?;
    for name in names {
        let path = here.join(&name);
        // Whatever was mounted below is somebody's, and deleting would go into it.
        if let Some(point) = mount_points(&mounts).find(|point| point.starts_with(&path)) {
            return Err(format!("something is mounted on {}", point.display()));
        }
        match fs_err::remove_dir_all(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.to_string()),
            _ => {}
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The fifth fields of mountinfo (proc(5)), with their octal escapes undone.
fn mount_points(mountinfo: &str) -> impl Iterator<Item = PathBuf> {
    mountinfo.lines().filter_map(|line| line.split(' ').nth(4)).map(|field| {
        let mut bytes = Vec::with_capacity(field.len());
        let mut rest = field.as_bytes();
        while let Some((first, after)) = rest.split_first() {
            let escape =
                after.get(..3).and_then(|digits| u8::from_str_radix(str::from_utf8(digits).ok()?, 8).ok());
            match (first, escape) {
                (b'\\', Some(byte)) => {
                    bytes.push(byte);
                    rest = &after[3..];
                }
                _ => {
                    bytes.push(*first);
                    rest = after;
                }
            }
        }
        PathBuf::from(OsString::from_vec(bytes))
    })
}

fn run(mut command: impl Iterator<Item = OsString>) -> Result<ExitCode, String> {
    let (Some(exe), Some(program)) = (command.next(), command.next()) else {
        return Err("nothing to run".to_owned());
    };
    // Open in the program and in all that it starts, so that the directory is not swept before the last of them ends.
    let held = rustix::fs::open(".", OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).map_err(text)?;
    rustix::fs::flock(&held, FlockOperation::LockShared).map_err(text)?;
    rustix::process::chdir("/").map_err(text)?;
    if !geteuid().is_root() {
        return run_in_group(&program, command);
    }
    die_with_parent(Signal::KILL)?;
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWPID).map_err(text)?;
    mount_private()?;
    let become_it = [OsStr::new(super::WORKER), OsStr::new(job::BECOME), &program];
    let status =
        Command::new(exe).args(become_it).args(command).status().map_err(|error| failed(&program, &error))?;
    exit_code(status)
}

/// For an ordinary user, for whom mmdebstrap makes namespaces by itself: what is in them would outlive it, waiting for
/// each other. So the whole process group, which is ours, is killed when the process that started us is gone.
fn run_in_group(program: &OsStr, args: impl Iterator<Item = OsString>) -> Result<ExitCode, String> {
    let parent = getppid().ok_or("nobody asked for it")?;
    let parent = pidfd_open(parent, PidfdFlags::empty()).map_err(text)?;
    let mut child = Command::new(program).args(args).spawn().map_err(|error| failed(program, &error))?;
    let ended = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).map_err(text)?;
    let mut fds = [PollFd::new(&parent, PollFlags::IN), PollFd::new(&ended, PollFlags::IN)];
    while fds.iter().all(|fd| fd.revents().is_empty()) {
        match poll(&mut fds, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(text(errno)),
        }
    }
    if fds[1].revents().is_empty() {
        kill_process_group(getpgrp(), Signal::KILL).map_err(text)?;
    }
    exit_code(child.wait().map_err(|error| failed(program, &error))?)
}

fn exit_code(status: ExitStatus) -> Result<ExitCode, String> {
    Ok(ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)))
}

/// What is mounted from here on is seen by nobody else and gone with the last process that sees it.
fn mount_private() -> Result<(), String> {
    let flags = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, flags, None::<&str>).map_err(text)
}

/// As the first process of its namespace, whose end is the end of all in it.
fn become_program(mut command: impl Iterator<Item = OsString>) -> Result<ExitCode, String> {
    die_with_parent(Signal::KILL)?;
    let program = command.next().ok_or("nothing to run")?;
    Err(failed(&program, &Command::new(&program).args(command).exec()))
}

fn failed(program: &OsStr, error: &io::Error) -> String {
    format!("{}: {error}", program.display())
}

fn die_with_parent(signal: Signal) -> Result<(), String> {
    rustix::process::set_parent_process_death_signal(Some(signal)).map_err(text)
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn mount_points_are_read_with_their_blanks() {
        let text = "22 1 0:20 / /a\\040b\\134c rw - tmpfs none rw\n23 1 0:21 / / rw - ext4 none rw\n";
        let points: Vec<_> = mount_points(text).collect();
        assert_eq!(points, [Path::new("/a b\\c"), Path::new("/")]);
    }
}
