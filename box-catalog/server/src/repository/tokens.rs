//! Who may do what. Tokens are kept as digests: who reads the repository's files cannot use them.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256 as Hasher};

use super::Repository;
use crate::ServerError;
use crate::digest::Sha256;
use crate::names::{BoxName, Part};
use crate::storage::Changed;

const PATH: &str = "tokens.json";
/// What tokens begin with, so that they are known where they do not belong.
const PREFIX: &str = "posada_";
/// Stands for all namespaces.
const ALL: &str = "*";

/// For which namespaces something is allowed: each by name, or `*`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Scopes {
    /// Whose boxes may be fetched.
    pub read: Vec<String>,
    /// Into which boxes may be pushed; they may be fetched, too.
    pub push: Vec<String>,
}

/// What is known of a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenInfo {
    /// What it is called.
    pub name: String,
    /// What it allows.
    #[serde(flatten)]
    pub scopes: Scopes,
    /// When it was made.
    pub created: DateTime<Utc>,
    sha256: Sha256,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Tokens {
    tokens: Vec<TokenInfo>,
}

/// What is to be done with a box.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Fetching.
    Read,
    /// Pushing, releasing, yanking.
    Push,
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Identity {
    /// The token's name; `None` for who has none.
    pub name: Option<String>,
    /// What is allowed.
    #[serde(flatten)]
    pub scopes: Scopes,
}

impl Scopes {
    /// Checks that they name namespaces.
    ///
    /// # Errors
    /// [`ServerError::Name`].
    pub fn check(&self) -> Result<(), ServerError> {
        for namespace in self.read.iter().chain(&self.push).filter(|namespace| *namespace != ALL) {
            BoxName::new(namespace, "x")?;
        }
        Ok(())
    }
}

impl Identity {
    /// Somebody without a token, who may fetch everything or nothing.
    #[must_use]
    pub fn anonymous(may_read: bool) -> Self {
        let read = if may_read { vec![ALL.to_owned()] } else { Vec::new() };
        Self { name: None, scopes: Scopes { read, push: Vec::new() } }
    }

    /// Whether that may be done with the boxes of `namespace`.
    #[must_use]
    pub fn may(&self, access: Access, namespace: &str) -> bool {
        let allows = |list: &[String]| list.iter().any(|there| there == ALL || there == namespace);
        allows(&self.scopes.push) || access == Access::Read && allows(&self.scopes.read)
    }

    /// Whether that may be done with any box.
    #[must_use]
    pub fn may_somewhere(&self, access: Access) -> bool {
        !self.scopes.push.is_empty() || access == Access::Read && !self.scopes.read.is_empty()
    }
}

impl Repository {
    /// Makes a token, and tells it: it is not kept.
    ///
    /// # Errors
    /// [`ServerError::TokenTaken`], [`ServerError::Name`], those of the storage.
    pub async fn create_token(&self, name: &str, scopes: Scopes) -> Result<String, ServerError> {
        Part::parse(name)?;
        scopes.check()?;
        let secret = new_secret()?;
        let info =
            TokenInfo { name: name.to_owned(), scopes, created: Utc::now(), sha256: secret_digest(&secret) };
        self.storage()
            .change(PATH, |before: Option<Tokens>| {
                let mut tokens = before.unwrap_or_default();
                if tokens.tokens.iter().any(|there| there.name == name) {
                    return Err(ServerError::TokenTaken(name.to_owned()));
                }
                tokens.tokens.push(info.clone());
                Ok(Changed::To(tokens, ()))
            })
            .await?;
        Ok(secret)
    }

    /// Makes a token worthless, from the next request on.
    ///
    /// # Errors
    /// [`ServerError::NoToken`], those of the storage.
    pub async fn revoke_token(&self, name: &str) -> Result<(), ServerError> {
        self.storage()
            .change(PATH, |before: Option<Tokens>| {
                let mut tokens = before.unwrap_or_default();
                let count = tokens.tokens.len();
                tokens.tokens.retain(|there| there.name != name);
                if tokens.tokens.len() == count {
                    return Err(ServerError::NoToken(name.to_owned()));
                }
                Ok(Changed::To(tokens, ()))
            })
            .await
    }

    /// The tokens there are, in the order they were made.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn tokens(&self) -> Result<Vec<TokenInfo>, ServerError> {
        Ok(self.storage().document::<Tokens>(PATH).await?.unwrap_or_default().tokens)
    }

    /// Whose token that is.
    pub(crate) async fn identify(&self, secret: &str) -> Result<Option<Identity>, ServerError> {
        // Compared as digests: how long it takes tells nothing of a token.
        let sha256 = secret_digest(secret);
        let found = self.tokens().await?.into_iter().find(|token| token.sha256 == sha256);
        Ok(found.map(|token| Identity { name: Some(token.name), scopes: token.scopes }))
    }
}

/// By which a token is known.
#[must_use]
pub fn secret_digest(secret: &str) -> Sha256 {
    Sha256(Hasher::digest(secret.as_bytes()).into())
}

/// 256 random bits: no list and no guessing leads to them, so that a plain digest hides them well.
fn new_secret() -> Result<String, ServerError> {
    let mut bytes = [0; 32];
    let mut filled = 0;
    while filled < bytes.len() {
        filled += rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty())
            .map_err(|error| ServerError::io("read", "/dev/urandom", error.into()))?;
    }
    Ok(format!("{PREFIX}{}", Sha256(bytes)))
}
