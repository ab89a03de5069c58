//! What is kept of a box: one JSON document, replaced as a whole.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::digest::Sha256;
use crate::names::{BoxName, Part, VersionName};

/// A box with all its versions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoxDocument {
    /// What it is called.
    pub name: BoxName,
    /// What people are told of it.
    #[serde(default)]
    pub description: String,
    /// Newest first.
    pub versions: Vec<VersionDocument>,
    /// Files that were in it not long ago: who has begun to fetch them may end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dropped: Vec<Dropped>,
}

/// A version of a box.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionDocument {
    /// Which.
    pub version: VersionName,
    /// How far it is.
    pub state: State,
    /// When its first file came.
    pub created: DateTime<Utc>,
    /// When it was released, which may have been before it was yanked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub released: Option<DateTime<Utc>>,
    /// One a provider and architecture.
    pub files: Vec<FileEntry>,
}

/// How far a version is.
///
/// ```text
/// (push) ──► Open ──release──► Released ──yank──► Yanked
///             │                    ▲                │
///             └─► dropped          └────unyank──────┘
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Files may come and be replaced; nobody sees it but who pushes.
    Open,
    /// In the catalog, and never changed again.
    Released,
    /// Out of the catalog; its files can still be fetched by who knows their URLs.
    Yanked,
}

/// A box file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// `libvirt`, `lxc`, `virtualbox` and the like, as Vagrant names them.
    pub provider: Part,
    /// `amd64`, `arm64` and the like, or `unknown`.
    pub architecture: Part,
    /// Bytes.
    pub size: u64,
    /// Of the whole file.
    pub sha256: Sha256,
    /// When it came.
    pub added: DateTime<Utc>,
    /// Its signature, as minisign writes it. Whether it is right is for who fetches it to say, whose keys nobody here knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<String>,
}

/// A file that is no longer part of a box.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dropped {
    /// Which.
    pub sha256: Sha256,
    /// Since when.
    pub at: DateTime<Utc>,
}

impl BoxDocument {
    /// A box without any version.
    #[must_use]
    pub fn new(name: BoxName) -> Self {
        Self { name, description: String::new(), versions: Vec::new(), dropped: Vec::new() }
    }

    /// That version, whatever its state.
    #[must_use]
    pub fn version(&self, version: &VersionName) -> Option<&VersionDocument> {
        self.versions.iter().find(|there| there.version == *version)
    }

    pub(crate) fn version_mut(&mut self, version: &VersionName) -> Option<&mut VersionDocument> {
        self.versions.iter_mut().find(|there| there.version == *version)
    }

    /// The versions in the catalog, newest first.
    pub fn released(&self) -> impl Iterator<Item = &VersionDocument> {
        self.versions.iter().filter(|version| version.state == State::Released)
    }

    /// Takes a file into an open version, which is made where there is none; what it takes the place of is
    /// dropped. `None` where the version is not open and holds something else.
    pub(crate) fn put_file(&mut self, version: &VersionName, file: FileEntry) -> Option<FileEntry> {
        let at = match self.versions.iter().position(|there| there.version == *version) {
            Some(at) => at,
            None => {
                let at = self
                    .versions
                    .iter()
                    .position(|there| there.version.compare(version).is_lt())
                    .unwrap_or(self.versions.len());
                let made = VersionDocument {
                    version: version.clone(),
                    state: State::Open,
                    created: file.added,
                    released: None,
                    files: Vec::new(),
                };
                self.versions.insert(at, made);
                at
            }
        };
        let there = &mut self.versions[at];
        let before = there
            .files
            .iter_mut()
            .find(|old| (&old.provider, &old.architecture) == (&file.provider, &file.architecture));
        match before {
            // Sent again, as the answer to the first did not arrive.
            Some(before) if before.sha256 == file.sha256 => return Some(before.clone()),
            _ if there.state != State::Open => return None,
            Some(before) => {
                self.dropped.push(Dropped { sha256: before.sha256, at: file.added });
                *before = file.clone();
            }
            None => there.files.push(file.clone()),
        }
        there.files.sort_by(|a, b| (&a.provider, &a.architecture).cmp(&(&b.provider, &b.architecture)));
        Some(file)
    }

    /// Takes versions out for good.
    pub(crate) fn drop_versions(
        &mut self,
        now: DateTime<Utc>,
        mut gone: impl FnMut(&VersionDocument) -> bool,
    ) -> usize {
        let before = self.versions.len();
        let dropped = &mut self.dropped;
        self.versions.retain(|version| {
            let goes = gone(version);
            if goes {
                dropped.extend(version.files.iter().map(|file| Dropped { sha256: file.sha256, at: now }));
            }
            !goes
        });
        before - self.versions.len()
    }
}

impl VersionDocument {
    /// The file for that provider and architecture.
    #[must_use]
    pub fn file(&self, provider: &Part, architecture: &Part) -> Option<&FileEntry> {
        self.files.iter().find(|file| file.provider == *provider && file.architecture == *architecture)
    }

    /// Which architecture a provider's file is for where nothing else is asked for: `amd64` where there is one, else
    /// the first.
    #[must_use]
    pub fn default_architecture(&self, provider: &Part) -> Option<&Part> {
        let of_provider = || self.files.iter().filter(|file| file.provider == *provider);
        of_provider()
            .find(|file| file.architecture.as_str() == "amd64")
            .or_else(|| of_provider().next())
            .map(|file| &file.architecture)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(architecture: &str, byte: u8) -> FileEntry {
        FileEntry {
            provider: Part::parse("libvirt").unwrap(),
            architecture: Part::parse(architecture).unwrap(),
            size: 1,
            sha256: Sha256([byte; 32]),
            added: DateTime::from_timestamp(1_800_000_000, 0).unwrap(),
            signature: None,
        }
    }

    fn version(text: &str) -> VersionName {
        VersionName::parse(text).unwrap()
    }

    #[test]
    fn an_open_version_takes_files_and_a_released_one_does_not() {
        let mut document = BoxDocument::new(BoxName::parse("team/web").unwrap());
        assert!(document.put_file(&version("1.0"), file("amd64", 1)).is_some());
        assert!(document.put_file(&version("1.0"), file("amd64", 2)).is_some());
        assert_eq!(document.dropped[0].sha256, Sha256([1; 32]));
        document.version_mut(&version("1.0")).unwrap().state = State::Released;
        let before = document.clone();
        assert!(document.put_file(&version("1.0"), file("amd64", 3)).is_none());
        assert!(document.put_file(&version("1.0"), file("arm64", 3)).is_none());
        assert!(
            document.put_file(&version("1.0"), file("amd64", 2)).is_some(),
            "the same again is no change"
        );
        assert_eq!(document, before);
    }

    #[test]
    fn versions_stay_in_order_newest_first() {
        let mut document = BoxDocument::new(BoxName::parse("team/web").unwrap());
        for text in ["1.2", "1.10", "1.9", "2.0-rc1"] {
            document.put_file(&version(text), file("amd64", 1));
        }
        let order: Vec<_> = document.versions.iter().map(|there| there.version.as_str()).collect();
        assert_eq!(order, ["2.0-rc1", "1.10", "1.9", "1.2"]);
    }

    #[test]
    fn what_is_asked_for_without_an_architecture_is_amd64() {
        let mut document = BoxDocument::new(BoxName::parse("team/web").unwrap());
        for architecture in ["arm64", "amd64", "riscv64"] {
            document.put_file(&version("1"), file(architecture, 1));
        }
        let default = document.versions[0].default_architecture(&Part::parse("libvirt").unwrap());
        assert_eq!(default.unwrap().as_str(), "amd64");
        assert_eq!(document.versions[0].default_architecture(&Part::parse("lxc").unwrap()), None);
    }
}
