//! What a simplestreams server says of its images, as LXD and Incus read it: an index that names documents, and documents of
//! products with their versions and files.
//! Format: <https://documentation.ubuntu.com/lxd/stable-5.21/reference/image_servers/> and simplestreams' own sources; what is
//! not needed is passed over.

use std::collections::BTreeMap;

use posada_fetch::Checksum;
use serde::Deserialize;
use url::Url;

use super::Offer;
use crate::Version;

/// Kinds of files that hold a root file system, the one that is unpacked while it comes first.
const ARCHIVES: [&str; 2] = ["root.tar.xz", "squashfs"];
/// Kinds of files that are a disk image for virtual machines, the one that fits best first.
const DISKS: [&str; 2] = ["disk-kvm.img", "disk1.img"];
/// What documents of images are called among those in the index.
const IMAGES: &str = "image-downloads";

#[derive(Deserialize)]
struct Index {
    index: BTreeMap<String, Listed>,
}

#[derive(Deserialize)]
struct Listed {
    #[serde(default)]
    datatype: String,
    path: String,
}

#[derive(Deserialize)]
struct Document {
    products: BTreeMap<String, Product>,
}

#[derive(Deserialize)]
struct Product {
    #[serde(default)]
    aliases: String,
    #[serde(default)]
    arch: Option<String>,
    #[serde(default)]
    versions: BTreeMap<String, Build>,
}

#[derive(Deserialize)]
struct Build {
    #[serde(default)]
    items: BTreeMap<String, Item>,
}

#[derive(Deserialize)]
struct Item {
    #[serde(default)]
    ftype: String,
    #[serde(default)]
    path: String,
    #[serde(default)]
    sha256: Option<String>,
}

/// Where the documents of images are that the index at `base` names.
pub(super) fn documents(bytes: &[u8], base: &Url) -> Result<Vec<Url>, String> {
    let index: Index = serde_json::from_slice(bytes).map_err(|error| format!("has no index: {error}"))?;
    let images = index.index.into_values().filter(|listed| listed.datatype == IMAGES);
    images.map(|listed| at(base, &listed.path)).collect()
}

/// The files of `image` that a document has, and what other images are called in it. Those without a checksum are passed over,
/// and so are versions that are none.
pub(super) fn offers(
    bytes: &[u8],
    base: &Url,
    image: &str,
    name: &str,
) -> Result<(Vec<Offer>, Vec<String>), String> {
    let document: Document = serde_json::from_slice(bytes)
        .map_err(|error| format!("has a document of images that is none: {error}"))?;
    let (mut offers, mut others) = (Vec::new(), Vec::new());
    for (key, product) in document.products {
        let mut aliases = product.aliases.split(',').map(str::trim).filter(|alias| !alias.is_empty());
        if key != image && !aliases.clone().any(|alias| alias == image) {
            others.extend(aliases.next().map(str::to_owned));
            continue;
        }
        for (version, build) in product.versions {
            let Some(version) = version_of(&version) else { continue };
            for (provider, kinds) in [("kvm", &DISKS[..]), ("container", &ARCHIVES[..])] {
                let of_kind = |kind: &&str| {
                    let item = build.items.values().find(|item| item.ftype == **kind)?;
                    Some((item, item.sha256.as_ref()?))
                };
                let Some((item, digits)) = kinds.iter().find_map(of_kind) else { continue };
                let checksum = format!("sha256:{digits}").parse::<Checksum>();
                let checksum = checksum.map_err(|error| format!("gives a checksum that is none: {error}"))?;
                offers.push(Offer {
                    name: name.to_owned(),
                    version: version.clone(),
                    provider: Some(provider.to_owned()),
                    architecture: product.arch.clone(),
                    default_architecture: false,
                    location: at(base, &item.path)?.into(),
                    checksum: Some(checksum),
                    signature: None,
                    manifest: None,
                });
            }
        }
    }
    Ok((offers, others))
}

/// `20261126_05:24` as a version: `20261126.0524`.
fn version_of(text: &str) -> Option<Version> {
    let text: String = text.chars().filter(|c| *c != ':').map(|c| if c == '_' { '.' } else { c }).collect();
    Version::parse(&text).ok()
}

fn at(base: &Url, path: &str) -> Result<Url, String> {
    let url = base.join(path).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
    url.ok_or_else(|| "says that something is at no web address".to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn base() -> Url {
        Url::parse("https://images.example.org/sub/").unwrap()
    }

    fn document(sum: &str) -> String {
        format!(
            r#"{{"format": "products:1.0", "products": {{
                "debian:bookworm:amd64:default": {{"aliases": "debian/bookworm/default,debian/12", "arch": "amd64", "versions": {{
                    "20261125_05:24": {{"items": {{
                        "root.tar.xz": {{"ftype": "root.tar.xz", "path": "a/rootfs.tar.xz", "sha256": "{sum}", "size": 1}},
                        "root.squashfs": {{"ftype": "squashfs", "path": "a/rootfs.squashfs", "sha256": "{sum}"}},
                        "disk.qcow2": {{"ftype": "disk-kvm.img", "path": "a/disk.qcow2", "sha256": "{sum}"}}}}}},
                    "20261126_05:24": {{"items": {{"root.tar.xz": {{"ftype": "root.tar.xz", "path": "b/rootfs.tar.xz"}}}}}},
                    "20261127_05:24": {{"items": {{
                        "root.tar.xz": {{"ftype": "root.tar.xz", "path": "c/rootfs.tar.xz"}},
                        "root.squashfs": {{"ftype": "squashfs", "path": "c/rootfs.squashfs", "sha256": "{sum}"}}}}}}}}}},
                "debian:trixie:amd64:default": {{"aliases": "debian/13", "versions": {{}}}}}}}}"#
        )
    }

    #[test]
    fn files_that_can_be_used_are_offered() {
        let sum = "ab".repeat(32);
        for image in ["debian/12", "debian:bookworm:amd64:default"] {
            let (offers, others) = offers(document(&sum).as_bytes(), &base(), image, "x").unwrap();
            let told: Vec<_> = offers
                .iter()
                .map(|offer| {
                    (offer.version.to_string(), offer.provider.as_deref().unwrap(), offer.location.as_str())
                })
                .collect();
            let at = |path: &str| format!("https://images.example.org/sub/{path}");
            assert_eq!(
                told,
                [
                    ("20261125.0524".to_owned(), "kvm", &*at("a/disk.qcow2")),
                    ("20261125.0524".to_owned(), "container", &*at("a/rootfs.tar.xz")),
                    ("20261127.0524".to_owned(), "container", &*at("c/rootfs.squashfs")),
                ],
                "what has no checksum is left out"
            );
            assert_eq!(others, ["debian/13"]);
        }
        assert!(offers(document("12").as_bytes(), &base(), "debian/12", "x").is_err());
    }

    #[test]
    fn an_index_names_its_documents() {
        let text = r#"{"format": "index:1.0", "index": {
            "images": {"datatype": "image-downloads", "path": "streams/v1/images.json"},
            "keys": {"datatype": "image-ids", "path": "x.json"}}}"#;
        let found = documents(text.as_bytes(), &base()).unwrap();
        assert_eq!(found[0].as_str(), "https://images.example.org/sub/streams/v1/images.json");
        assert_eq!(found.len(), 1);
        let elsewhere = text.replace("streams/v1/images.json", "file:///etc/passwd");
        assert!(documents(elsewhere.as_bytes(), &base()).is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_taken_or_refused(text in r#"[\[\]{}:,"a-z0-9/_]{0,80}"#) {
            crate::fuzzing::simplestreams(text.as_bytes());
        }
    }
}
