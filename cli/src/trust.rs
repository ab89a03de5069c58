//! Whom the user trusts with which boxes: `trust.json` in Posada's home.

use std::path::Path;

use posada_box_catalog::Trust;
use posada_box_catalog::trust::SigningKey;

use crate::context::env;
use crate::failure::{CliError, Result};
use crate::kept;

/// Where it is kept, and what it is in words.
const FILE: &str = "trust.json";
const WHAT: &str = "whom you trust";
/// Has all boxes that are fetched be signed, whatever is kept.
const REQUIRE: &str = "POSADA_REQUIRE_SIGNED";
/// Opens a key that signs.
const PASSWORD: &str = "POSADA_SIGNING_PASSWORD";

/// What was kept, and what the environment says.
///
/// # Errors
/// [`CliError::Host`] where it cannot be read: it then must not count for nothing.
pub fn load(home: &Path) -> Result<Trust> {
    let mut trust = kept(home)?;
    trust.require_signed |= env(REQUIRE).is_some_and(|text| !matches!(text.as_str(), "" | "0" | "false"));
    Ok(trust)
}

/// What was kept.
///
/// # Errors
/// Those of [`load`].
pub fn kept(home: &Path) -> Result<Trust> {
    kept::load(&home.join(FILE), WHAT, "remove it, and give the keys again with `posada box trust add`")
}

/// Keeps it.
///
/// # Errors
/// [`CliError::Host`].
pub fn save(home: &Path, trust: &Trust) -> Result<()> {
    kept::save(home, FILE, WHAT, trust)
}

/// The key in `path`, opened by the password that the environment has, or that is asked for where `can_ask`.
///
/// # Errors
/// [`CliError`] where it cannot be read or there is no password; those of [`SigningKey::open`].
pub fn signing_key(path: &Path, can_ask: bool) -> Result<SigningKey> {
    let text = fs_err::read_to_string(path).map_err(|error| CliError::host("cannot read the key", error))?;
    if !SigningKey::is_encrypted(&text)? {
        return Ok(SigningKey::open(&text, None)?);
    }
    Ok(SigningKey::open(&text, Some(password(can_ask, false)?))?)
}

/// A password for a key.
///
/// # Errors
/// [`CliError::NoTerminal`] where it can be had from nowhere.
pub fn password(can_ask: bool, new: bool) -> Result<String> {
    if let Some(given) = env(PASSWORD).filter(|given| !given.is_empty()) {
        return Ok(given);
    }
    if !can_ask {
        let hint = format!("set {PASSWORD}, or make a key without one by `--no-password`");
        return Err(CliError::NoTerminal { question: "the key's password".to_owned(), hint }.into());
    }
    let mut asked = dialoguer::Password::new().with_prompt("Password of the key");
    if new {
        asked = asked.with_confirmation("Once more", "they differ");
    }
    let asked = asked.interact();
    Ok(asked
        .map_err(|dialoguer::Error::IO(error)| CliError::host("the password cannot be asked for", error))?)
}
