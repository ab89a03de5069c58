//! What a catalog says of a box, in Vagrant's format.

use posada_fetch::{Checksum, shown};
use serde::Deserialize;
use url::Url;

use super::Offer;
use crate::Version;

#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    name: String,
    versions: Vec<Release>,
}

#[derive(Deserialize)]
struct Release {
    version: String,
    #[serde(default)]
    status: Option<String>,
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
    /// Ours.
    #[serde(default)]
    signature: Option<String>,
    /// Ours.
    #[serde(default)]
    manifest: Option<String>,
}

/// The name and all files that the document from `base` tells of. What has a version that is none is passed over, as is what is
/// revoked; a checksum that is none makes an error, as it must not count for none.
pub(crate) fn parse(bytes: &[u8], base: &Url) -> Result<(String, Vec<Offer>), String> {
    let document: Document =
        serde_json::from_slice(bytes).map_err(|error| format!("answers with no catalog: {error}"))?;
    let mut offers = Vec::new();
    for release in document.versions {
        let Ok(version) = Version::parse(&release.version) else { continue };
        if release.status.as_deref().is_some_and(|status| status != "active") {
            continue;
        }
        for provider in release.providers {
            let fits = |url: &Url| matches!(url.scheme(), "http" | "https") || is_beside(url, base);
            let location = base.join(&provider.url).ok().filter(fits);
            let location = location.ok_or_else(|| format!("says that {version} is at no web address"))?;
            let text = |text: Option<String>| {
                text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
            };
            let checksum = match (text(provider.checksum), text(provider.checksum_type)) {
                (Some(checksum), Some(kind)) => {
                    Some(format!("{kind}:{checksum}").parse::<Checksum>().map_err(|error| {
                        format!("gives a checksum for `{}` that is none: {error}", shown(&location))
                    })?)
                }
                _ => None,
            };
            offers.push(Offer {
                name: document.name.clone(),
                version: version.clone(),
                provider: Some(provider.name),
                architecture: text(provider.architecture),
                default_architecture: provider.default_architecture.unwrap_or(false),
                location: location.into(),
                checksum,
                signature: provider.signature,
                manifest: provider.manifest.and_then(|url| base.join(&url).ok()).map(String::from),
            });
        }
    }
    Ok((document.name, offers))
}

/// Whether `url` is where the document itself is: on the same server, in the same bucket.
fn is_beside(url: &Url, base: &Url) -> bool {
    (url.scheme(), url.host_str(), url.port()) == (base.scheme(), base.host_str(), base.port())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Result<(String, Vec<Offer>), String> {
        parse(text.as_bytes(), &Url::parse("https://h/team/web").unwrap())
    }

    #[test]
    fn documents_of_vagrants_are_read() {
        let sum = "ab".repeat(20);
        let text = format!(
            r#"{{"name": "team/web", "description": "x", "versions": [
                {{"version": "1.0", "status": "active", "providers": [
                    {{"name": "libvirt", "url": "https://g/a.box", "checksum": "{sum}", "checksum_type": "SHA1",
                      "architecture": "amd64", "default_architecture": true}},
                    {{"name": "lxc", "url": "b.box", "checksum": "", "checksum_type": null}}]}},
                {{"version": "2.0", "status": "revoked", "providers": [{{"name": "lxc", "url": "c.box"}}]}},
                {{"version": "not one", "providers": [{{"name": "lxc", "url": "c.box"}}]}}]}}"#
        );
        let (name, offers) = read(&text).unwrap();
        assert_eq!((name.as_str(), offers.len()), ("team/web", 2));
        assert_eq!(offers[0].checksum.as_ref().unwrap().to_string(), format!("sha1:{sum}"));
        assert!(offers[0].default_architecture && offers[0].location == "https://g/a.box");
        assert_eq!((offers[1].location.as_str(), &offers[1].checksum), ("https://h/team/b.box", &None));
    }

    #[test]
    fn what_cannot_be_believed_is_an_error() {
        let document =
            |provider: &str| format!(r#"{{"versions": [{{"version": "1", "providers": [{provider}]}}]}}"#);
        for bad in [
            r#"{"name": "lxc", "url": "file:///etc/passwd"}"#,
            r#"{"name": "lxc", "url": "a", "checksum": "12", "checksum_type": "sha256"}"#,
            r#"{"name": "lxc", "url": "a", "checksum": "12", "checksum_type": "crc32"}"#,
            r#"{"name": "lxc"}"#,
        ] {
            assert!(read(&document(bad)).is_err(), "{bad}");
        }
        for bad in ["", "[]", "<html>", r#"{"versions": 1}"#] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_taken_or_refused(text in r#"[\[\]{}:,"a-z0-9]{0,60}"#) {
            crate::fuzzing::catalog(text.as_bytes());
        }
    }
}
