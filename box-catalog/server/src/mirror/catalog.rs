//! The catalog of a box of another catalog, whose files are fetched from here.

use serde::Serialize;

use super::document::{MirrorDocument, MirrorFile, MirrorVersion};

#[derive(Serialize)]
pub(crate) struct CatalogBox<'a> {
    name: &'a crate::BoxName,
    description: &'a str,
    short_description: &'a str,
    versions: Vec<CatalogVersion<'a>>,
}

#[derive(Serialize)]
struct CatalogVersion<'a> {
    version: &'a crate::VersionName,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    created_at: Option<&'a str>,
    description_markdown: &'a str,
    providers: Vec<CatalogFile<'a>>,
}

#[derive(Serialize)]
struct CatalogFile<'a> {
    name: &'a str,
    url: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    checksum: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    checksum_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    architecture: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    default_architecture: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    manifest: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signature: Option<&'a str>,
}

/// What `document` looks like from outside; `base` is this server's URL, without a slash at its end.
pub(crate) fn of_box<'a>(document: &'a MirrorDocument, base: &str) -> CatalogBox<'a> {
    CatalogBox {
        name: &document.name,
        description: &document.description,
        short_description: &document.short_description,
        versions: document.versions.iter().map(|version| of_version(document, version, base)).collect(),
    }
}

fn of_version<'a>(document: &MirrorDocument, version: &'a MirrorVersion, base: &str) -> CatalogVersion<'a> {
    let home = format!("{base}/{}/versions/{}", document.name, version.version);
    CatalogVersion {
        version: &version.version,
        status: "active",
        created_at: version.created_at.as_deref(),
        description_markdown: "",
        providers: version.files.iter().map(|file| of_file(file, &home)).collect(),
    }
}

fn of_file<'a>(file: &'a MirrorFile, home: &str) -> CatalogFile<'a> {
    let home = format!("{home}/{}/{}", file.provider, file.architecture_in_path());
    let checksum = file.checksum.as_deref().and_then(|checksum| checksum.split_once(':'));
    CatalogFile {
        name: file.provider.as_str(),
        url: format!("{home}/vagrant.box"),
        checksum: checksum.map(|(_, hex)| hex),
        checksum_type: checksum.map(|(kind, _)| kind),
        architecture: file.architecture.as_ref().map(crate::Part::as_str),
        default_architecture: file.default_architecture,
        size: file.size,
        manifest: file.kept.is_some().then(|| format!("{home}/manifest")),
        signature: file.signature.as_deref().or(file.beside.as_deref()),
    }
}
