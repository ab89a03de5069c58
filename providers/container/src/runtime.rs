//! What exists of a machine outside of its processes, written down before it is made, and undoing it.
//!
//! Mounts, network interfaces and namespaces end with the machine's processes; only control groups outlive
//! them. A lock spans every keeper's life, so that nothing is undone while a dying keeper could still make it.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use posada_provider_api::MachineDir;
use serde::{Deserialize, Serialize};

use crate::cgroup::{Group, Plan};
use crate::failure::{During, Failure};
use crate::keeper::ENTRY;

/// `runtime.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    version: u32,
    /// The version 2 group that tracks the machine's processes.
    tracking: PathBuf,
    /// Version 1 groups.
    limits: Vec<PathBuf>,
    /// A group that posada's own processes may have stepped into.
    #[serde(default)]
    supervisors: Option<PathBuf>,
}

impl Record {
    const VERSION: u32 = 1;

    /// What `plan` will make.
    #[must_use]
    pub fn of(plan: &Plan) -> Self {
        Self {
            version: Self::VERSION,
            tracking: plan.version2.clone(),
            limits: plan.version1.iter().map(|(_, path)| path.clone()).collect(),
            supervisors: plan.supervisors.clone(),
        }
    }

    /// The group that tracks the machine's processes.
    #[must_use]
    pub fn tracking(&self) -> Group {
        Group::new(&self.tracking)
    }

    /// Reads it; `None` where there is none.
    ///
    /// # Errors
    /// [`Failure`] where it cannot be read or makes no sense.
    pub fn read(dir: &MachineDir) -> Result<Option<Self>, Failure> {
        let path = dir.runtime();
        let text = match fs_err::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            text => text.during("read what the machine made")?,
        };
        match serde_json::from_slice::<Self>(&text) {
            Ok(record) if record.version == Self::VERSION => Ok(Some(record)),
            Ok(record) => Err(Failure::host(
                format!(
                    "{} has version {}, this posada knows {}",
                    path.display(),
                    record.version,
                    Self::VERSION
                ),
                "use the posada that started the machine",
            )),
            Err(error) => Err(Failure::host(
                format!("{} is damaged: {error}", path.display()),
                "look for control groups named after the machine, remove them with rmdir, then remove the file",
            )),
        }
    }

    /// Writes it whole. Control groups end with the kernel, so the record need not outlive a power failure; it
    /// is synced all the same, as a torn one would be taken for damage.
    ///
    /// # Errors
    /// [`Failure`] where it cannot be written.
    pub fn write(&self, dir: &MachineDir) -> Result<(), Failure> {
        let text =
            serde_json::to_vec_pretty(self).map_err(io::Error::other).during("write down what is made")?;
        write_whole(&dir.runtime(), &text).during("write down what is made")
    }

    /// Whether the kernel killed processes of the machine because it had used up its memory.
    #[must_use]
    pub fn ran_out_of_memory(&self) -> bool {
        let groups = std::iter::once(&self.tracking).chain(&self.limits);
        // Version 2 and version 1 count in files of different names, in lines of one form.
        groups
            .flat_map(|group| [group.join("memory.events"), group.join("memory.oom_control")])
            .filter_map(|path| fs_err::read_to_string(path).ok())
            .any(|counts| counts.lines().filter_map(|line| line.strip_prefix("oom_kill ")).any(|n| n != "0"))
    }

    fn undo(&self, exe: &Path) -> Result<(), Failure> {
        let tracking = self.tracking();
        tracking.kill()?;
        tracking.wait_until_empty()?;
        remove_tracking(&tracking, &self.tracking, exe)?;
        for path in &self.limits {
            Group::new(path).remove().during("remove a control group")?;
            remove_parent(path);
        }
        if let Some(supervisors) = &self.supervisors {
            // Another machine's supervisor may be in it; the last one takes it along.
            let _ = fs_err::remove_dir(supervisors);
        }
        remove_parent(&self.tracking);
        Ok(())
    }
}

/// Undoes what a machine left outside of its directory; nothing where there is nothing. Kills what still runs.
/// Waits for a keeper that is about to end; must not be called while a supervisor holds its
/// [`crate::Keeper`]. `exe` is our own binary.
///
/// # Errors
/// [`Failure`] where a process does not end or a group cannot be removed.
pub fn cleanup(exe: &Path, dir: &MachineDir) -> Result<(), Failure> {
    let Some(_lock) = lock(dir)? else { return Ok(()) };
    cleanup_locked(exe, dir)
}

/// [`cleanup`] for whoever holds the lock.
///
/// # Errors
/// Those of [`cleanup`].
pub fn cleanup_locked(exe: &Path, dir: &MachineDir) -> Result<(), Failure> {
    let Some(record) = Record::read(dir)? else { return Ok(()) };
    record.undo(exe)?;
    match fs_err::remove_file(dir.runtime()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result.during("forget what the machine made"),
    }
}

/// Takes the lock that spans keepers' lives; `None` where the machine has no directory.
///
/// # Errors
/// [`Failure`] where it cannot be taken.
pub fn lock(dir: &MachineDir) -> Result<Option<File>, Failure> {
    let path = dir.path().join("keeper.lock");
    let file = match File::options().create(true).append(true).open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file.during(format_args!("open {}", path.display()))?,
    };
    if file.try_lock().is_err() {
        // A keeper whose supervisor is gone ends by itself, unless its container is stuck half-way.
        if let Ok(Some(record)) = Record::read(dir) {
            record.tracking().kill()?;
        }
        file.lock().during(format_args!("lock {}", path.display()))?;
    }
    Ok(Some(file))
}

/// An ordinary user's machine owns the groups below its own: root of its ids removes them.
fn remove_tracking(group: &Group, path: &Path, exe: &Path) -> Result<(), Failure> {
    match group.remove() {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            run_as_mapped_root(exe, &["remove-groups".as_ref(), path.as_os_str()])?;
            group.remove().during("remove a control group")
        }
        result => result.during("remove a control group"),
    }
}

/// Runs one of the keeper's small jobs as root of the host's id map.
///
/// # Errors
/// [`Failure`] where it does not succeed.
pub fn run_as_mapped_root(exe: &Path, job: &[&std::ffi::OsStr]) -> Result<(), Failure> {
    let mut args = vec![std::ffi::OsStr::new(ENTRY)];
    args.extend_from_slice(job);
    let output = posada_userns::command(exe, args)
        .map_err(|error| Failure::of(&error))?
        .stdin(std::process::Stdio::null())
        .output()
        .during("start a helper")?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Failure::internal(format!("a helper ended with {}: {}", output.status, said.trim())))
}

/// The directory that machines of root share goes with the last of them.
fn remove_parent(group: &Path) {
    if let Some(parent) = group.parent().filter(|parent| parent.file_name() == Some("posada".as_ref())) {
        let _ = fs_err::remove_dir(parent);
    }
}

fn write_whole(path: &Path, text: &[u8]) -> io::Result<()> {
    let part = path.with_extension("part");
    let mut file = fs_err::File::create(&part)?;
    file.write_all(text)?;
    file.sync_all()?;
    fs_err::rename(&part, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record {
            version: 1,
            tracking: "/nowhere/posada/x-00000001".into(),
            limits: vec!["/nowhere/too".into()],
            supervisors: None,
        }
    }

    #[test]
    fn what_is_written_is_read_and_a_torn_record_is_told() {
        let home = tempfile::tempdir().unwrap();
        let dir = MachineDir::new(home.path());
        assert_eq!(Record::read(&dir).unwrap(), None);
        record().write(&dir).unwrap();
        assert_eq!(Record::read(&dir).unwrap(), Some(record()));
        let whole = fs_err::read(dir.runtime()).unwrap();
        for end in 0..whole.len() - 1 {
            fs_err::write(dir.runtime(), &whole[..end]).unwrap();
            assert!(matches!(Record::read(&dir), Err(Failure::Host { .. })), "{end}");
        }
    }

    #[test]
    fn memory_that_ran_out_is_seen_in_both_versions() {
        let home = tempfile::tempdir().unwrap();
        let group = home.path().join("memory/x");
        fs_err::create_dir_all(&group).unwrap();
        let record = Record { limits: vec![group.clone()], ..record() };
        assert!(!record.ran_out_of_memory());
        for (file, others) in [("memory.events", "low 0\noom 3\n"), ("memory.oom_control", "under_oom 0\n")] {
            fs_err::write(group.join(file), format!("{others}oom_kill 0\n")).unwrap();
            assert!(!record.ran_out_of_memory());
            fs_err::write(group.join(file), format!("{others}oom_kill 2\n")).unwrap();
            assert!(record.ran_out_of_memory());
            fs_err::remove_file(group.join(file)).unwrap();
        }
    }

    #[test]
    fn cleaning_up_what_is_gone_is_no_error_and_forgets_it() {
        let home = tempfile::tempdir().unwrap();
        let dir = MachineDir::new(home.path());
        cleanup(Path::new("/proc/self/exe"), &dir).unwrap();
        record().write(&dir).unwrap();
        cleanup(Path::new("/proc/self/exe"), &dir).unwrap();
        assert!(!dir.runtime().exists());
        cleanup(Path::new("/proc/self/exe"), &MachineDir::new(home.path().join("none"))).unwrap();
    }
}
