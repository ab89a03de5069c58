//! Keeping an `up` to the lock file, and the lock file to what `up` does.

use std::sync::{Mutex, PoisonError};

use posada_box_catalog::{Form, StoredBox};
use posada_provider_api::MachineName;

use crate::error::Error;
use crate::lockfile::{self, LockFile, LockedBox};
use crate::orchestrator::Orchestrator;
use crate::project::Project;
use crate::spec;
use crate::state::Entry;
use crate::vmfile::{MachineConfig, Vmfile};

/// The lock file as one `up` sees it.
pub(super) struct Locking {
    project: Project,
    file: Option<LockFile>,
    /// Whether what differs is refused.
    strict: bool,
    used: Mutex<Vec<(MachineName, Form, LockedBox)>>,
}

impl Locking {
    /// Reads the file. Where it is to be kept to, the scripts of the machines in `configs` have to be what it says.
    pub fn begin(project: &Project, configs: &[&MachineConfig], strict: bool) -> Result<Self, Error> {
        let file = LockFile::read(project)?;
        if strict {
            let Some(file) = &file else { return Err(Error::NoLockFile { path: lockfile::path(project) }) };
            let mut differ = Vec::new();
            for config in configs {
                differ.extend(file.scripts_that_differ(config)?);
            }
            if !differ.is_empty() {
                return Err(Error::Drift { path: lockfile::path(project), differ });
            }
        }
        Ok(Self { project: project.clone(), file, strict, used: Mutex::default() })
    }

    /// The box that a new machine is to be made from; `None` where the file does not name it.
    pub fn wanted(&self, config: &MachineConfig, form: Form) -> Result<Option<LockedBox>, Error> {
        let wanted = self.file.as_ref().and_then(|file| file.of(&self.project, config, form)).cloned();
        if wanted.is_none() && self.strict {
            let box_ref = &config.box_ref;
            return Err(
                self.drift(format!("the {form} of {box_ref}, which {} needs, is not in it", config.name))
            );
        }
        Ok(wanted)
    }

    /// What to do where that box cannot be had: it is told, or refused.
    pub fn missed(&self, of: &Orchestrator, config: &MachineConfig, wanted: &LockedBox) -> Result<(), Error> {
        let LockedBox { version, digest } = wanted;
        let what = format!("{} {version} with the digest {} cannot be had", config.box_ref, digest.short());
        if self.strict {
            return Err(self.drift(what));
        }
        let file = self.project.vmfile.file_name().unwrap_or_default().display();
        of.warn(
            &config.name,
            format!("{what}, which {file}.lock names; it is made from what there is, and `posada box update` moves the lock"),
        );
        Ok(())
    }

    /// Takes down what a machine is made from, one from before included.
    pub fn used(&self, entry: &Entry, config: &MachineConfig, stored: &StoredBox) -> Result<(), Error> {
        let form = spec::form(entry.record.provider);
        let is = LockedBox::of(stored);
        if self.strict && self.wanted(config, form)?.is_some_and(|wanted| wanted.digest != is.digest) {
            let (name, version) = (&entry.record.name, &stored.version);
            return Err(
                self.drift(format!("{name} was made from {} {version}, which is another box", stored.name))
            );
        }
        self.used.lock().unwrap_or_else(PoisonError::into_inner).push((config.name.clone(), form, is));
        Ok(())
    }

    /// Writes the file, unless it was kept to.
    pub fn end(&self, vmfile: &Vmfile) -> Result<(), Error> {
        let used = std::mem::take(&mut *self.used.lock().unwrap_or_else(PoisonError::into_inner));
        if self.strict || used.is_empty() {
            return Ok(());
        }
        LockFile::change(&self.project, vmfile, |file| {
            for (name, form, used) in used {
                let Some(config) = vmfile.machine(&name) else { continue };
                file.add(&self.project, config, form, used);
                file.take_scripts(config)?;
            }
            Ok(())
        })
    }

    fn drift(&self, what: String) -> Error {
        Error::Drift { path: lockfile::path(&self.project), differ: vec![what] }
    }
}
