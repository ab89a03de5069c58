//! Files (Landlock, Documentation/userspace-api/landlock.rst): only those named, each for what it is named for.

use std::path::PathBuf;

use landlock::{
    ABI, Access as _, AccessFs, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetStatus,
};

use super::{Gaps, JailError};

/// The newest version that the rules below know; an older kernel enforces what it knows of them.
const KNOWN: ABI = ABI::V5;

/// What may be done beneath a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Reading files and directories.
    Read,
    /// Reading, writing, making and removing files.
    Write,
    /// Opening a device and all that its driver offers.
    Device,
}

/// A file, or a directory with all that is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Where.
    pub path: PathBuf,
    /// For what.
    pub access: Access,
}

fn rights(access: Access) -> BitFlags<AccessFs> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    match access {
        Access::Read => read,
        Access::Write => {
            AccessFs::from_all(KNOWN)
                & !(AccessFs::Execute | AccessFs::IoctlDev | AccessFs::MakeBlock | AccessFs::MakeChar)
        }
        Access::Device => AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::IoctlDev,
    }
}

/// A place, pinned, and what may be done beneath it.
pub(super) struct Pinned {
    fd: PathFd,
    rights: BitFlags<AccessFs>,
}

/// Pins `places`. To be done with all rights of the process: on the way to one may lie what only they open.
pub(super) fn pin(places: &[Place]) -> Vec<Pinned> {
    let pin = |place: &Place| {
        // What is not there needs no right.
        let fd = PathFd::new(&place.path).ok()?;
        let mut rights = rights(place.access);
        if !place.path.is_dir() {
            rights &= AccessFs::from_file(KNOWN);
        }
        Some(Pinned { fd, rights })
    };
    places.iter().filter_map(pin).collect()
}

pub(super) fn restrict(places: Vec<Pinned>) -> Result<Gaps, JailError> {
    let failed = |error: landlock::RulesetError| JailError::Files(error.to_string());
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(KNOWN))
        .and_then(|rules| rules.create())
        .map_err(failed)?;
    for Pinned { fd, rights } in places {
        rules = rules.add_rule(PathBeneath::new(fd, rights)).map_err(failed)?;
    }
    let status = rules.restrict_self().map_err(failed)?;
    Ok(Gaps(match status.ruleset {
        RulesetStatus::FullyEnforced => Vec::new(),
        RulesetStatus::PartiallyEnforced => {
            vec!["this kernel's Landlock is old: some kinds of access to files are not restricted".to_owned()]
        }
        RulesetStatus::NotEnforced => {
            vec!["this kernel has no Landlock: access to files is not restricted".to_owned()]
        }
    }))
}
