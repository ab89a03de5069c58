//! `Vmfile.lock`: which boxes and scripts the machines of a Vmfile are made of, for everybody who has it.
//!
//! It lies beside the Vmfile and belongs into version control with it. `up` keeps to the boxes it names, adds those it does not
//! name, and writes down what the scripts are; `up --locked` refuses whatever differs; `box update` moves it.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use posada_box_catalog::{BoxRef, Digest, Form, Store, StoredBox, Version};
use posada_provisioners::{Action, Digest as StepDigest, Shell, Step, StepError};
use serde::{Deserialize, Serialize};

use crate::error::{Error, OnMachine};
use crate::project::Project;
use crate::state::write_json;
use crate::vmfile::{MachineConfig, Vmfile};

const FORMAT: u32 = 1;

/// What the file says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LockFile {
    format: u32,
    /// By what the Vmfile says of the box, and by form.
    boxes: BTreeMap<String, BTreeMap<FormName, LockedBox>>,
    /// By machine, in their order.
    scripts: BTreeMap<String, Vec<LockedScript>>,
}

/// The box that a machine is made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LockedBox {
    pub version: Version,
    pub digest: Digest,
}

/// A provisioning step's script or files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LockedScript {
    step: String,
    digest: StepDigest,
}

/// A form, as it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum FormName {
    Rootfs,
    Disk,
}

impl From<Form> for FormName {
    fn from(form: Form) -> Self {
        match form {
            Form::Disk => Self::Disk,
            _ => Self::Rootfs,
        }
    }
}

/// A box that `box update` has moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    /// What the Vmfile says.
    pub reference: String,
    /// The form.
    pub form: Form,
    /// The version from before.
    pub from: Version,
    /// The version now.
    pub to: Version,
}

/// Where a Vmfile's lock file is.
#[must_use]
pub fn path(project: &Project) -> PathBuf {
    let mut name = project.vmfile.clone().into_os_string();
    name.push(".lock");
    name.into()
}

impl LockFile {
    /// Reads it; `None` where there is none.
    pub fn read(project: &Project) -> Result<Option<Self>, Error> {
        let path = path(project);
        let wrong = |what: String| Error::LockFile { path: path.clone(), what };
        let text = match fs_err::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            text => text.map_err(Error::io("read the lock file"))?,
        };
        Self::parse(&text).map(Some).map_err(wrong)
    }

    /// What the file's text says, or what is wrong with it.
    pub(crate) fn parse(text: &[u8]) -> Result<Self, String> {
        let file: Self = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        match file.format {
            FORMAT => Ok(file),
            other => Err(format!("format {other} is not known to this version of posada")),
        }
    }

    fn empty() -> Self {
        Self { format: FORMAT, boxes: BTreeMap::new(), scripts: BTreeMap::new() }
    }

    /// The box of a machine in that form.
    pub fn of(&self, project: &Project, config: &MachineConfig, form: Form) -> Option<&LockedBox> {
        self.boxes.get(&key(project, config))?.get(&form.into())
    }

    /// Changes the file by `change`, together with nobody else; it is written where that makes it another one. What no machine
    /// of the Vmfile needs any more is left out.
    pub fn change(
        project: &Project,
        vmfile: &Vmfile,
        change: impl FnOnce(&mut Self) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let held = File::open(&project.root).map_err(Error::io("lock the project"))?;
        held.lock().map_err(Error::io("lock the project"))?;
        let before = Self::read(project)?;
        let mut after = before.clone().unwrap_or_else(Self::empty);
        change(&mut after)?;
        let keys: Vec<_> = vmfile.machines.iter().map(|config| key(project, config)).collect();
        after.boxes.retain(|key, _| keys.contains(key));
        after.scripts.retain(|name, _| vmfile.machines.iter().any(|config| config.name.as_str() == name));
        if before.as_ref() == Some(&after) { Ok(()) } else { write_json(&path(project), &after) }
    }

    /// Writes down a machine's box, unless another one is written down.
    pub fn add(&mut self, project: &Project, config: &MachineConfig, form: Form, used: LockedBox) {
        self.boxes.entry(key(project, config)).or_default().entry(form.into()).or_insert(used);
    }

    /// Writes down what the machine's scripts are now.
    pub fn take_scripts(&mut self, config: &MachineConfig) -> Result<(), Error> {
        let scripts = scripts(config)?;
        if scripts.is_empty() {
            self.scripts.remove(config.name.as_str());
        } else {
            self.scripts.insert(config.name.to_string(), scripts);
        }
        Ok(())
    }

    /// What of the machine's scripts is not what it was, in words.
    pub fn scripts_that_differ(&self, config: &MachineConfig) -> Result<Vec<String>, Error> {
        let now = scripts(config)?;
        let then = self.scripts.get(config.name.as_str()).map_or(&[][..], Vec::as_slice);
        let machine = &config.name;
        let mut differ: Vec<_> = now
            .iter()
            .filter(|script| !then.contains(script))
            .map(|script| match then.iter().any(|other| other.step == script.step) {
                true => format!("the {} of {machine} is another one", script.step),
                false => format!("the {} of {machine} is not in it", script.step),
            })
            .collect();
        let gone = then.iter().filter(|other| !now.iter().any(|script| script.step == other.step));
        differ.extend(gone.map(|other| format!("{machine} has no {} any more", other.step)));
        if differ.is_empty() && now != then {
            differ.push(format!("the steps of {machine} come in another order"));
        }
        Ok(differ)
    }
}

/// Has the lock file name the newest boxes in the store that the Vmfile allows, where there is one.
///
/// # Errors
/// [`Error::LockFile`], [`Error::Io`], [`Error::Box`].
pub fn update(project: &Project, vmfile: &Vmfile, store: &Store) -> Result<Vec<Moved>, Error> {
    let mut moved = Vec::new();
    if LockFile::read(project)?.is_none() {
        return Ok(moved);
    }
    LockFile::change(project, vmfile, |file| {
        for config in &vmfile.machines {
            let key = key(project, config);
            for form in [Form::Rootfs, Form::Disk] {
                let Some(locked) = file.boxes.get_mut(&key).and_then(|forms| forms.get_mut(&form.into()))
                else {
                    continue;
                };
                let Ok(newest) = store.resolve(&config.box_ref, config.box_version.as_ref(), form) else {
                    continue;
                };
                let now = LockedBox::of(&newest);
                if *locked != now {
                    let (from, to) = (locked.version.clone(), now.version.clone());
                    moved.push(Moved { reference: key.clone(), form, from, to });
                    *locked = now;
                }
            }
        }
        Ok(())
    })?;
    Ok(moved)
}

impl LockedBox {
    /// That of a box in the store.
    pub fn of(stored: &StoredBox) -> Self {
        Self { version: stored.version.clone(), digest: stored.digest }
    }
}

/// What stands for a machine's box: the same for everybody, wherever their project is.
fn key(project: &Project, config: &MachineConfig) -> String {
    let plain = |path: &Path| match path.strip_prefix(&project.root) {
        Ok(inside) => Path::new(".").join(inside).display().to_string(),
        Err(_) => path.display().to_string(),
    };
    let reference = match &config.box_ref {
        BoxRef::File(path) => plain(path),
        BoxRef::Build(recipe) => format!("build:{}", plain(Path::new(recipe))),
        other => other.to_string(),
    };
    match &config.box_version {
        Some(requirement) => format!("{reference} {requirement}"),
        None => reference,
    }
}

fn scripts(config: &MachineConfig) -> Result<Vec<LockedScript>, Error> {
    let steps = config.provision.iter().enumerate().filter(|(_, step)| !step.sensitive);
    let locked = steps.map(|(at, step)| {
        let digest = StepDigest::of(&plain(&step.action)).map_err(|source| {
            let error = StepError::unreadable(step, source);
            Error::Step(OnMachine::new(&config.name)(error))
        })?;
        Ok(LockedScript { step: label(at, step), digest })
    });
    locked.collect()
}

/// A step without its environment, which may be its user's own.
fn plain(action: &Action) -> Action {
    match action {
        Action::Shell(shell) => Action::Shell(Shell { env: BTreeMap::new(), ..shell.clone() }),
        copy => copy.clone(),
    }
}

fn label(at: usize, step: &Step) -> String {
    match &step.name {
        Some(name) => format!("step `{name}`"),
        None => format!("step {}", at + 1),
    }
}
