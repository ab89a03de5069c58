//! Whether a machine's supervisor lives: it holds `alive` by an open file description lock (fcntl(2),
//! `F_OFD_SETLK`), which dies with its holder and can be asked for without being taken.

use std::fs::File;
use std::io;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use posada_provider_api::MachineDir;

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
            Ok(_) => Ok(Some(Self(file))),
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
