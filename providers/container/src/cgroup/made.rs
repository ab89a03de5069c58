//! Control groups that exist: handing them over, freezing, killing, removing.

use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{AtFlags, Gid, Uid, chownat};

use crate::failure::{During, Failure};

/// How long the kernel may take to end or freeze all processes of a group; only processes stuck in the kernel
/// (a dead network file system) take long.
const PATIENCE: Duration = Duration::from_secs(20);

/// A version 2 group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group(PathBuf);

impl Group {
    /// The group at `path`.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// Opens it, for clone3.
    ///
    /// # Errors
    /// Those of open(2).
    pub fn open(&self) -> io::Result<File> {
        fs_err::File::open(&self.0).map(fs_err::File::into_file)
    }

    /// Stops all of its processes where they are, and waits until they are stopped.
    ///
    /// # Errors
    /// [`Failure`] where the kernel refuses or a process does not stop.
    pub fn freeze(&self) -> Result<(), Failure> {
        self.write("cgroup.freeze", "1").during("freeze the machine")?;
        self.wait_for("frozen 1", "freeze the machine")
    }

    /// Lets them go on.
    ///
    /// # Errors
    /// [`Failure`] where the kernel refuses.
    pub fn thaw(&self) -> Result<(), Failure> {
        self.write("cgroup.freeze", "0").during("let the machine go on")
    }

    /// Kills all processes in it and below, frozen ones too. A group that is gone has none.
    ///
    /// # Errors
    /// [`Failure`] where the kernel refuses.
    pub fn kill(&self) -> Result<(), Failure> {
        match self.write("cgroup.kill", "1") {
            Err(error) if error.kind() == io::ErrorKind::NotFound && !self.0.exists() => Ok(()),
            result => result.during("kill the machine's processes"),
        }
    }

    /// Waits until no process is in it or below.
    ///
    /// # Errors
    /// [`Failure`] where one does not end.
    pub fn wait_until_empty(&self) -> Result<(), Failure> {
        self.wait_for("populated 0", "end the machine's processes")
    }

    fn write(&self, file: &str, text: &str) -> io::Result<()> {
        std::fs::write(self.0.join(file), text)
    }

    /// Waits for a line of `cgroup.events`; the kernel tells of changes by POLLPRI.
    fn wait_for(&self, line: &str, doing: &str) -> Result<(), Failure> {
        let deadline = Instant::now() + PATIENCE;
        let path = self.0.join("cgroup.events");
        let mut events = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            result => result.during(doing)?,
        };
        loop {
            match read_again(&mut events) {
                // The group was removed by somebody else.
                Err(error) if error.raw_os_error() == Some(libc::ENODEV) => return Ok(()),
                text => {
                    if text.during(doing)?.lines().any(|have| have == line) {
                        return Ok(());
                    }
                }
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let what = format!("cannot {doing}: {} still says otherwise than `{line}`", path.display());
                return Err(Failure::host(
                    what,
                    "look for processes in state D; they wait for a device or a network file system",
                ));
            }
            let timeout = Timespec::try_from(left).unwrap_or(Timespec { tv_sec: 1, tv_nsec: 0 });
            match poll(&mut [PollFd::new(&events, PollFlags::PRI)], Some(&timeout)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error).during(doing),
            }
        }
    }

    /// Removes the groups below it, deepest first, but not itself.
    ///
    /// # Errors
    /// Those of rmdir(2).
    pub fn remove_below(&self) -> io::Result<()> {
        remove_below(&self.0)
    }

    /// Removes it with all below; no error where it is gone.
    ///
    /// # Errors
    /// Those of rmdir(2).
    pub fn remove(&self) -> io::Result<()> {
        remove_below(&self.0)?;
        gone(fs_err::remove_dir(&self.0))
    }
}

fn read_again(file: &mut File) -> io::Result<String> {
    use std::io::{Read, Seek};
    let mut text = String::new();
    file.rewind()?;
    file.read_to_string(&mut text)?;
    Ok(text)
}

fn remove_below(group: &Path) -> io::Result<()> {
    let entries = match fs_err::read_dir(group) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_below(&entry.path())?;
            gone(fs_err::remove_dir(entry.path()))?;
        }
    }
    Ok(())
}

fn gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// Gives the group that `directory` is open on to a user and a group, as far as the kernel lets a group be
/// handed over: limits stay with whoever made it.
///
/// # Errors
/// Those of chown(2).
pub fn delegate(directory: BorrowedFd<'_>, (uid, gid): (u32, u32)) -> io::Result<()> {
    // Named by kernels since 4.15; these three are the ones that cgroup-v2.rst asks for.
    let listed = fs_err::read_to_string("/sys/kernel/cgroup/delegate").unwrap_or_default();
    let always = ["cgroup.procs", "cgroup.subtree_control", "cgroup.threads"];
    let owner = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
    chownat(directory, "", owner.0, owner.1, AtFlags::EMPTY_PATH)?;
    for file in always.into_iter().chain(listed.lines()) {
        match chownat(directory, file, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW) {
            // Not every kernel and controller has every file.
            Ok(()) | Err(rustix::io::Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
