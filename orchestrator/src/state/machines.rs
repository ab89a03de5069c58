//! All machines of this user: the directories under `$POSADA_HOME/machines`.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use posada_provider_api::{MachineDir, MachineId, MachineName, ProviderKind};

use super::files::{read_json, write_json};
use super::record::{FORMAT, MachineRecord, ProjectRecord};
use crate::error::Error;
use crate::project::Project;

/// A directory whose name starts so is a machine in the making, or one being removed: no machine.
const HIDDEN: char = '.';

/// A machine that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its directory.
    pub dir: MachineDir,
    /// Who it is.
    pub record: MachineRecord,
}

/// The machines of this user.
#[derive(Debug, Clone)]
pub struct Machines {
    root: PathBuf,
}

/// What a new machine is to be.
#[derive(Debug)]
pub(crate) struct NewMachine<'a> {
    pub name: &'a MachineName,
    pub provider: ProviderKind,
    pub box_name: String,
    pub box_version: String,
    pub box_digest: String,
}

impl Machines {
    /// Those under `root`, which need not exist yet.
    #[must_use]
    pub fn at(root: PathBuf) -> Self {
        Self { root }
    }

    /// Every machine, by project and name, and what could not be read of others.
    ///
    /// # Errors
    /// [`Error::Io`] where the directory cannot be read.
    pub fn list(&self) -> Result<(Vec<Entry>, Vec<Error>), Error> {
        let doing = "list the machines";
        let dirs = match fs_err::read_dir(&self.root) {
            Ok(dirs) => dirs,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((Vec::new(), Vec::new())),
            Err(error) => return Err(Error::io(doing)(error)),
        };
        let (mut entries, mut damaged) = (Vec::new(), Vec::new());
        for dir in dirs {
            let dir = dir.map_err(Error::io(doing))?;
            let is_dir = dir.file_type().map_err(Error::io(doing))?.is_dir();
            if !is_dir || dir.file_name().to_string_lossy().starts_with(HIDDEN) {
                continue;
            }
            match self.entry(dir.path()) {
                Ok(Some(entry)) => entries.push(entry),
                Ok(None) => {}
                Err(error) => damaged.push(error),
            }
        }
        entries.sort_by(|a, b| {
            (&a.record.project.path, &a.record.name).cmp(&(&b.record.project.path, &b.record.name))
        });
        Ok((entries, damaged))
    }

    /// The machines of `project`. Those whose project was moved to where `project` now is follow it.
    ///
    /// # Errors
    /// [`Error::Io`], and [`Error::Damaged`] where a machine cannot be read.
    pub fn of_project(&self, project: &Project) -> Result<Vec<Entry>, Error> {
        let (entries, damaged) = self.list()?;
        let now = ProjectRecord::of(&project.root).map_err(Error::io("read the project"))?;
        let mut mine = Vec::new();
        for mut entry in entries {
            if entry.record.project.moved_to(&now) {
                entry.record.project = now.clone();
                write_json(&entry.dir.record(), &entry.record)?;
            }
            if entry.record.project.path == now.path {
                mine.push(entry);
            }
        }
        // A damaged machine may be this project's: silence would make a second one of the same name.
        match damaged.into_iter().next() {
            Some(error) => Err(error),
            None => Ok(mine),
        }
    }

    /// The machine with this identity.
    ///
    /// # Errors
    /// [`Error::UnknownMachine`] where there is none; [`Error::Damaged`].
    pub fn by_id(&self, id: &MachineId) -> Result<Entry, Error> {
        self.entry(self.root.join(id.as_str()))?
            .ok_or_else(|| Error::UnknownMachine { name: id.to_string(), known: Vec::new() })
    }

    /// The directory of a machine, read or not: for removing one whose record is damaged.
    #[must_use]
    pub fn dir(&self, id: &MachineId) -> MachineDir {
        MachineDir::new(self.root.join(id.as_str()))
    }

    /// The project's machine of this name, made from `new` where there is none. At most one is ever made,
    /// however many ask at once.
    pub(crate) fn find_or_create(&self, project: &Project, new: &NewMachine<'_>) -> Result<Entry, Error> {
        let doing = "make the machine's directory";
        make_private_dir(&self.root).map_err(Error::io(doing))?;
        let guard = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(self.root.join(".lock"))
            .map_err(Error::io(doing))?;
        guard.lock().map_err(Error::io(doing))?;
        self.sweep();
        let found = self.of_project(project)?.into_iter().find(|entry| entry.record.name == *new.name);
        if let Some(entry) = found {
            return Ok(entry);
        }
        let id = self.fresh_id(new.name)?;
        let record = MachineRecord {
            format: FORMAT,
            id: id.clone(),
            name: new.name.clone(),
            project: ProjectRecord::of(&project.root).map_err(Error::io("read the project"))?,
            provider: new.provider,
            box_name: new.box_name.clone(),
            box_version: new.box_version.clone(),
            box_digest: new.box_digest.clone(),
            created_at: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
        };
        let making = MachineDir::new(self.root.join(format!(".new-{id}")));
        make_private_dir(making.path()).map_err(Error::io(doing))?;
        write_json(&making.record(), &record)?;
        let dir = self.dir(&id);
        fs_err::rename(making.path(), dir.path()).map_err(Error::io(doing))?;
        Ok(Entry { dir, record })
    }

    /// Forgets a machine whose provider has removed all that was its own. At once for every reader.
    pub(crate) fn remove(&self, dir: &MachineDir) -> Result<(), Error> {
        let doing = "remove the machine's directory";
        let name = dir.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
        let going = self.root.join(format!(".gone-{name}"));
        match fs_err::rename(dir.path(), &going) {
            Ok(()) => fs_err::remove_dir_all(&going).map_err(Error::io(doing)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(Error::io(doing)(error)),
        }
    }

    fn entry(&self, path: PathBuf) -> Result<Option<Entry>, Error> {
        let dir = MachineDir::new(path);
        let record: Option<MachineRecord> = read_json(&dir.record())?;
        match record {
            Some(record) if record.format == FORMAT => Ok(Some(Entry { dir, record })),
            Some(record) => Err(Error::Damaged {
                path: dir.record(),
                what: format!("format {} is not known to this version of posada", record.format),
            }),
            None => Ok(None),
        }
    }

    fn fresh_id(&self, name: &MachineName) -> Result<MachineId, Error> {
        loop {
            let mut random = [0u8; 4];
            rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())
                .map_err(|error| Error::io("choose an identity")(error.into()))?;
            let id = MachineId::from_parts(name, u32::from_ne_bytes(random));
            if !self.root.join(id.as_str()).exists() {
                return Ok(id);
            }
        }
    }

    /// Removes what a crash in the middle of making or removing has left. The caller holds the guard, so no
    /// directory in the making is another's; one being removed may be, and then both remove it.
    fn sweep(&self) {
        let Ok(dirs) = fs_err::read_dir(&self.root) else { return };
        for dir in dirs.flatten() {
            let name = dir.file_name();
            let name = name.to_string_lossy();
            if name.starts_with(".new-") || name.starts_with(".gone-") {
                // Left for the next sweep where it cannot be removed now.
                let _ = fs_err::remove_dir_all(dir.path());
            }
        }
    }
}

/// Makes a directory, and what is missing above it, that only its owner can enter.
pub(crate) fn make_private_dir(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    if path.is_dir() {
        return Ok(());
    }
    fs_err::create_dir_all(path.parent().unwrap_or(Path::new("/")))?;
    match std::fs::DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => Ok(()),
        // Another process was faster.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(error) => Err(io::Error::new(
            error.kind(),
            format!("failed to create directory `{}`: {error}", path.display()),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project(root: &Path) -> Project {
        fs_err::create_dir_all(root).unwrap();
        Project { root: root.to_owned(), vmfile: root.join("Vmfile") }
    }

    fn new(name: &MachineName) -> NewMachine<'_> {
        NewMachine {
            name,
            provider: ProviderKind::Container,
            box_name: "debian/12".into(),
            box_version: "1".into(),
            box_digest: "d".into(),
        }
    }

    #[test]
    fn many_who_ask_at_once_get_one_machine() {
        let temp = tempfile::tempdir().unwrap();
        let machines = Machines::at(temp.path().join("machines"));
        let project = project(&temp.path().join("p"));
        let name = MachineName::new("web").unwrap();
        let ids: Vec<_> = std::thread::scope(|scope| {
            let asks: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| machines.find_or_create(&project, &new(&name)).unwrap().record.id))
                .collect();
            asks.into_iter().map(|ask| ask.join().unwrap()).collect()
        });
        assert!(ids.iter().all(|id| *id == ids[0]));
        assert_eq!(machines.list().unwrap().0.len(), 1);
    }

    #[test]
    fn machines_follow_a_moved_project() {
        let temp = tempfile::tempdir().unwrap();
        let machines = Machines::at(temp.path().join("machines"));
        let before = project(&temp.path().join("old"));
        let name = MachineName::new("web").unwrap();
        let made = machines.find_or_create(&before, &new(&name)).unwrap();
        fs_err::rename(&before.root, temp.path().join("new")).unwrap();
        let after = Project { root: temp.path().join("new"), vmfile: temp.path().join("new/Vmfile") };
        let found = machines.of_project(&after).unwrap();
        assert_eq!(found[0].record.id, made.record.id);
        assert_eq!(machines.list().unwrap().0[0].record.project.path, after.root);
    }

    #[test]
    fn half_made_and_half_removed_machines_are_none() {
        let temp = tempfile::tempdir().unwrap();
        let machines = Machines::at(temp.path().to_owned());
        let project = project(&temp.path().join("p"));
        for left in [".new-web-00000001", ".gone-web-00000002"] {
            fs_err::create_dir(temp.path().join(left)).unwrap();
        }
        let name = MachineName::new("web").unwrap();
        let made = machines.find_or_create(&project, &new(&name)).unwrap();
        assert!(!temp.path().join(".new-web-00000001").exists());
        machines.remove(&made.dir).unwrap();
        machines.remove(&made.dir).unwrap();
        assert!(machines.list().unwrap().0.is_empty());
    }

    #[test]
    fn a_file_in_a_directorys_place_is_told() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("home");
        make_private_dir(&path).unwrap();
        make_private_dir(&path).unwrap();
        fs_err::write(path.join("file"), "").unwrap();
        assert!(make_private_dir(&path.join("file")).unwrap_err().to_string().contains("home/file"));
        assert!(make_private_dir(&path.join("file/below")).is_err());
    }

    #[test]
    fn a_damaged_record_is_told_and_not_overwritten() {
        let temp = tempfile::tempdir().unwrap();
        let machines = Machines::at(temp.path().join("m"));
        let project = project(&temp.path().join("p"));
        let name = MachineName::new("web").unwrap();
        let made = machines.find_or_create(&project, &new(&name)).unwrap();
        fs_err::write(made.dir.record(), "{").unwrap();
        assert!(matches!(machines.find_or_create(&project, &new(&name)), Err(Error::Damaged { .. })));
        assert_eq!(machines.list().unwrap().1.len(), 1);
    }
}
