//! Whether a machine's supervisor lives: it holds `alive` by an open file description lock (fcntl(2),
//! `F_OFD_SETLK`), which dies with its holder and can be asked for without being taken.

use std::fs::File;
use std::io::{self, Write};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use posada_provider_api::MachineDir;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// The locked `alive` file. Whoever holds it is the machine's supervisor, or about to start it.
#[derive(Debug)]
pub struct Alive(File);

impl Alive {
    /// Takes the lock, or returns `None` where a supervisor has it.
    ///
    /// # Errors
    /// Where the file cannot be opened.
    pub fn acquire(dir: &MachineDir) -> io::Result<Option<Self>> {
        let file = File::options().create(true).truncate(false).write(true).read(true).open(dir.alive())?;
        match fcntl(&file, FcntlArg::F_OFD_SETLK(&whole_file(libc::F_WRLCK))) {
            Ok(_) => {
                // Whoever held it before says nothing any more.
                file.set_len(0)?;
                Ok(Some(Self(file)))
            }
            Err(Errno::EAGAIN | Errno::EACCES) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The open file, for handing it to a supervisor.
    #[must_use]
    pub fn into_file(self) -> File {
        self.0
    }
}

/// Whether a supervisor lives.
///
/// # Errors
/// Where the file cannot be read.
pub fn is_alive(dir: &MachineDir) -> io::Result<bool> {
    let Some(file) = existing(dir)? else { return Ok(false) };
    let mut asked = whole_file(libc::F_WRLCK);
    fcntl(&file, FcntlArg::F_OFD_GETLK(&mut asked))?;
    Ok(asked.l_type != libc::F_UNLCK as libc::c_short)
}

/// Writes down that this process is the one that holds `alive`.
pub(crate) fn sign(mut alive: &File) {
    // It serves to end a supervisor that does not answer: a full disk must not keep one from living.
    let _ = alive.write_all(std::process::id().to_string().as_bytes());
}

/// The process that holds the lock, where one does and has said so.
#[must_use]
pub fn holder(dir: &MachineDir) -> Option<Pid> {
    let said = fs_err::read_to_string(dir.alive()).ok()?;
    is_alive(dir).ok().filter(|alive| *alive)?;
    Pid::from_raw(said.trim().parse().ok()?)
}

/// Kills the supervisor, whatever it is doing, and returns when it is gone; nothing where none lives.
///
/// # Errors
/// Where it cannot be killed.
pub async fn kill(dir: &MachineDir) -> io::Result<()> {
    if let Some(pid) = holder(dir) {
        match pidfd_open(pid, PidfdFlags::empty()) {
            // It holds the lock still, so what was opened is it and no later process of the same id.
            Ok(process) if holder(dir) == Some(pid) => pidfd_send_signal(process, Signal::KILL)?,
            Ok(_) | Err(rustix::io::Errno::SRCH) => {}
            Err(error) => return Err(error.into()),
        }
    } else if is_alive(dir)? {
        return Err(io::Error::other("the supervisor does not say which process it is"));
    }
    ended(dir).await
}

/// Returns when no supervisor lives.
///
/// # Errors
/// Where the file cannot be read.
pub async fn ended(dir: &MachineDir) -> io::Result<()> {
    let dir = dir.clone();
    tokio::task::spawn_blocking(move || wait_for_end(&dir)).await.map_err(io::Error::other)?
}

/// As [`ended`], blocking the thread.
///
/// # Errors
/// Where the file cannot be read.
pub fn wait_for_end(dir: &MachineDir) -> io::Result<()> {
    let Some(file) = existing(dir)? else { return Ok(()) };
    fcntl(&file, FcntlArg::F_OFD_SETLKW(&whole_file(libc::F_RDLCK)))?;
    Ok(())
}

fn existing(dir: &MachineDir) -> io::Result<Option<File>> {
    match File::open(dir.alive()) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn whole_file(kind: libc::c_int) -> libc::flock {
    libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_holder_that_does_not_answer_can_be_killed() {
        let temp = tempfile::tempdir().unwrap();
        let dir = MachineDir::new(temp.path());
        kill(&dir).await.unwrap();
        let alive = Alive::acquire(&dir).unwrap().expect("free").into_file();
        assert_eq!(holder(&dir), None, "it has not said so yet");
        // The lock goes where its descriptor goes: to a process that does nothing.
        let mut child =
            std::process::Command::new("sleep").arg("600").stdin(alive.try_clone().unwrap()).spawn().unwrap();
        (&alive).write_all(child.id().to_string().as_bytes()).unwrap();
        drop(alive);
        assert_eq!(holder(&dir).map(|pid| pid.as_raw_nonzero().get()), Some(child.id().cast_signed()));
        kill(&dir).await.unwrap();
        assert!(!is_alive(&dir).unwrap());
        assert!(!child.wait().unwrap().success());
        assert_eq!(holder(&dir), None);
    }

    #[test]
    fn one_holder_at_a_time_and_none_after_it() {
        let temp = tempfile::tempdir().unwrap();
        let dir = MachineDir::new(temp.path());
        assert!(!is_alive(&dir).unwrap());
        let held = Alive::acquire(&dir).unwrap().expect("free");
        assert!(is_alive(&dir).unwrap());
        assert!(is_alive(&dir).unwrap(), "asking takes nothing");
        assert!(Alive::acquire(&dir).unwrap().is_none());
        drop(held);
        assert!(!is_alive(&dir).unwrap());
    }
}
