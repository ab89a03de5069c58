//! Manifests and indexes, of OCI and of Docker, which differ in their names alone.

use std::collections::BTreeMap;

use posada_fetch::{Algorithm, Checksum};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What boxes are among artifacts.
pub const BOX: &str = "application/vnd.posada.box.v1";

/// What a manifest is.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Names of annotations.
pub mod annotation {
    /// The version.
    pub const VERSION: &str = "org.opencontainers.image.version";
    /// For which provider a box is, as Vagrant calls it.
    pub const PROVIDER: &str = "vnd.posada.box.provider";
    /// For which architecture a box is, as Debian calls it.
    pub const ARCHITECTURE: &str = "vnd.posada.box.architecture";
}

/// Layers of an image, at most; those who make them have limits near 130.
const MAX_LAYERS: usize = 1024;
/// Configurations of images.
const PICTURES: [&str; 2] =
    ["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];

/// What is asked for where a manifest is wanted.
pub const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json";

/// Points at content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What it is.
    #[serde(default)]
    pub media_type: String,
    /// What it comes to.
    #[serde(serialize_with = "as_text", deserialize_with = "strong")]
    pub digest: Checksum,
    /// Its length, bytes.
    pub size: u64,
    /// What is said of it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// On what it runs, where it is in an index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Picture>,
}

/// On what an image runs: from an index, or from its own configuration.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Picture {
    /// As Go calls it.
    #[serde(default)]
    pub architecture: String,
    /// `linux`.
    #[serde(default)]
    pub os: String,
    /// Which of several that the architecture has.
    #[serde(default)]
    pub variant: Option<String>,
}

/// What a reference leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Manifest {
    /// The same for several architectures.
    Index(Vec<Descriptor>),
    /// An image of a container.
    Image {
        /// What it says of itself.
        config: Descriptor,
        /// What it is made of, the lowest first.
        layers: Vec<Descriptor>,
    },
    /// A box.
    Box {
        /// The file.
        file: Descriptor,
        /// What is said of it.
        annotations: BTreeMap<String, String>,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    #[serde(default)]
    schema_version: u64,
    artifact_type: Option<String>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
}

/// Reads a manifest or an index.
///
/// # Errors
/// What is wrong with it, as what a registry does: `has an image that …`.
pub fn read(bytes: &[u8]) -> Result<Manifest, String> {
    let document: Document = serde_json::from_slice(bytes)
        .map_err(|error| format!("answers with a manifest that cannot be read: {error}"))?;
    match document {
        Document { schema_version: 1, .. } => {
            Err("has it in the first version of Docker's format alone, which nobody makes any more"
                .to_owned())
        }
        Document { manifests: Some(manifests), config: None, layers: None, .. } => {
            Ok(Manifest::Index(manifests))
        }
        Document {
            manifests: None,
            config: Some(config),
            layers: Some(layers),
            artifact_type,
            annotations,
            ..
        } => {
            if layers.len() > MAX_LAYERS {
                return Err(format!("has an image of {} layers there", layers.len()));
            }
            match artifact_type.as_deref().unwrap_or(&config.media_type) {
                BOX => {
                    let [file] = <[Descriptor; 1]>::try_from(layers).map_err(|layers| {
                        format!("has a box of {} files there, where one is due", layers.len())
                    })?;
                    Ok(Manifest::Box { file, annotations: annotations.unwrap_or_default() })
                }
                kind if PICTURES.contains(&kind) || PICTURES.contains(&&*config.media_type) => {
                    if let Some(odd) = layers.iter().find(|layer| !is_layer(&layer.media_type)) {
                        return Err(format!(
                            "has an image there with a layer of the kind `{}`",
                            odd.media_type
                        ));
                    }
                    Ok(Manifest::Image { config, layers })
                }
                kind => Err(format!("has neither an image nor a box there, but `{kind}`")),
            }
        }
        _ => Err("answers with a manifest that is neither an index nor an image".to_owned()),
    }
}

/// Layers that are archives; what compresses them is seen in them. Some are not in the registry, some are encrypted.
fn is_layer(kind: &str) -> bool {
    kind.contains(".tar") && !kind.contains("foreign") && !kind.ends_with("+encrypted")
        || kind == "application/vnd.oci.image.layer.v1.tar"
}

/// What Debian calls an architecture that Go calls by these names.
pub fn debian_architecture(picture: &Picture) -> Option<String> {
    let variant = picture.variant.as_deref();
    Some(
        match (picture.architecture.as_str(), variant) {
            ("" | "unknown", _) => return None,
            ("386", _) => "i386",
            ("arm", Some("v5" | "v6")) => "armel",
            ("arm", _) => "armhf",
            ("ppc64le", _) => "ppc64el",
            ("mips64le", _) => "mips64el",
            ("mipsle", _) => "mipsel",
            (same, _) => same,
        }
        .to_owned(),
    )
}

/// Digests that nobody can forge.
fn strong<'de, D: Deserializer<'de>>(input: D) -> Result<Checksum, D::Error> {
    use serde::de::Error as _;

    let text = String::deserialize(input)?;
    let digest: Checksum = text.parse().map_err(D::Error::custom)?;
    match digest.algorithm() {
        Algorithm::Sha256 | Algorithm::Sha512 => Ok(digest),
        _ => Err(D::Error::custom(format!("`{text}` is no digest that can be relied on"))),
    }
}

fn as_text<S: Serializer>(digest: &Checksum, out: S) -> Result<S::Ok, S::Error> {
    out.collect_str(digest)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn descriptor(kind: &str) -> String {
        format!(r#"{{"mediaType": "{kind}", "digest": "sha256:{}", "size": 3}}"#, "ab".repeat(32))
    }

    fn manifest(config: &str, layer: &str, more: &str) -> String {
        format!(
            r#"{{"schemaVersion": 2, "config": {}, "layers": [{}]{more}}}"#,
            descriptor(config),
            descriptor(layer)
        )
    }

    #[test]
    fn images_boxes_and_indexes_are_told_apart() {
        for config in PICTURES {
            for layer in [
                "application/vnd.oci.image.layer.v1.tar",
                "application/vnd.oci.image.layer.v1.tar+zstd",
                "application/vnd.docker.image.rootfs.diff.tar.gzip",
            ] {
                let text = manifest(config, layer, "");
                assert!(matches!(read(text.as_bytes()), Ok(Manifest::Image { .. })), "{text}");
            }
            for layer in [
                "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
                "application/vnd.oci.image.layer.v1.tar+encrypted",
                "text/plain",
            ] {
                assert!(read(manifest(config, layer, "").as_bytes()).unwrap_err().contains(layer));
            }
        }
        let artifact = format!(r#", "artifactType": "{BOX}", "annotations": {{"a": "b"}}"#);
        let Ok(Manifest::Box { annotations, .. }) =
            read(manifest("application/vnd.oci.empty.v1+json", "x/y", &artifact).as_bytes())
        else {
            panic!()
        };
        assert_eq!(annotations["a"], "b");
        assert!(matches!(read(manifest(BOX, "x/y", "").as_bytes()), Ok(Manifest::Box { .. })));
        assert!(
            read(manifest("application/vnd.cncf.helm.config.v1+json", "x/y", "").as_bytes())
                .unwrap_err()
                .contains("helm")
        );
        let index = format!(r#"{{"schemaVersion": 2, "manifests": [{}]}}"#, descriptor("x"));
        assert!(matches!(read(index.as_bytes()), Ok(Manifest::Index(all)) if all.len() == 1));
    }

    #[test]
    fn what_is_two_things_or_none_is_refused() {
        let config = PICTURES[0];
        let layer = "application/vnd.oci.image.layer.v1.tar";
        let both = manifest(config, layer, r#", "manifests": []"#);
        let weak = manifest(config, layer, "")
            .replace(&format!("sha256:{}", "ab".repeat(32)), &format!("md5:{}", "ab".repeat(16)));
        for bad in [
            "",
            "[]",
            "{}",
            r#"{"schemaVersion": 1, "fsLayers": []}"#,
            r#"{"schemaVersion": 2, "layers": []}"#,
            &both,
            &weak,
        ] {
            assert!(read(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn architectures_are_called_as_debian_calls_them() {
        for (go, variant, debian) in [
            ("amd64", None, "amd64"),
            ("386", None, "i386"),
            ("arm", Some("v7"), "armhf"),
            ("arm", Some("v6"), "armel"),
        ] {
            let picture = Picture {
                architecture: go.to_owned(),
                os: "linux".to_owned(),
                variant: variant.map(str::to_owned),
            };
            assert_eq!(debian_architecture(&picture).as_deref(), Some(debian));
        }
        assert_eq!(debian_architecture(&Picture::default()), None);
    }

    proptest! {
        #[test]
        fn never_panics(text in "\\{(\"(schemaVersion|manifests|layers|config|mediaType)\": ?(\\[\\]|\\{\\}|[0-9]{1,3}|\"[a-z:/]{0,9}\"),?){0,5}\\}") {
            crate::oci::fuzzing::oci_manifest(text.as_bytes());
        }
    }
}
