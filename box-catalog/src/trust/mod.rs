//! Who may have made a box: signatures by ed25519, as minisign writes and reads them.
//!
//! A signature is of the file as it is fetched, in minisign's form for files of any size (prehashed). Its trusted comment says
//! which box it was made for, where Posada made it: what was signed as one box does not pass for another, nor an old version for a new one.
//! <https://jedisct1.github.io/minisign/>

mod key;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use minisign::SignatureBox;
use serde::{Deserialize, Serialize};

pub use key::{PublicKey, SigningKey};

use crate::{BoxError, Version};

/// The most bytes of a signature: two comments and two lines of numbers.
pub const MAX_SIGNATURE: u64 = 4096;
/// What begins the trusted comment of a signature of ours.
const OURS: &str = "posada box ";

/// Whom the user trusts with what.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Trust {
    /// Whether boxes of namespaces without a key are refused.
    pub require_signed: bool,
    /// The keys of each namespace; a box of it is signed by one of them.
    pub keys: BTreeMap<String, Vec<PublicKey>>,
}

/// What a signature is of, besides a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim<'a> {
    /// The box: `team/web`.
    pub name: &'a str,
    /// Its version.
    pub version: &'a Version,
    /// For which provider, where that is said.
    pub provider: Option<&'a str>,
    /// For which architecture, where that is said.
    pub architecture: Option<&'a str>,
}

impl Claim<'_> {
    /// The trusted comment that says all of it.
    fn comment(&self) -> String {
        let or_none = |text: Option<&str>| text.unwrap_or("-").to_owned();
        let Self { name, version, provider, architecture } = self;
        format!("{OURS}{name} {version} {} {}", or_none(*provider), or_none(*architecture))
    }
}

impl Trust {
    /// Whether a box of this name has to be signed.
    #[must_use]
    pub fn demands(&self, name: &str) -> bool {
        self.require_signed || self.keys.contains_key(namespace(name))
    }

    /// Holds the file at `path` against its `signature`, where one is demanded.
    ///
    /// # Errors
    /// [`BoxError::Signature`], [`BoxError::Io`].
    pub fn check(&self, claim: &Claim<'_>, signature: Option<&str>, path: &Path) -> Result<(), BoxError> {
        if !self.demands(claim.name) {
            return Ok(());
        }
        let refused = |what: String| BoxError::Signature { name: claim.name.to_owned(), what };
        let space = namespace(claim.name);
        let Some(keys) = self.keys.get(space) else {
            return Err(refused(format!("no key is trusted with `{space}`, and boxes have to be signed")));
        };
        let text = signature.ok_or_else(|| refused("it is not signed".to_owned()))?;
        let signature = SignatureBox::from_string(text)
            .map_err(|error| refused(format!("its signature is none: {error}")))?;
        // The other kind is of the file itself, all of which would have to be in memory.
        if !signature.is_prehashed() {
            return Err(refused(
                "its signature is of minisign's old kind; `minisign -S -H` makes the new one".to_owned(),
            ));
        }
        let Some(key) = keys.iter().find(|key| key.id() == signature.keynum()) else {
            return Err(refused(format!("it is signed by another key than those trusted with `{space}`")));
        };
        let file = File::open(path).map_err(|error| BoxError::io("read", path, error))?;
        key.verify(&signature, BufReader::with_capacity(1 << 20, file))
            .map_err(|_| refused("its signature is not of this file".to_owned()))?;
        let comment = signature.trusted_comment().unwrap_or_default();
        if comment.starts_with(OURS) && comment != claim.comment() {
            return Err(refused(format!("it was signed as `{}`", comment.trim_start_matches(OURS))));
        }
        Ok(())
    }
}

/// Signs the file at `path` as the box that `claim` names.
///
/// # Errors
/// [`BoxError::Io`], [`BoxError::Key`].
pub fn sign(key: &SigningKey, claim: &Claim<'_>, path: &Path) -> Result<String, BoxError> {
    let file = File::open(path).map_err(|error| BoxError::io("read", path, error))?;
    key.sign(BufReader::with_capacity(1 << 20, file), &claim.comment())
}

/// What stands before the slash; a name without one is its own.
fn namespace(name: &str) -> &str {
    name.split('/').next().unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim<'a>(name: &'a str, version: &'a Version) -> Claim<'a> {
        Claim { name, version, provider: Some("libvirt"), architecture: Some("amd64") }
    }

    #[test]
    fn what_the_right_key_has_signed_passes_and_nothing_else() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("web.box");
        std::fs::write(&path, "content").unwrap();
        let (one, two) = (Version::parse("1.0").unwrap(), Version::parse("2.0").unwrap());
        let (key, public) = SigningKey::generate().unwrap();
        let (other, other_public) = SigningKey::generate().unwrap();
        let signature = sign(&key, &claim("team/web", &one), &path).unwrap();
        let trust = Trust {
            require_signed: false,
            keys: [("team".to_owned(), vec![other_public.clone(), public])].into(),
        };
        let why = |trust: &Trust, claim: &Claim<'_>, signature: Option<&str>| {
            trust.check(claim, signature, &path).map_err(|error| error.to_string()).err()
        };
        assert_eq!(why(&trust, &claim("team/web", &one), Some(&signature)), None);
        assert_eq!(
            why(&trust, &claim("free/web", &one), None),
            None,
            "nobody is trusted with it, and nobody need be"
        );

        let says = |claim: &Claim<'_>, signature: Option<&str>, what: &str| {
            let why = why(&trust, claim, signature).expect(what);
            assert!(why.contains(what), "{why}");
        };
        says(&claim("team/web", &one), None, "is not signed");
        says(&claim("team/web", &two), Some(&signature), "signed as `team/web 1.0 libvirt amd64`");
        says(&claim("team/db", &one), Some(&signature), "signed as");
        says(&claim("team/web", &one), Some("nonsense"), "is none");
        let strict = Trust { require_signed: true, ..trust.clone() };
        assert!(
            why(&strict, &claim("free/web", &one), None).unwrap().contains("no key is trusted with `free`")
        );

        let by_other = sign(&other, &claim("team/web", &one), &path).unwrap();
        assert_eq!(why(&trust, &claim("team/web", &one), Some(&by_other)), None);
        let only = Trust { require_signed: false, keys: [("team".to_owned(), vec![other_public])].into() };
        assert!(why(&only, &claim("team/web", &one), Some(&signature)).unwrap().contains("another key"));
        std::fs::write(&path, "other content").unwrap();
        says(&claim("team/web", &one), Some(&signature), "not of this file");
    }

    #[test]
    fn any_signature_is_taken_or_refused() {
        use proptest::prelude::*;
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("web.box");
        std::fs::write(&path, "content").unwrap();
        let version = Version::parse("1.0").unwrap();
        let (key, public) = SigningKey::generate().unwrap();
        let good = sign(&key, &claim("team/web", &version), &path).unwrap();
        let trust = Trust { require_signed: false, keys: [("team".to_owned(), vec![public])].into() };
        proptest!(|(at in 0..good.len(), byte in any::<u8>())| {
            let mut bytes = good.clone().into_bytes();
            bytes[at] = byte;
            if let Ok(text) = String::from_utf8(bytes) {
                // The first comment is not signed, and some bits of base64 say nothing.
                let _ = trust.check(&claim("team/web", &version), Some(&text), &path);
            }
        });
    }
}
