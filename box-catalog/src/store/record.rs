//! What the store knows of a box: `box.json`.

use std::io::{ErrorKind, Write};
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::fingerprint::Fingerprint;
use super::layout::{Layout, Locked, RECORD};
use super::{Store, StoredBox};
use crate::disk::DiskRecord;
use crate::unpack::Unpacked;
use crate::{BoxError, BoxMetadata, Digest, Version};

const FORMAT: u32 = 1;

/// One box.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    format: u32,
    pub digest: Digest,
    archive_size: u64,
    size: u64,
    pub metadata: BoxMetadata,
    /// The disk image it holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<DiskRecord>,
    /// The box that it was made from, in another form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub derived_from: Option<Digest>,
    /// Its names, also those that were given to other content since.
    pub names: Vec<Name>,
}

/// One name of a box.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Name {
    pub name: String,
    pub version: Version,
    /// Seconds since 1970.
    pub added: u64,
    /// The file it was added from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<Fingerprint>,
    /// Whether other content has taken its place; machines made from it go on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub replaced: bool,
}

impl Name {
    pub fn is(&self, name: &str, version: &Version) -> bool {
        self.name == name && self.version == *version && !self.replaced
    }
}

impl Record {
    pub fn new(unpacked: Unpacked, name: Name) -> Self {
        Self {
            format: FORMAT,
            digest: unpacked.digest,
            archive_size: unpacked.archive_size,
            size: unpacked.size,
            metadata: unpacked.metadata,
            disk: unpacked.disk,
            derived_from: None,
            names: vec![name],
        }
    }

    /// The box under each of the names it still has.
    pub fn boxes<'a>(&'a self, layout: &'a Layout) -> impl Iterator<Item = StoredBox> + 'a {
        self.names.iter().filter(|name| !name.replaced).map(|name| self.under(name, layout))
    }

    /// Whether it and `other` are different content that one name cannot stand for: a name may mean a root file
    /// system and a disk at once, but not two of one form.
    pub fn rivals(&self, other: &Self) -> bool {
        self.digest != other.digest && !self.metadata.provides.is_disjoint(&other.metadata.provides)
    }

    /// Whether it was made from content that `original` has taken the place of, or has taken its own.
    pub fn is_outdated_by(&self, original: &Self) -> bool {
        original.derived_from.is_none()
            && self.derived_from.is_some_and(|from| from != original.digest || self.rivals(original))
    }

    /// Whether it has a name left.
    pub fn is_named(&self) -> bool {
        self.names.iter().any(|name| !name.replaced)
    }

    /// The box under one of its names.
    pub fn under(&self, name: &Name, layout: &Layout) -> StoredBox {
        StoredBox {
            name: name.name.clone(),
            version: name.version.clone(),
            digest: self.digest,
            metadata: self.metadata.clone(),
            size: self.size,
            added: SystemTime::UNIX_EPOCH + Duration::from_secs(name.added),
            home: layout.home(&self.digest),
            disk: self.disk.clone(),
            derived: self.derived_from.is_some(),
            lease: super::lease::Lease::default(),
        }
    }

    /// Reads the record in `directory`; `None` where it is gone.
    pub fn read(directory: &Path) -> Result<Option<Self>, BoxError> {
        let path = directory.join(RECORD);
        let text = match std::fs::read(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            read => read.map_err(|error| BoxError::io("read", &path, error))?,
        };
        let damaged = |what: String| BoxError::Damaged { path: path.clone(), what };
        let record: Self = serde_json::from_slice(&text).map_err(|error| damaged(error.to_string()))?;
        if record.format == FORMAT {
            Ok(Some(record))
        } else {
            Err(damaged(format!("its format is {}, this posada reads {FORMAT}", record.format)))
        }
    }

    /// Writes the record into `directory`, whole.
    pub fn write(&self, directory: &Path) -> Result<(), BoxError> {
        let path = directory.join(RECORD);
        let failed = |error| BoxError::io("write", path.clone(), error);
        let mut text = serde_json::to_vec_pretty(self).map_err(|error| failed(error.into()))?;
        text.push(b'\n');
        let mut file = tempfile::NamedTempFile::new_in(directory).map_err(failed)?;
        file.write_all(&text).map_err(failed)?;
        file.as_file().sync_all().map_err(failed)?;
        file.persist(&path).map_err(|error| failed(error.error))?;
        sync_directory(directory)
    }
}

/// Makes renames in `directory` last.
pub fn sync_directory(directory: &Path) -> Result<(), BoxError> {
    let synced = std::fs::File::open(directory).and_then(|directory| directory.sync_all());
    synced.map_err(|error| BoxError::io("sync", directory, error))
}

pub fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

impl Store {
    /// All records.
    pub(super) fn records(&self) -> Result<Vec<Record>, BoxError> {
        let trees = self.layout.trees();
        let failed = |error| BoxError::io("read", trees.clone(), error);
        let mut records = Vec::new();
        for entry in std::fs::read_dir(&trees).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if entry.file_name().to_str().and_then(Digest::parse).is_some() {
                records.extend(Record::read(&entry.path())?);
            }
        }
        Ok(records)
    }

    /// Takes a name from every other box of the same form, and from what was made of others.
    pub(super) fn take_name(&self, _: &Locked, name: &Name, keeper: &Record) -> Result<(), BoxError> {
        let loses = |record: &Record| keeper.rivals(record) || record.is_outdated_by(keeper);
        for mut record in self.records()?.into_iter().filter(loses) {
            let mut same =
                record.names.iter_mut().filter(|other| other.is(&name.name, &name.version)).peekable();
            if same.peek().is_some() {
                same.for_each(|other| other.replaced = true);
                record.write(&self.layout.home(&record.digest))?;
            }
        }
        Ok(())
    }
}
