//! The lock of one machine: flock(2) on a file that says who holds it. The kernel drops it with its holder, so a
//! crash leaves no lock behind.

use std::fs::{File, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::MetadataExt;

use posada_provider_api::MachineDir;
use serde::{Deserialize, Serialize};

use crate::error::Error;

/// Who holds a machine's lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Process id.
    pub pid: u32,
    /// Its command: `posada up`.
    pub command: String,
}

/// The held lock; dropped, it is free.
#[derive(Debug)]
pub struct MachineLock(#[expect(dead_code, reason = "holding the file is holding the lock")] File);

/// What came of trying to take a lock.
#[derive(Debug)]
pub(crate) enum Attempt {
    /// It is ours.
    Held(MachineLock),
    /// Somebody has it; the file can be waited on.
    Busy(File, Option<Holder>),
    /// The machine was destroyed meanwhile.
    Gone,
}

impl MachineLock {
    /// Tries to take the lock of the machine in `dir` without waiting.
    pub(crate) fn attempt(dir: &MachineDir, command: &str) -> Result<Attempt, Error> {
        let file = match File::options().create(true).truncate(false).read(true).write(true).open(dir.lock())
        {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Attempt::Gone),
            Err(error) => return Err(Error::io("open the machine's lock")(error)),
        };
        match file.try_lock() {
            Ok(()) => Self::take(file, dir, command),
            Err(TryLockError::WouldBlock) => {
                let holder = read_holder(&file);
                Ok(Attempt::Busy(file, holder))
            }
            Err(TryLockError::Error(error)) => Err(Error::io("take the machine's lock")(error)),
        }
    }

    /// Waits for a busy lock and takes it. Blocks the thread.
    pub(crate) fn wait(file: File, dir: &MachineDir, command: &str) -> Result<Attempt, Error> {
        file.lock().map_err(Error::io("wait for the machine's lock"))?;
        Self::take(file, dir, command)
    }

    /// A lock on a file that is no longer the machine's (it was destroyed while we waited) locks nothing.
    fn take(mut file: File, dir: &MachineDir, command: &str) -> Result<Attempt, Error> {
        let ours = file.metadata().map_err(Error::io("read the machine's lock"))?.ino();
        match fs_err::metadata(dir.lock()) {
            Ok(there) if there.ino() == ours => {}
            _ => return Ok(Attempt::Gone),
        }
        let holder = Holder { pid: std::process::id(), command: command.to_owned() };
        let text =
            serde_json::to_vec(&holder).map_err(|error| Error::io("name the lock's holder")(error.into()))?;
        // Who holds it is a courtesy to those who wait: a full disk must not keep anybody from destroying.
        let _ = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(&text));
        Ok(Attempt::Held(Self(file)))
    }
}

fn read_holder(mut file: &File) -> Option<Holder> {
    let mut text = String::new();
    file.read_to_string(&mut text).ok()?;
    serde_json::from_str(&text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_one_learns_who_has_it_and_gets_it_after() {
        let temp = tempfile::tempdir().unwrap();
        let dir = MachineDir::new(temp.path());
        let Attempt::Held(first) = MachineLock::attempt(&dir, "posada up").unwrap() else { panic!("busy") };
        let Attempt::Busy(file, holder) = MachineLock::attempt(&dir, "posada halt").unwrap() else {
            panic!("not busy")
        };
        assert_eq!(holder, Some(Holder { pid: std::process::id(), command: "posada up".into() }));
        drop(first);
        assert!(matches!(MachineLock::wait(file, &dir, "posada halt").unwrap(), Attempt::Held(_)));
    }

    #[test]
    fn a_destroyed_machine_cannot_be_locked() {
        let temp = tempfile::tempdir().unwrap();
        let dir = MachineDir::new(temp.path().join("m"));
        fs_err::create_dir(dir.path()).unwrap();
        let Attempt::Held(first) = MachineLock::attempt(&dir, "posada destroy").unwrap() else {
            panic!("busy")
        };
        let Attempt::Busy(file, _) = MachineLock::attempt(&dir, "posada up").unwrap() else {
            panic!("not busy")
        };
        fs_err::remove_dir_all(dir.path()).unwrap();
        drop(first);
        assert!(matches!(MachineLock::wait(file, &dir, "posada up").unwrap(), Attempt::Gone));
        assert!(matches!(MachineLock::attempt(&dir, "posada up").unwrap(), Attempt::Gone));
    }
}
