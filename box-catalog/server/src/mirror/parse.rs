//! The document of another catalog, in Vagrant's format, which may hold anything.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use posada_fetch::{Checksum, shown};
use serde::Deserialize;
use url::Url;

use super::document::{MirrorDocument, MirrorFile, MirrorVersion};
use crate::names::{BoxName, Part, VersionName};

/// The longest text about a box that is passed on, bytes.
const MAX_TEXT: usize = 64 << 10;
/// The longest signature, bytes.
pub(super) const MAX_SIGNATURE: usize = 4096;

#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    description: Option<String>,
    #[serde(default)]
    short_description: Option<String>,
    versions: Vec<Release>,
}

#[derive(Deserialize)]
struct Release {
    version: String,
    #[serde(default)]
    status: Option<String>,
    #[serde(default)]
    created_at: Option<String>,
    #[serde(default)]
    providers: Vec<Provider>,
}

#[derive(Deserialize)]
struct Provider {
    name: String,
    url: String,
    #[serde(default)]
    checksum: Option<String>,
    #[serde(default)]
    checksum_type: Option<String>,
    #[serde(default)]
    architecture: Option<String>,
    #[serde(default)]
    default_architecture: Option<bool>,
    #[serde(default)]
    size: Option<u64>,
    #[serde(default)]
    signature: Option<String>,
}

/// What a document tells of the box that is asked for. What has a name or a version that is none here is passed over, as is what
/// is not active; a checksum that is none makes an error, as it must not count for none.
pub(crate) fn parse(
    bytes: &[u8],
    name: &BoxName,
    upstream: &Url,
    from: &Url,
    checked: DateTime<Utc>,
) -> Result<MirrorDocument, String> {
    let document: Document =
        serde_json::from_slice(bytes).map_err(|error| format!("it answers with no catalog: {error}"))?;
    let mut versions: Vec<MirrorVersion> = Vec::new();
    let mut seen = BTreeSet::new();
    for release in document.versions {
        let active = release.status.as_deref().is_none_or(|status| status == "active");
        let Some(version) = VersionName::parse(&release.version).ok().filter(|_| active) else { continue };
        let mut files = Vec::new();
        for provider in release.providers {
            let Some(file) = file(provider, &version, from)? else { continue };
            if seen.insert((version.to_string(), file.provider.clone(), file.architecture_in_path())) {
                files.push(file);
            }
        }
        let created_at = release.created_at.filter(|time| DateTime::parse_from_rfc3339(time).is_ok());
        versions.push(MirrorVersion { version, created_at, files });
    }
    Ok(MirrorDocument {
        name: name.clone(),
        upstream: upstream.clone(),
        etag: None,
        checked,
        description: bounded(document.description),
        short_description: bounded(document.short_description),
        versions,
        dropped: Vec::new(),
    })
}

fn file(provider: Provider, version: &VersionName, from: &Url) -> Result<Option<MirrorFile>, String> {
    let text = |text: Option<String>| text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
    let architecture = text(provider.architecture);
    let (Ok(name), Ok(architecture)) =
        (Part::parse(&provider.name), architecture.as_deref().map(Part::parse).transpose())
    else {
        return Ok(None);
    };
    let url = from.join(&provider.url).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
    let url = url.ok_or_else(|| format!("it says that {version} is at no web address"))?;
    let checksum = match (text(provider.checksum), text(provider.checksum_type)) {
        (Some(checksum), Some(kind)) => {
            let parsed = format!("{kind}:{checksum}").parse::<Checksum>();
            let parsed = parsed.map_err(|error| {
                format!("it gives a checksum for `{}` that is none: {error}", shown(&url))
            })?;
            Some(parsed.to_string())
        }
        _ => None,
    };
    Ok(Some(MirrorFile {
        provider: name,
        architecture,
        default_architecture: provider.default_architecture,
        url,
        checksum,
        size: provider.size,
        signature: provider.signature.filter(|text| is_signature(text)),
        beside: None,
        kept: None,
    }))
}

/// Whether it may be a signature of minisign's.
pub(super) fn is_signature(text: &str) -> bool {
    text.len() <= MAX_SIGNATURE && text.starts_with("untrusted comment:")
}

fn bounded(text: Option<String>) -> String {
    let mut text = text.unwrap_or_default();
    text.truncate(text.floor_char_boundary(MAX_TEXT));
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Result<MirrorDocument, String> {
        let url = |text| Url::parse(text).unwrap();
        let name = BoxName::parse("team/web").unwrap();
        parse(text.as_bytes(), &name, &url("https://h/"), &url("https://h/team/web"), DateTime::UNIX_EPOCH)
    }

    #[test]
    fn documents_of_vagrants_are_read_and_what_has_no_name_here_is_passed_over() {
        let sum = "AB".repeat(20);
        let document = read(&format!(
            r#"{{"name": "other/name", "description": null, "versions": [
                {{"version": "1.0", "status": "active", "providers": [
                    {{"name": "libvirt", "url": "https://g/a.box", "checksum": "{sum}", "checksum_type": "SHA1", "architecture": "amd64"}},
                    {{"name": "lxc", "url": "b.box", "checksum": "", "checksum_type": null}},
                    {{"name": "lxc", "url": "again.box", "architecture": "unknown"}},
                    {{"name": "../lxc", "url": "b.box"}}]}},
                {{"version": "2.0", "status": "revoked", "providers": [{{"name": "lxc", "url": "c.box"}}]}},
                {{"version": "../3", "providers": [{{"name": "lxc", "url": "c.box"}}]}}]}}"#
        ));
        let document = document.unwrap();
        assert_eq!((document.name.to_string().as_str(), document.versions.len()), ("team/web", 1));
        let files = &document.versions[0].files;
        assert_eq!(files.len(), 2, "{files:?}");
        assert_eq!(files[0].checksum, Some(format!("sha1:{}", sum.to_lowercase())));
        assert_eq!((files[1].url.as_str(), &files[1].checksum), ("https://h/team/b.box", &None));
        let part = |text| Part::parse(text).unwrap();
        let version = VersionName::parse("1.0").unwrap();
        assert_eq!(document.file(&version, &part("lxc"), &part("unknown")), Some(&files[1]));
    }

    #[test]
    fn what_cannot_be_believed_is_an_error() {
        for provider in [
            r#"{"name": "lxc", "url": "file:///etc/passwd"}"#,
            r#"{"name": "lxc", "url": "a", "checksum": "12", "checksum_type": "sha256"}"#,
            r#"{"name": "lxc"}"#,
        ] {
            let text = format!(r#"{{"versions": [{{"version": "1", "providers": [{provider}]}}]}}"#);
            assert!(read(&text).is_err(), "{provider}");
        }
        for bad in ["", "[]", "<html>", r#"{"versions": 1}"#] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_taken_or_refused(text in r#"[\[\]{}:,"a-z0-9]{0,60}"#) {
            let _ = read(&text);
            crate::fuzzing::upstream(text.as_bytes());
        }
    }
}
