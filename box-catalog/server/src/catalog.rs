//! The catalog as Vagrant reads it (its documentation, "Box File Format", "Box Metadata").

use serde::Serialize;

use crate::document::{BoxDocument, FileEntry, VersionDocument};
use crate::names::{BoxName, VersionName};

/// A box, as it is in the catalog.
#[derive(Debug, Serialize)]
pub struct CatalogBox<'a> {
    name: &'a BoxName,
    description: &'a str,
    short_description: &'a str,
    versions: Vec<CatalogVersion<'a>>,
}

#[derive(Debug, Serialize)]
struct CatalogVersion<'a> {
    version: &'a VersionName,
    status: &'static str,
    created_at: String,
    description_markdown: &'a str,
    providers: Vec<CatalogFile<'a>>,
}

/// A file, as it is in the catalog.
#[derive(Debug, Serialize)]
pub struct CatalogFile<'a> {
    name: &'a str,
    url: String,
    checksum: String,
    checksum_type: &'static str,
    architecture: &'a str,
    default_architecture: bool,
    size: u64,
    manifest: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    signature: Option<&'a str>,
}

/// What `document` looks like from outside; `base` is the server's URL, without a slash at its end.
#[must_use]
pub fn of_box<'a>(document: &'a BoxDocument, base: &str) -> CatalogBox<'a> {
    CatalogBox {
        name: &document.name,
        description: &document.description,
        short_description: document.description.lines().next().unwrap_or_default(),
        versions: document.released().map(|version| of_version(document, version, base)).collect(),
    }
}

fn of_version<'a>(document: &'a BoxDocument, version: &'a VersionDocument, base: &str) -> CatalogVersion<'a> {
    let mut providers: Vec<_> =
        version.files.iter().map(|file| of_file(&document.name, version, file, base)).collect();
    // A Vagrant that does not know architectures takes the last of a provider's.
    providers.sort_by_key(|file| file.default_architecture);
    CatalogVersion {
        version: &version.version,
        status: "active",
        created_at: version
            .released
            .unwrap_or(version.created)
            .to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
        description_markdown: "",
        providers,
    }
}

/// What one file of `version` looks like from outside.
#[must_use]
pub fn of_file<'a>(
    name: &BoxName,
    version: &VersionDocument,
    file: &'a FileEntry,
    base: &str,
) -> CatalogFile<'a> {
    let home = format!("{base}/{name}/versions/{}/{}/{}", version.version, file.provider, file.architecture);
    CatalogFile {
        name: file.provider.as_str(),
        url: format!("{home}/vagrant.box"),
        checksum: file.sha256.to_string(),
        checksum_type: "sha256",
        architecture: file.architecture.as_str(),
        default_architecture: version.default_architecture(&file.provider) == Some(&file.architecture),
        size: file.size,
        manifest: format!("{home}/manifest"),
        signature: file.signature.as_deref(),
    }
}
