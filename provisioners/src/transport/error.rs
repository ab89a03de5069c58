//! What can go wrong between us and a machine.

use std::io;
use std::time::Duration;

use posada_provider_api::{Fault, FaultKind};

/// Why a machine could not be reached, or a command not be run in it.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// The other end closed the stream without a word.
    #[error("the machine closed the connection before it said anything")]
    ClosedBeforeBanner,
    /// The other end speaks, but not SSH.
    #[error("what answers is no SSH server: it said `{got}`")]
    NotSsh {
        /// The first line it sent, made printable and cut.
        got: String,
    },
    /// The two ends could not agree on how to speak.
    #[error("the SSH handshake failed")]
    Handshake(#[source] ssh2::Error),
    /// The other end is not the machine we made.
    #[error("the machine showed the host key {found}, not its own, {expected}")]
    HostKey {
        /// Fingerprint of the pinned key: `SHA256:…`.
        expected: String,
        /// Fingerprint of the key that was shown.
        found: String,
    },
    /// The login was refused.
    #[error("the machine refused the key of user `{user}`{}", methods(.accepts))]
    AuthRefused {
        /// Who wanted to log in.
        user: String,
        /// Which ways to log in the server accepts.
        accepts: Vec<String>,
    },
    /// A key of ours cannot be read.
    #[error("the {what} cannot be used")]
    BadKey {
        /// Which key: `pinned host key`.
        what: &'static str,
        /// Why.
        source: ssh_key::Error,
    },
    /// It took too long.
    #[error("no answer while {during} for {:.1} s", .patience.as_secs_f64())]
    TimedOut {
        /// What was being done: `shaking hands`.
        during: &'static str,
        /// How long was waited.
        patience: Duration,
    },
    /// The connection broke.
    #[error("the connection to the machine broke while {during}")]
    Lost {
        /// What was being done: `running a command`.
        during: &'static str,
    },
    /// It was cancelled from our side.
    #[error("interrupted")]
    Interrupted,
    /// The server refused a request, or broke the protocol.
    #[error("the SSH server failed while {during}")]
    Protocol {
        /// What was being done: `opening a channel`.
        during: &'static str,
        /// What the library says.
        source: ssh2::Error,
    },
    /// A file, pipe or socket of this host failed.
    #[error("{what} failed")]
    Io {
        /// What was done: `reading from the source`.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A file could not be put into its place in the machine.
    #[error("`{path}` cannot be written in the machine: {why}")]
    Upload {
        /// The path in the machine.
        path: String,
        /// What the machine says.
        why: String,
        /// What can be done about it.
        remedy: Option<String>,
    },
}

fn methods(accepts: &[String]) -> String {
    if accepts.is_empty() { String::new() } else { format!(" (it accepts: {})", accepts.join(", ")) }
}

impl Fault for TransportError {
    fn kind(&self) -> FaultKind {
        match self {
            Self::Interrupted => FaultKind::User,
            Self::BadKey { .. } | Self::Io { .. } => FaultKind::Environment,
            _ => FaultKind::Machine,
        }
    }

    fn hint(&self) -> Option<String> {
        let text = match self {
            Self::ClosedBeforeBanner => {
                "its sshd does not listen yet, or died; `posada log` shows what the machine says"
            }
            Self::NotSsh { .. } => {
                "something else answers on the machine's SSH port; check `ssh.port` and what the box starts there"
            }
            Self::Handshake(_) => {
                "the box's sshd must offer ed25519 host keys and curve25519 or ECDH; see its sshd_config"
            }
            Self::HostKey { .. } => {
                "something else answers in the machine's place, or the machine made itself new host keys; nothing \
                 was sent to it. If you trust it no more, `posada destroy` and `posada up` make it anew"
            }
            Self::AuthRefused { .. } => {
                "the user must exist in the box and own ~/.ssh/authorized_keys with the machine's key; check \
                 `ssh.user`, and `posada log` for what sshd says"
            }
            Self::BadKey { .. } => {
                "remove the machine's `ssh` folder and run `posada reload`: it gets new keys"
            }
            Self::TimedOut { .. } | Self::Lost { .. } => {
                "`posada status` tells whether the machine still runs, `posada log` what it says"
            }
            Self::Protocol { .. } => "`posada log` shows what the machine says",
            Self::Upload { remedy, .. } => return remedy.clone(),
            Self::Interrupted | Self::Io { .. } => return None,
        };
        Some(text.to_owned())
    }
}
