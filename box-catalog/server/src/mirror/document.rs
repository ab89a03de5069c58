//! What is known of a box of another catalog: its document, and which of its files are here.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use url::Url;

use crate::digest::Sha256;
use crate::document::Dropped;
use crate::names::{BoxName, Part, VersionName};

/// The architecture in a path whose catalog says none.
const NO_ARCHITECTURE: &str = "unknown";

/// A box of another catalog.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MirrorDocument {
    pub name: BoxName,
    /// Of which catalog.
    pub upstream: Url,
    /// By what that tells versions of the document apart.
    #[serde(default)]
    pub etag: Option<String>,
    /// When it was known to be current.
    pub checked: DateTime<Utc>,
    pub description: String,
    pub short_description: String,
    /// In the catalog's own order.
    pub versions: Vec<MirrorVersion>,
    /// Files that were here not long ago: who has begun to fetch them may end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dropped: Vec<Dropped>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MirrorVersion {
    pub version: VersionName,
    #[serde(default)]
    pub created_at: Option<String>,
    pub files: Vec<MirrorFile>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MirrorFile {
    pub provider: Part,
    #[serde(default)]
    pub architecture: Option<Part>,
    #[serde(default)]
    pub default_architecture: Option<bool>,
    /// Where the catalog says that it is. Secrets may be in it.
    pub url: Url,
    /// `sha256:…`, as the catalog says.
    #[serde(default)]
    pub checksum: Option<String>,
    #[serde(default)]
    pub size: Option<u64>,
    /// As the catalog says.
    #[serde(default)]
    pub signature: Option<String>,
    /// As it was beside the file.
    #[serde(default)]
    pub beside: Option<String>,
    /// The file, where it is here.
    #[serde(default)]
    pub kept: Option<Kept>,
}

/// A file that is here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Kept {
    pub sha256: Sha256,
    pub size: u64,
    /// By what its server tells versions of it apart; for files without a checksum.
    #[serde(default)]
    pub validator: Option<String>,
    /// When it was known to be current, by that.
    pub checked: DateTime<Utc>,
    /// When somebody last wanted it, to the hour.
    pub asked: DateTime<Utc>,
}

impl MirrorDocument {
    /// A box that is no more.
    pub(crate) const fn without_versions_of(name: BoxName, upstream: Url, checked: DateTime<Utc>) -> Self {
        Self {
            name,
            upstream,
            etag: None,
            checked,
            description: String::new(),
            short_description: String::new(),
            versions: Vec::new(),
            dropped: Vec::new(),
        }
    }

    /// Who has begun to fetch that file may end.
    pub(crate) fn drop_file(&mut self, sha256: Sha256, at: DateTime<Utc>) {
        self.dropped.push(Dropped { sha256, at });
    }

    /// The file that a path names.
    pub(crate) fn file(
        &self,
        version: &VersionName,
        provider: &Part,
        architecture: &Part,
    ) -> Option<&MirrorFile> {
        let version = self.versions.iter().find(|there| there.version == *version)?;
        version.files.iter().find(|file| file.is(provider, architecture))
    }

    pub(crate) fn file_mut(
        &mut self,
        version: &VersionName,
        provider: &Part,
        architecture: &Part,
    ) -> Option<&mut MirrorFile> {
        let version = self.versions.iter_mut().find(|there| there.version == *version)?;
        version.files.iter_mut().find(|file| file.is(provider, architecture))
    }

    /// The version that is the newest by its name.
    pub(crate) fn newest(&self) -> Option<&MirrorVersion> {
        self.versions.iter().max_by(|a, b| a.version.compare(&b.version))
    }

    /// The files that are here.
    pub(crate) fn kept(&self) -> impl Iterator<Item = &Kept> {
        self.versions.iter().flat_map(|version| &version.files).filter_map(|file| file.kept.as_ref())
    }

    /// Takes over what is here of `before`; what of it is no part of the box any more is dropped.
    pub(crate) fn follow(&mut self, before: Self) {
        self.dropped = before.dropped;
        for version in before.versions {
            for file in version.files.into_iter().filter(|file| file.kept.is_some() || file.beside.is_some())
            {
                let architecture = file.architecture_in_path();
                let now = self.file_mut(&version.version, &file.provider, &architecture);
                match now.filter(|now| now.is_same_content(&file)) {
                    Some(now) => (now.kept, now.beside) = (file.kept, file.beside),
                    None => self
                        .dropped
                        .extend(file.kept.map(|kept| Dropped { sha256: kept.sha256, at: self.checked })),
                }
            }
        }
    }
}

impl MirrorFile {
    fn is(&self, provider: &Part, architecture: &Part) -> bool {
        let own = self.architecture.as_ref().map_or(NO_ARCHITECTURE, Part::as_str);
        self.provider == *provider && own == architecture.as_str()
    }

    /// How a path names its architecture.
    pub(crate) fn architecture_in_path(&self) -> Part {
        let none = || Part::parse(NO_ARCHITECTURE).expect("a word");
        self.architecture.clone().unwrap_or_else(none)
    }

    /// By checksum where there is one, else by where it is.
    pub(super) fn is_same_content(&self, other: &Self) -> bool {
        self.checksum == other.checksum && (self.checksum.is_some() || self.url == other.url)
    }

    /// What tells versions of it apart, where the catalog does.
    pub(crate) fn promised_tag(&self) -> Option<String> {
        let (kind, hex) = self.checksum.as_deref()?.split_once(':')?;
        Some(if kind == "sha256" { hex.to_owned() } else { format!("{kind}-{hex}") })
    }

    /// Its SHA-256, as the catalog says.
    pub(crate) fn promised(&self) -> Option<Sha256> {
        Sha256::parse(self.checksum.as_deref()?.strip_prefix("sha256:")?)
    }
}
