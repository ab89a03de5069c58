//! Logging in over SSH: handshake, the pinned host key, the machine's login key.

use std::fmt;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::net::RecvFlags;
use ssh_key::{HashAlg, PublicKey};
use ssh2::{ErrorCode, MethodType};

use super::link::{Link, Patience};
use super::{ExitStatus, Output, Stdin, Transport, TransportError, exec};
use crate::Cancel;

/// Key exchanges in the order of our preference: curve25519 costs the least, and the two last entries are not
/// methods but ask for extension info (RFC 8308) and for strict key exchange (OpenSSH's PROTOCOL, 1.10).
const KEX: &str = "curve25519-sha256,curve25519-sha256@libssh.org,ecdh-sha2-nistp256,ecdh-sha2-nistp384,\
                   ecdh-sha2-nistp521,diffie-hellman-group-exchange-sha256,diffie-hellman-group16-sha512,\
                   diffie-hellman-group14-sha256,ext-info-c,kex-strict-c-v00@openssh.com";
/// Others than ed25519 only so that a stranger's key can be told from a failed handshake.
const HOST_KEYS: &str = "ssh-ed25519,ecdsa-sha2-nistp256,rsa-sha2-512,rsa-sha2-256";
/// AES-GCM first: one pass, and in hardware on what Posada runs on.
const CIPHERS: &str = "aes128-gcm@openssh.com,aes256-gcm@openssh.com,chacha20-poly1305@openssh.com,\
                       aes128-ctr,aes256-ctr";

/// `LIBSSH2_ERROR_AUTHENTICATION_FAILED`, `_PUBLICKEY_UNVERIFIED` of libssh2.h.
const REFUSED: [i32; 2] = [-18, -19];

/// How long a server is asked which logins it accepts, after it refused one.
const ASK_METHODS: Duration = Duration::from_secs(3);

/// Who logs in where, and how both prove who they are.
#[derive(Clone)]
pub struct Login {
    /// The login user.
    pub user: String,
    /// The private key, in OpenSSH's PEM form.
    pub private_key_pem: String,
    /// The pinned host key, in OpenSSH's one-line form.
    pub host_key_public: String,
    /// When handshake and login must be done.
    pub deadline: Instant,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login")
            .field("user", &self.user)
            .field("host_key_public", &self.host_key_public)
            .finish_non_exhaustive()
    }
}

/// A logged-in SSH session.
pub struct Ssh {
    link: Link,
}

impl fmt::Debug for Ssh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ssh").finish_non_exhaustive()
    }
}

impl Ssh {
    /// Shakes hands over `stream`, a connected stream socket (Unix or TCP), checks that the host key is the
    /// pinned one, and only then logs in. `cancel` ends this, and every command run later.
    ///
    /// # Errors
    /// [`TransportError::ClosedBeforeBanner`], [`TransportError::NotSsh`] and [`TransportError::Handshake`]
    /// where there is no proper sshd, [`TransportError::HostKey`] where it is not the machine's,
    /// [`TransportError::AuthRefused`], [`TransportError::TimedOut`], [`TransportError::Interrupted`].
    pub fn connect(stream: OwnedFd, login: &Login, cancel: Cancel) -> Result<Self, TransportError> {
        let pinned = PublicKey::from_openssh(&login.host_key_public)
            .map_err(|source| TransportError::BadKey { what: "pinned host key", source })?;
        let link = Link::new(stream, cancel)?;
        let patience = Patience::until(login.deadline);
        handshake(&link, patience)?;
        check_host_key(&link, &pinned)?;
        authenticate(&link, &login.user, &login.private_key_pem, patience)?;
        Ok(Self { link })
    }

    /// As [`connect`](Self::connect), to a machine whose host key nobody knows yet: whatever key it shows is taken, and
    /// its fingerprint returned (`SHA256:…`). `login.host_key_public` is not looked at.
    ///
    /// # Errors
    /// Those of `connect` but `HostKey`.
    pub fn connect_unpinned(
        stream: OwnedFd,
        login: &Login,
        cancel: Cancel,
    ) -> Result<(Self, String), TransportError> {
        let link = Link::new(stream, cancel)?;
        let patience = Patience::until(login.deadline);
        handshake(&link, patience)?;
        let shown = fingerprint(link.session.host_key().map(|(blob, _)| blob).unwrap_or_default());
        authenticate(&link, &login.user, &login.private_key_pem, patience)?;
        Ok((Self { link }, shown))
    }

    /// The switch that ends what runs over this session.
    #[must_use]
    pub fn cancel(&self) -> Cancel {
        self.link.cancel()
    }
}

impl Transport for Ssh {
    fn run(
        &mut self,
        command: &str,
        stdin: Stdin<'_>,
        output: Output<'_>,
    ) -> Result<ExitStatus, TransportError> {
        exec::run(&self.link, command, stdin, output)
    }

    fn tidy(&mut self, command: &str) -> Result<ExitStatus, TransportError> {
        exec::tidy(&self.link, command)
    }
}

fn handshake(link: &Link, patience: Patience) -> Result<(), TransportError> {
    for (kind, list) in [
        (MethodType::Kex, KEX),
        (MethodType::HostKey, HOST_KEYS),
        (MethodType::CryptCs, CIPHERS),
        (MethodType::CryptSc, CIPHERS),
    ] {
        link.session.method_pref(kind, list).map_err(TransportError::Handshake)?;
    }
    let mut greeting = Greeting::default();
    let done = link.drive("shaking hands", patience, |session| {
        greeting.look(link);
        session.clone().handshake()
    });
    done.map_err(|error| match error {
        TransportError::Lost { .. } | TransportError::Protocol { .. } => greeting.explain(link, error),
        other => other,
    })
}

/// The first bytes the server sent, looked at before libssh2 consumes them.
#[derive(Default)]
struct Greeting(Vec<u8>);

impl Greeting {
    fn look(&mut self, link: &Link) {
        if self.0.is_empty() && link.session.banner_bytes().is_none() {
            let mut first = [0; 255];
            let seen = rustix::net::recv(link.socket(), &mut first, RecvFlags::PEEK | RecvFlags::DONTWAIT);
            // Whatever is wrong with the socket, the handshake that follows tells it.
            if let Ok((_, length)) = seen {
                self.0.extend_from_slice(&first[..length.min(first.len())]);
            }
        }
    }

    /// Makes of a failed handshake what it means.
    fn explain(&self, link: &Link, error: TransportError) -> TransportError {
        // A server may send other lines before its version (RFC 4253, section 4.2); libssh2 keeps the last line
        // it has read, where it came before it could be looked at.
        let last = link.session.banner_bytes().unwrap_or_default();
        if last.starts_with(b"SSH-") || self.0.starts_with(b"SSH-") {
            return match error {
                TransportError::Protocol { source, .. } => TransportError::Handshake(source),
                other => other,
            };
        }
        let said = if self.0.is_empty() { last } else { &self.0 };
        let first = said.split(|b| *b == b'\n').next().unwrap_or_default();
        if first.is_empty() {
            return TransportError::ClosedBeforeBanner;
        }
        let shown = String::from_utf8_lossy(first)
            .trim_end()
            .chars()
            .take(80)
            .map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c })
            .collect();
        TransportError::NotSsh { got: shown }
    }
}

fn check_host_key(link: &Link, pinned: &PublicKey) -> Result<(), TransportError> {
    let expected =
        pinned.to_bytes().map_err(|source| TransportError::BadKey { what: "pinned host key", source })?;
    let shown = link.session.host_key().map(|(blob, _)| blob).unwrap_or_default();
    if shown == expected {
        return Ok(());
    }
    let found = fingerprint(shown);
    Err(TransportError::HostKey { expected: pinned.fingerprint(HashAlg::Sha256).to_string(), found })
}

fn fingerprint(blob: &[u8]) -> String {
    PublicKey::from_bytes(blob)
        .map_or_else(|_| "of an unknown form".to_owned(), |key| key.fingerprint(HashAlg::Sha256).to_string())
}

fn authenticate(link: &Link, user: &str, pem: &str, patience: Patience) -> Result<(), TransportError> {
    let mut refused = false;
    let done = link.drive("logging in", patience, |session| {
        let result = session.userauth_pubkey_memory(user, None, pem, None);
        refused |= result
            .as_ref()
            .is_err_and(|e| matches!(e.code(), ErrorCode::Session(code) if REFUSED.contains(&code)));
        result
    });
    match done {
        Err(_) if refused => {
            Err(TransportError::AuthRefused { user: user.to_owned(), accepts: accepted_methods(link, user) })
        }
        other => other,
    }
}

/// The ways to log in that the server accepts; empty where it does not tell any more.
fn accepted_methods(link: &Link, user: &str) -> Vec<String> {
    link.drive("asking how to log in", Patience::closing(ASK_METHODS), |session| {
        session.auth_methods(user).map(|list| list.split(',').map(str::to_owned).collect())
    })
    .unwrap_or_default()
}
