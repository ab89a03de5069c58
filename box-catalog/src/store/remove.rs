//! How a box leaves the store.

use std::collections::BTreeSet;
use std::ffi::OsString;

use serde::Serialize;

use super::layout::Locked;
use super::record::Record;
use super::resolve::missing;
use super::{Store, StoredBox};
use crate::{BoxError, Digest, Version};

/// Which versions of a box are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// The only one there is.
    Only,
    /// This one.
    Version(Version),
    /// All.
    All,
}

/// What was removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Removed {
    /// The boxes that are no longer there.
    pub boxes: Vec<StoredBox>,
    /// Bytes of files that were deleted.
    pub freed: u64,
}

/// Whether no form is there twice.
fn one_of_each_form(boxes: &[StoredBox]) -> bool {
    let mut seen = BTreeSet::new();
    boxes.iter().flat_map(|stored| &stored.metadata.provides).all(|form| seen.insert(*form))
}

impl Store {
    /// Removes versions of a box. `in_use` tells which machines are made from a digest; a box that has some is
    /// removed by `force` only.
    ///
    /// # Errors
    /// [`BoxError::Missing`], [`BoxError::Ambiguous`], [`BoxError::InUse`], [`BoxError::Io`].
    pub fn remove(
        &self,
        name: &str,
        which: &Which,
        force: bool,
        in_use: &dyn Fn(&Digest) -> Vec<String>,
    ) -> Result<Removed, BoxError> {
        self.remove_fitting(name, which, &|_| true, force, in_use)
    }

    /// As [`Store::remove`], of those only that fit.
    ///
    /// # Errors
    /// Those of [`Store::remove`].
    pub fn remove_fitting(
        &self,
        name: &str,
        which: &Which,
        fits: &dyn Fn(&StoredBox) -> bool,
        force: bool,
        in_use: &dyn Fn(&Digest) -> Vec<String>,
    ) -> Result<Removed, BoxError> {
        self.sweep()?;
        let locked = self.layout.lock()?;
        let boxes = self.chosen(name, which, fits)?;
        for stored in boxes.iter().filter(|_| !force) {
            let machines = in_use(&stored.digest);
            let record = Record::read(&self.layout.home(&stored.digest))?;
            let last_name = record.is_some_and(|record| record.boxes(&self.layout).count() == 1);
            if !machines.is_empty() && last_name {
                return Err(BoxError::InUse {
                    name: name.to_owned(),
                    version: stored.version.clone(),
                    machines,
                });
            }
        }
        let mut gone = Vec::new();
        let mut freed = 0;
        for stored in &boxes {
            if let Some(trash) = self.forget(&locked, stored, force, in_use)? {
                freed += stored.size;
                gone.push(trash);
            }
        }
        drop(locked);
        self.delete(&gone)?;
        self.prune(in_use)?;
        Ok(Removed { boxes, freed })
    }

    /// Deletes content whose names were given to other content, and that no machine is made from.
    ///
    /// # Errors
    /// [`BoxError::Damaged`], [`BoxError::Io`].
    pub fn prune(&self, in_use: &dyn Fn(&Digest) -> Vec<String>) -> Result<(), BoxError> {
        self.sweep()?;
        let locked = self.layout.lock()?;
        let mut gone = Vec::new();
        for record in self.records()? {
            if !record.is_named() && in_use(&record.digest).is_empty() {
                gone.push(self.to_trash(&self.layout.home(&record.digest))?);
            }
        }
        drop(locked);
        self.delete(&gone)
    }

    fn chosen(
        &self,
        name: &str,
        which: &Which,
        fits: &dyn Fn(&StoredBox) -> bool,
    ) -> Result<Vec<StoredBox>, BoxError> {
        let all = self.list()?;
        let named: Vec<StoredBox> =
            all.iter().filter(|stored| stored.name == name && fits(stored)).cloned().collect();
        if named.is_empty() {
            return Err(match all.iter().any(|stored| stored.name == name) {
                true => BoxError::NotOffered {
                    name: name.to_owned(),
                    what: "that provider or architecture in the store".to_owned(),
                    have: Vec::new(),
                },
                false => missing(name, &all),
            });
        }
        match which {
            Which::All => Ok(named),
            // A root file system and a disk may share the name; they are one box to whoever asks.
            Which::Only if one_of_each_form(&named) => Ok(named),
            Which::Only => {
                let have = named.into_iter().map(|stored| stored.version).collect();
                Err(BoxError::Ambiguous { name: name.to_owned(), have })
            }
            Which::Version(version) => {
                let (wanted, others): (Vec<_>, Vec<_>) =
                    named.into_iter().partition(|stored| stored.version == *version);
                if wanted.is_empty() {
                    let have = others.into_iter().map(|stored| stored.version).collect();
                    return Err(BoxError::NoVersion {
                        name: name.to_owned(),
                        version: version.clone(),
                        have,
                    });
                }
                Ok(wanted)
            }
        }
    }

    /// Takes one name away; with the last one goes the content, whose name in the trash then comes back.
    fn forget(
        &self,
        _: &Locked,
        stored: &StoredBox,
        force: bool,
        in_use: &dyn Fn(&Digest) -> Vec<String>,
    ) -> Result<Option<OsString>, BoxError> {
        let home = self.layout.home(&stored.digest);
        let Some(mut record) = Record::read(&home)? else { return Ok(None) };
        record.names.retain(|name| !name.is(&stored.name, &stored.version));
        if !record.is_named() && (force || in_use(&stored.digest).is_empty()) {
            return self.to_trash(&home).map(Some);
        }
        record.write(&home)?;
        Ok(None)
    }
}
