//! Entries for the fuzz targets in `fuzz/`, which the property tests call too: each takes bytes that nobody has looked at.

use minisign::SignatureBox;

use crate::build::Recipe;
use crate::metadata::{self, Os};
use crate::trust::{PublicKey, SigningKey};
use crate::{BoxRef, Form, Version, VersionReq};

pub use crate::delta::fuzzing::{delta_bundle, delta_manifest};
pub use crate::oci::fuzzing::{oci_login, oci_manifest};
pub use crate::source::fuzzing::{catalog, simplestreams};
pub use crate::unpack::fuzzing::{archive, pax, squashfs, unpack};

/// What names a box: what is accepted is the same again once it was written, and what is shown has no password.
///
/// # Panics
/// Where it is not.
pub fn reference(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let Ok(reference) = BoxRef::parse(text) else { return };
    let written = String::from(reference.clone());
    assert_eq!(BoxRef::parse(&written).as_ref(), Ok(&reference), "{written}");
    if let BoxRef::Url(url) = &reference
        && let Some(password) = url.url().password()
        // A short one is anywhere.
        && password.len() > 20
    {
        let elsewhere = url.url().path().contains(password) || url.url().host_str() == Some(password);
        assert!(elsewhere || !reference.to_string().contains(password));
    }
    let name = crate::source::stored_name(&reference);
    assert!(matches!(BoxRef::parse(&name), Ok(BoxRef::Named(_))), "{name}");
}

/// Versions and what is required of them, with line breaks between: their order is one.
///
/// # Panics
/// Where it is none, or a requirement is not what it says.
pub fn version(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let versions: Vec<Version> = text.lines().take(4).filter_map(|line| Version::parse(line).ok()).collect();
    for version in &versions {
        assert_eq!(Version::parse(version.as_str()).as_ref(), Ok(version));
        for (sign, matches) in
            [("=", true), (">=", true), ("<=", true), ("!=", false), (">", false), ("<", false)]
        {
            let requirement = VersionReq::parse(&format!("{sign}{version}")).expect("a version is one");
            assert_eq!(requirement.matches(version), matches, "{requirement} of {version}");
        }
    }
    for (a, b) in versions.iter().zip(versions.iter().skip(1)) {
        assert_eq!(a.cmp(b), b.cmp(a).reverse());
    }
    if let [a, b, c, ..] = &versions[..]
        && a <= b
        && b <= c
    {
        assert!(a <= c);
    }
    if let Ok(requirement) = VersionReq::parse(text.lines().last().unwrap_or_default()) {
        assert_eq!(VersionReq::parse(requirement.as_str()).as_ref(), Ok(&requirement));
        let _ = versions.iter().filter(|version| requirement.matches(version)).count();
    }
}

/// A recipe: its files lie in the box, its words are no options, and its digest is that of what it says.
///
/// # Panics
/// Where one does not.
pub fn recipe(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let Ok(recipe) = Recipe::parse(text, "mine.yaml") else { return };
    assert_eq!(recipe.digest(), recipe.digest_for(Form::Rootfs));
    assert_ne!(recipe.digest(), recipe.digest_for(Form::Disk));
    for recipe in [recipe.for_disk(), recipe] {
        assert!(matches!(BoxRef::parse(recipe.name()), Ok(BoxRef::Named(_))));
        for file in recipe.files() {
            assert!(file.path.starts_with('/') && !file.path.split('/').any(|part| part == ".."));
        }
        assert!(!recipe.packages().iter().any(|package| package.starts_with('-') || package.contains(',')));
    }
}

/// Texts of minisign's: a signature, a public key, the file of a secret one.
///
/// # Panics
/// Where a key is another one once it was written.
pub fn minisign(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    if let Ok(signature) = SignatureBox::from_string(text) {
        let _ = (signature.is_prehashed(), signature.keynum(), signature.trusted_comment());
    }
    if let Ok(key) = PublicKey::parse(text) {
        assert_eq!(PublicKey::parse(&key.to_string()).ok(), Some(key));
    }
    if SigningKey::is_encrypted(text).is_ok_and(|encrypted| !encrypted) {
        assert!(SigningKey::open(text, None).is_ok());
    }
}

/// What a root file system says of itself: its accounts, its release, its init.
pub fn system(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let _ = metadata::login_user(&metadata::accounts(&text));
    let _ = Os::from_release(&text);
    if let Some(header) = bytes.first_chunk() {
        let _ = metadata::architecture_of_elf(header);
    }
    let _ = serde_json::from_slice::<crate::BoxMetadata>(bytes);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn versions_are_in_one_order(text in "((=|>=|~>|<|!=)? ?[0-9]{1,2}(\\.[0-9a-c]{1,2}){0,3}(-[a0.-]{1,3})?\n){0,5}") {
            super::version(text.as_bytes());
        }

        #[test]
        fn any_recipe_is_taken_or_refused(
            lines in proptest::collection::vec("(name: a/b|suite: x|extends: debian(/12)?|packages: \\[(-?[a-z,]{1,3})?\\]|files: \\[\\{path: /?[a./]{1,4}, (content: x|link: y|mode: '9')\\}\\]|disk:|  commands: \\[x\\]|- \\*a|\\?)", 0..6)
        ) {
            super::recipe(lines.join("\n").as_bytes());
        }

        #[test]
        fn any_text_of_minisigns_is_read_or_not(text in "(untrusted comment: x\n)?(RW[A-Za-z0-9+/=]{0,60}\n){0,2}(trusted comment: x\n)?(RW[A-Za-z0-9+/=]{0,60})?") {
            super::minisign(text.as_bytes());
        }

        #[test]
        fn any_system_is_looked_at(text in "([A-Za-z_:=0-9'\"\\\\ä]{0,20}\n){0,4}") {
            super::system(text.as_bytes());
        }
    }
}
