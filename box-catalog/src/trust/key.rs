//! Keys in minisign's forms.

use std::fmt;
use std::io::{Read, Seek};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use minisign::{KeyPair, SecretKey, SecretKeyBox, SignatureBox};
use serde::{Deserialize, Serialize};

use crate::BoxError;

/// A key that signatures are held against; written as minisign writes it, base64.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PublicKey(minisign::PublicKey);

impl PublicKey {
    /// Takes a key as it is shown (`RW…`), or all of the file that it is in.
    ///
    /// # Errors
    /// [`BoxError::Key`].
    pub fn parse(text: &str) -> Result<Self, BoxError> {
        // The file has a comment above the key.
        let line = text.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or_default();
        let key = minisign::PublicKey::from_base64(line);
        key.map(Self).map_err(|error| BoxError::Key(format!("this is no public key of minisign's: {error}")))
    }

    /// The number that tells keys apart; signatures have that of theirs.
    pub(super) fn id(&self) -> &[u8] {
        self.0.keynum()
    }

    pub(super) fn verify(
        &self,
        signature: &SignatureBox,
        data: impl Read + Seek,
    ) -> Result<(), minisign::PError> {
        minisign::verify(&self.0, signature, data, true, false, false)
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0.to_base64())
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

impl From<PublicKey> for String {
    fn from(key: PublicKey) -> Self {
        key.to_string()
    }
}

impl TryFrom<String> for PublicKey {
    type Error = BoxError;

    fn try_from(text: String) -> Result<Self, BoxError> {
        Self::parse(&text)
    }
}

/// A key that signs.
pub struct SigningKey(SecretKey);

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey")
    }
}

impl SigningKey {
    /// Makes a new one, and what its signatures are held against.
    ///
    /// # Errors
    /// [`BoxError::Key`] where the host gives no random numbers.
    pub fn generate() -> Result<(Self, PublicKey), BoxError> {
        let KeyPair { pk, sk } = KeyPair::generate_unencrypted_keypair().map_err(told)?;
        Ok((Self(sk), PublicKey(pk)))
    }

    /// What the file of a new key holds, encrypted with `password` where one is given, and what its signatures are held against.
    ///
    /// # Errors
    /// [`BoxError::Key`].
    pub fn generate_file(password: Option<String>) -> Result<(String, PublicKey), BoxError> {
        let KeyPair { pk, sk } = match password {
            Some(password) => KeyPair::generate_encrypted_keypair(Some(password)),
            None => KeyPair::generate_unencrypted_keypair(),
        }
        .map_err(told)?;
        let file = sk.to_box(Some("posada box signing key")).map_err(told)?.into_string();
        Ok((file, PublicKey(pk)))
    }

    /// Whether a key's file can be read only with a password.
    ///
    /// # Errors
    /// [`BoxError::Key`] where it is none.
    pub fn is_encrypted(file: &str) -> Result<bool, BoxError> {
        Ok(read(file)?.is_encrypted())
    }

    /// Takes a key out of its file.
    ///
    /// # Errors
    /// [`BoxError::Key`].
    pub fn open(file: &str, password: Option<String>) -> Result<Self, BoxError> {
        let key = read(file)?;
        match (key.is_encrypted(), password) {
            (false, _) => Ok(Self(key)),
            (true, Some(password)) => {
                let key = SecretKeyBox::from_string(file).and_then(|key| key.into_secret_key(Some(password)));
                key.map(Self).map_err(told)
            }
            (true, None) => Err(BoxError::Key("it is encrypted".to_owned())),
        }
    }

    pub(super) fn sign(&self, data: impl Read, comment: &str) -> Result<String, BoxError> {
        let signature =
            minisign::sign(None, &self.0, data, Some(comment), Some("signature of a box by posada"));
        signature.map(SignatureBox::into_string).map_err(told)
    }
}

/// What a key's file holds, encrypted or not. The crate's own reader refuses what minisign writes without a password, as that has no
/// checksum.
fn read(file: &str) -> Result<SecretKey, BoxError> {
    let line = file.lines().nth(1).unwrap_or_default().trim();
    let bytes = BASE64_STANDARD.decode(line).map_err(|error| BoxError::Key(error.to_string()))?;
    SecretKey::from_bytes(&bytes).map_err(told)
}

fn told(error: minisign::PError) -> BoxError {
    BoxError::Key(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_back_from_their_files() {
        let (plain, _) = SigningKey::generate_file(None).unwrap();
        assert!(!SigningKey::is_encrypted(&plain).unwrap());
        SigningKey::open(&plain, None).unwrap();
        let (locked, public) = SigningKey::generate_file(Some("hunter2".to_owned())).unwrap();
        assert!(SigningKey::is_encrypted(&locked).unwrap());
        assert!(SigningKey::open(&locked, None).is_err());
        assert!(SigningKey::open(&locked, Some("hunter3".to_owned())).is_err());
        SigningKey::open(&locked, Some("hunter2".to_owned())).unwrap();
        assert!(SigningKey::is_encrypted("untrusted comment: x\nabc").is_err());
        let file = format!("untrusted comment: minisign public key\n{public}\n");
        assert_eq!(PublicKey::parse(&file).unwrap(), public);
        assert!(PublicKey::parse("RWabc").is_err() && PublicKey::parse("").is_err());
    }
}
