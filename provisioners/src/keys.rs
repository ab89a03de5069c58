//! The keys of one machine: one to log in with, one by which the machine proves that it is itself. Both are
//! made on the host before the first boot, and used for no other machine.

use std::fmt;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use posada_provider_api::{Fault, FaultKind};
use ssh_key::rand_core::OsRng;
use ssh_key::{Algorithm, LineEnding, PrivateKey, PublicKey};
use zeroize::Zeroizing;

use crate::write;

/// File of the private login key.
pub const LOGIN_KEY: &str = "id_ed25519";
/// File of the machine's private host key.
pub const HOST_KEY: &str = "host_ed25519";
/// File by which the system's ssh knows the machine.
pub const KNOWN_HOSTS: &str = "known_hosts";

/// An ed25519 key pair in OpenSSH's forms.
#[derive(Clone)]
pub struct KeyPair {
    /// The private key, PEM.
    pub private_pem: Zeroizing<String>,
    /// The public key, one line without its line end: `ssh-ed25519 AAAA… comment`.
    pub public_line: String,
}

impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyPair").field("public_line", &self.public_line).finish_non_exhaustive()
    }
}

/// The two key pairs of a machine.
#[derive(Debug, Clone)]
pub struct MachineKeys {
    /// Logs in.
    pub login: KeyPair,
    /// Proves that the machine is itself.
    pub host: KeyPair,
}

/// Why a machine's keys cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// A key cannot be made.
    #[error("an SSH key cannot be made")]
    Make(#[source] ssh_key::Error),
    /// A file of the keys cannot be read or written.
    #[error("the machine's SSH keys in `{}` cannot be kept", .dir.display())]
    Io {
        /// Their directory.
        dir: PathBuf,
        /// Why; names the file.
        source: io::Error,
    },
}

impl Fault for KeyError {
    fn kind(&self) -> FaultKind {
        match self {
            Self::Make(_) => FaultKind::Internal,
            Self::Io { .. } => FaultKind::Environment,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Make(_) => None,
            Self::Io { .. } => {
                Some("check the rights of that directory, and the space on its disk".to_owned())
            }
        }
    }
}

impl KeyPair {
    /// Makes a new pair.
    ///
    /// # Errors
    /// [`KeyError::Make`] where the comment holds a line end or the library fails.
    pub fn generate(comment: &str) -> Result<Self, KeyError> {
        let mut key = PrivateKey::random(&mut OsRng, Algorithm::Ed25519).map_err(KeyError::Make)?;
        if comment.contains(['\n', '\r', '\0']) {
            return Err(KeyError::Make(ssh_key::Error::FormatEncoding));
        }
        key.set_comment(comment);
        Self::from_key(&key).map_err(KeyError::Make)
    }

    fn from_key(key: &PrivateKey) -> Result<Self, ssh_key::Error> {
        Ok(Self { private_pem: key.to_openssh(LineEnding::LF)?, public_line: key.public_key().to_openssh()? })
    }

    /// Reads a pair from its private half; `None` where that is no whole, unencrypted ed25519 key.
    fn parse(pem: &str) -> Option<Self> {
        let key = PrivateKey::from_openssh(pem).ok()?;
        if key.is_encrypted() || key.algorithm() != Algorithm::Ed25519 {
            return None;
        }
        // The text stays as it is: what others wrote is not rewritten by reading it.
        Some(Self {
            private_pem: Zeroizing::new(pem.to_owned()),
            public_line: key.public_key().to_openssh().ok()?,
        })
    }
}

/// Reads the keys in `dir`, and makes what is missing: the directory (0700), `id_ed25519` and `host_ed25519`
/// (0600) with their `.pub`, and `known_hosts` with the host key for every address, as the machine's address
/// and port change and its key does not.
///
/// Whole keys are never overwritten. What a crash has left, a private key that cannot be read, is made anew;
/// files that follow from a private key are brought in line with it.
///
/// # Errors
/// [`KeyError`]. The caller holds the machine's lock.
pub fn load_or_create(dir: &Path) -> Result<MachineKeys, KeyError> {
    let io = |source| KeyError::Io { dir: dir.to_owned(), source };
    if !dir.is_dir() {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(io)?;
    }
    let login = pair(dir, LOGIN_KEY, "posada")?;
    let host = pair(dir, HOST_KEY, "posada-host")?;
    let public = PublicKey::from_openssh(&host.public_line).map_err(KeyError::Make)?;
    let mut bare = PublicKey::from(public.key_data().clone());
    bare.set_comment("");
    let line = bare.to_openssh().map_err(KeyError::Make)?;
    keep(&dir.join(KNOWN_HOSTS), &format!("* {}\n", line.trim_end()), 0o644).map_err(io)?;
    Ok(MachineKeys { login, host })
}

fn pair(dir: &Path, name: &str, comment: &str) -> Result<KeyPair, KeyError> {
    let io = |source| KeyError::Io { dir: dir.to_owned(), source };
    let path = dir.join(name);
    let old = match fs_err::read(&path) {
        Ok(bytes) => std::str::from_utf8(&bytes).ok().and_then(KeyPair::parse),
        Err(e) if e.kind() == io::ErrorKind::NotFound => None,
        Err(e) => return Err(io(e)),
    };
    let pair = match old {
        Some(pair) => {
            // The system's ssh refuses a key that others may read.
            if fs_err::metadata(&path).map_err(io)?.permissions().mode() & 0o077 != 0 {
                fs_err::set_permissions(&path, PermissionsExt::from_mode(0o600)).map_err(io)?;
            }
            pair
        }
        None => {
            let pair = KeyPair::generate(comment)?;
            write::whole(&path, pair.private_pem.as_bytes(), 0o600).map_err(io)?;
            pair
        }
    };
    keep(&dir.join(format!("{name}.pub")), &format!("{}\n", pair.public_line), 0o644).map_err(io)?;
    Ok(pair)
}

/// Writes a file whose content follows from another, unless it says just that already.
fn keep(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    match fs_err::read(path) {
        Ok(bytes) if bytes == text.as_bytes() => return Ok(()),
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    write::whole(path, text.as_bytes(), mode)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::Command;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn keys_are_made_once_and_openssh_reads_them() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("ssh");
        let first = load_or_create(&dir).unwrap();
        assert_eq!(mode(&dir), 0o700);
        for name in [LOGIN_KEY, HOST_KEY] {
            let path = dir.join(name);
            assert_eq!(mode(&path), 0o600);
            let out = Command::new("ssh-keygen").arg("-y").arg("-f").arg(&path).output().unwrap();
            assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
            let public = fs::read_to_string(dir.join(format!("{name}.pub"))).unwrap();
            assert_eq!(String::from_utf8(out.stdout).unwrap().trim(), public.trim());
        }
        assert_ne!(first.login.public_line, first.host.public_line);
        let again = load_or_create(&dir).unwrap();
        assert_eq!(again.login.private_pem, first.login.private_pem);
        assert_eq!(again.host.public_line, first.host.public_line);
        assert!(!format!("{first:?}").contains("PRIVATE"));
    }

    #[test]
    fn known_hosts_names_the_key_for_every_address() {
        let dir = tempfile::tempdir().unwrap();
        let keys = load_or_create(dir.path()).unwrap();
        for host in ["127.0.0.1", "[127.0.0.1]:2222", "[::1]:22022", "web"] {
            let known = dir.path().join(KNOWN_HOSTS);
            let out = Command::new("ssh-keygen").args(["-F", host, "-f"]).arg(known).output().unwrap();
            let text = String::from_utf8(out.stdout).unwrap();
            let blob = keys.host.public_line.split(' ').nth(1).unwrap();
            assert!(out.status.success() && text.contains(blob), "{host}: {text}");
        }
    }

    #[test]
    fn what_a_crash_leaves_is_healed_at_every_byte() {
        let dir = tempfile::tempdir().unwrap();
        let first = load_or_create(dir.path()).unwrap();
        let path = dir.path().join(LOGIN_KEY);
        let whole = fs::read(&path).unwrap();
        for cut in 0..whole.len() - 1 {
            fs::write(&path, &whole[..cut]).unwrap();
            fs::write(dir.path().join("id_ed25519.partial"), b"junk").unwrap();
            let healed = load_or_create(dir.path()).unwrap();
            let text = fs::read_to_string(&path).unwrap();
            assert_eq!(*healed.login.private_pem, text, "cut at {cut}");
            assert!(KeyPair::parse(&text).is_some(), "cut at {cut}");
            let public = fs::read_to_string(dir.path().join("id_ed25519.pub")).unwrap();
            assert_eq!(public.trim(), healed.login.public_line, "cut at {cut}");
            assert_eq!(healed.host.public_line, first.host.public_line);
        }
    }

    #[test]
    fn what_follows_from_the_private_key_is_brought_in_line() {
        let dir = tempfile::tempdir().unwrap();
        let first = load_or_create(dir.path()).unwrap();
        fs::write(dir.path().join("host_ed25519.pub"), "ssh-ed25519 AAAA").unwrap();
        fs::remove_file(dir.path().join(KNOWN_HOSTS)).unwrap();
        fs::set_permissions(dir.path().join(HOST_KEY), PermissionsExt::from_mode(0o644)).unwrap();
        let again = load_or_create(dir.path()).unwrap();
        assert_eq!(again.host.private_pem, first.host.private_pem);
        let public = fs::read_to_string(dir.path().join("host_ed25519.pub")).unwrap();
        assert_eq!(public.trim(), first.host.public_line);
        assert!(dir.path().join(KNOWN_HOSTS).exists());
        assert_eq!(mode(&dir.path().join(HOST_KEY)), 0o600);
    }
}
