//! A project: the directory that holds a Vmfile.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::vmfile::{Inputs, Vmfile};

/// File names a Vmfile may have, most wanted first.
pub const NAMES: [&str; 3] = ["Vmfile", "Vmfile.yaml", "Vmfile.yml"];

/// A directory with a Vmfile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Project {
    /// The directory, absolute and without symbolic links.
    pub root: PathBuf,
    /// The Vmfile in it.
    pub vmfile: PathBuf,
}

/// What the user adds to a Vmfile from outside of it.
pub struct Outside<'a> {
    /// `--param k=v`.
    pub params: BTreeMap<String, String>,
    /// Looks up an environment variable.
    pub env: &'a (dyn Fn(&str) -> Option<String> + Sync),
    /// What `~` stands for.
    pub home: Option<PathBuf>,
}

impl Project {
    /// Finds the project that `start` lies in, by climbing its parents.
    ///
    /// # Errors
    /// [`Error::NoVmfile`] where no parent has a Vmfile; [`Error::Io`] where `start` cannot be read.
    pub fn find(start: &Path) -> Result<Self, Error> {
        let start = fs_err::canonicalize(start).map_err(Error::io("find the project"))?;
        for dir in start.ancestors() {
            for name in NAMES {
                let vmfile = dir.join(name);
                if vmfile.is_file() {
                    return Ok(Self { root: dir.to_owned(), vmfile });
                }
            }
        }
        Err(Error::NoVmfile { start })
    }

    /// The project of a Vmfile named outright.
    ///
    /// # Errors
    /// [`Error::Io`] where it cannot be found.
    pub fn of_file(vmfile: &Path) -> Result<Self, Error> {
        let vmfile = fs_err::canonicalize(vmfile).map_err(Error::io("find the Vmfile"))?;
        let root = vmfile.parent().map_or_else(|| PathBuf::from("/"), Path::to_owned);
        Ok(Self { root, vmfile })
    }

    /// Reads the Vmfile.
    ///
    /// # Errors
    /// [`Error::Vmfile`] with every fault in it; [`Error::Io`] where it cannot be read.
    pub fn load(&self, outside: &Outside<'_>) -> Result<Vmfile, Error> {
        let inputs = Inputs {
            params: outside.params.clone(),
            env: outside.env,
            project: self.root.clone(),
            home: outside.home.clone(),
        };
        let read = Vmfile::load(&self.vmfile, &inputs).map_err(Error::io("read the Vmfile"))?;
        read.map_err(Error::Vmfile)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_text_is_a_fault_of_the_vmfile() {
        let dir = tempfile::tempdir().unwrap();
        let vmfile = dir.path().join("Vmfile");
        let outside = Outside { params: BTreeMap::new(), env: &|_| None, home: None };
        let load = |content: &[u8]| {
            fs_err::write(&vmfile, content).unwrap();
            Project::of_file(&vmfile).unwrap().load(&outside)
        };
        for bad in [&b"box: \xff\n"[..], &[b'#'; crate::vmfile::MAX_SIZE + 1]] {
            assert!(matches!(load(bad), Err(Error::Vmfile(_))));
        }
        assert_eq!(load(b"box: debian/12\n").unwrap().machines.len(), 1);
    }

    #[test]
    fn climbs_to_the_nearest_vmfile() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("a/b/c");
        fs_err::create_dir_all(&deep).unwrap();
        assert!(matches!(Project::find(&deep), Err(Error::NoVmfile { .. })));
        fs_err::write(dir.path().join("Vmfile.yml"), "").unwrap();
        assert_eq!(Project::find(&deep).unwrap().root, dir.path().canonicalize().unwrap());
        fs_err::write(dir.path().join("a/Vmfile"), "").unwrap();
        assert_eq!(Project::find(&deep).unwrap().vmfile, dir.path().canonicalize().unwrap().join("a/Vmfile"));
    }
}
