//! The machine's writable layer as a whole: whether it can be, and its removal.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use posada_provider_api::{Content, MachineDir, MachineSpec, OverlayTree, ProviderError};
use posada_userns::{HostKind, IdMap};

use super::ENTRY;
use crate::failure::{During, Failure};
use crate::runtime::run_as_mapped_root;

/// Prefix of a layer that is about to be deleted.
const DOOMED: &str = "top.doomed";

/// Makes what a machine needs before its first start. The layer itself is filled by the first start, which has
/// the right to hand it to the machine's root.
///
/// # Errors
/// [`ProviderError::Host`] where the caller has no id map or the directory cannot be made; [`ProviderError::Box`]
/// where a layer is missing.
pub fn create(exe: &Path, dir: &MachineDir, spec: &MachineSpec) -> Result<(), ProviderError> {
    // Without an id map, or without the helpers that write it, no start would succeed.
    posada_userns::command(exe, [ENTRY]).map_err(|error| Failure::of(&error))?;
    for layer in &spec.layers {
        let path = layer.tree().ok_or_else(Failure::no_tree)?;
        if !path.is_dir() {
            let what = format!("its file system {} is not there", path.display());
            return Err(Failure::of_box(what, "`posada box list` shows the boxes there are").into());
        }
    }
    fs_err::create_dir_all(dir.top()).during("make the machine's writable layer")?;
    Ok(())
}

/// The machine's trees: those of its box have plain owners in a store of root's, its own has the machine's.
///
/// # Errors
/// [`ProviderError::Host`] where the caller has no id map, [`ProviderError::Box`] where a layer is no tree.
pub fn content(dir: &MachineDir, spec: &MachineSpec) -> Result<Content, ProviderError> {
    let map = IdMap::of_host().map_err(|error| Failure::of(&error))?;
    let (first_uid, first_gid) = match map.host {
        HostKind::Privileged { base_uid, base_gid } => (base_uid, base_gid),
        HostKind::Subordinate => (0, 0),
    };
    let below = spec.layers.iter().map(|layer| {
        let path = layer.tree().ok_or_else(Failure::no_tree)?.to_owned();
        Ok(OverlayTree { path, first_uid: 0, first_gid: 0 })
    });
    let own = OverlayTree { path: dir.top().join("upper"), first_uid, first_gid };
    Ok(Content::Trees(below.chain([Ok(own)]).collect::<Result<_, Failure>>()?))
}

/// Removes the writable layer: out of sight at once, then file by file. Also takes up a removal that was
/// interrupted. `exe` is our own binary.
///
/// # Errors
/// [`ProviderError::Host`] where something cannot be removed.
pub fn remove_top(exe: &Path, dir: &MachineDir) -> Result<(), ProviderError> {
    let top = dir.top();
    if top.exists() {
        let doomed = free_name(dir)?;
        fs_err::rename(&top, doomed).during("remove the machine's writable layer")?;
    }
    for path in doomed(dir)? {
        match IdMap::of_host().map(|map| map.host) {
            Ok(HostKind::Privileged { .. }) => remove_tree(&path)?,
            // Most files belong to subordinate ids.
            Ok(HostKind::Subordinate) => {
                run_as_mapped_root(exe, &[OsStr::new("remove-tree"), path.as_os_str()])?
            }
            Err(error) => return Err(Failure::of(&error).into()),
        }
    }
    Ok(())
}

/// Removes a directory with all in it; no error where it is gone.
///
/// # Errors
/// [`Failure`] where something cannot be removed.
pub fn remove_tree(path: &Path) -> Result<(), Failure> {
    match fs_err::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result.during("remove the machine's writable layer"),
    }
}

fn free_name(dir: &MachineDir) -> Result<PathBuf, Failure> {
    let taken = doomed(dir)?;
    let mut names = (0_u32..).map(|number| dir.path().join(format!("{DOOMED}.{number}")));
    names.find(|name| !taken.contains(name)).ok_or_else(|| Failure::internal("no name is free"))
}

fn doomed(dir: &MachineDir) -> Result<Vec<PathBuf>, Failure> {
    let entries = match fs_err::read_dir(dir.path()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.during("look into the machine's directory")?,
    };
    let mut paths = Vec::new();
    for entry in entries {
        let entry = entry.during("look into the machine's directory")?;
        if entry.file_name().to_string_lossy().starts_with(DOOMED) {
            paths.push(entry.path());
        }
    }
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removal_takes_up_what_was_interrupted() {
        let home = tempfile::tempdir().unwrap();
        let dir = MachineDir::new(home.path());
        remove_top(Path::new("/proc/self/exe"), &dir).unwrap();
        fs_err::create_dir_all(dir.top().join("upper/etc")).unwrap();
        fs_err::create_dir_all(home.path().join("top.doomed.0/upper")).unwrap();
        remove_top(Path::new("/proc/self/exe"), &dir).unwrap();
        assert_eq!(fs_err::read_dir(home.path()).unwrap().count(), 0);
    }
}
