//! What registries say.

use super::auth::{Challenge, granted, kept_logins};
use super::{Manifest, read};

/// A manifest, an index, the configuration of an image: what it points at is told by a digest that can be relied on.
pub fn oci_manifest(bytes: &[u8]) {
    let Ok(manifest) = read(bytes) else { return };
    let descriptors = match manifest {
        Manifest::Index(all) => all,
        Manifest::Image { config, layers } => std::iter::once(config).chain(layers).collect(),
        Manifest::Box { file, .. } => vec![file],
    };
    for descriptor in descriptors {
        let text = serde_json::to_vec(&descriptor).expect("what was read can be written");
        assert_eq!(serde_json::from_slice(&text).ok(), Some(descriptor.clone()));
        if let Some(picture) = &descriptor.platform {
            let _ = super::debian_architecture(picture);
        }
    }
}

/// What a registry asks for, the token that it answers with, and the file in which logins are kept.
pub fn oci_login(bytes: &[u8]) {
    if let Some(Challenge::Bearer { realm, service, scope }) =
        Challenge::parse(&String::from_utf8_lossy(bytes))
    {
        let url = Challenge::token_url(&realm, service.as_deref(), scope.as_deref().unwrap_or_default());
        assert_eq!((url.scheme(), url.host()), (realm.scheme(), realm.host()));
    }
    let _ = granted(bytes);
    kept_logins(bytes);
}
