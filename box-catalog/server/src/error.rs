//! What can go wrong before a request is answered: with the storage, and with starting. What a request is refused
//! with is [`crate::refusal::Refusal`].

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use posada_provider_api::{Fault, FaultKind};

use crate::names::InvalidName;

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// A location that is none.
    #[error("`{location}` is no place for a repository: {why}")]
    Location {
        /// What was given.
        location: String,
        /// What is wrong with it.
        why: String,
    },
    /// The storage refused or broke.
    #[error("cannot {what} in the repository")]
    Storage {
        /// What was being done: `read boxes/team/web/box.json`.
        what: String,
        /// What came of it.
        source: object_store::Error,
    },
    /// The storage has no room.
    #[error("there is no room left in the repository's storage")]
    Full,
    /// A file of the repository cannot be used.
    #[error("cannot {what} `{path}`", path = path.display())]
    Io {
        /// What was being done.
        what: &'static str,
        /// To which.
        path: PathBuf,
        /// What came of it.
        source: io::Error,
    },
    /// What lies there was not written by a server.
    #[error("`{object}` in the repository is damaged: {why}")]
    Damaged {
        /// Which object.
        object: String,
        /// What is wrong with it.
        why: String,
    },
    /// Written by a newer server.
    #[error("the repository is of a newer kind ({found}) than this posada knows")]
    Newer {
        /// Its format's number.
        found: u32,
    },
    /// So many write to one object that none of our writes came through.
    #[error("`{0}` in the repository changes faster than it can be written")]
    Contended(String),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The certificate or its key cannot be used.
    #[error("cannot use `{path}` for TLS: {why}", path = path.display())]
    Tls {
        /// Which of the files.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Another catalog cannot be mirrored.
    #[error("cannot mirror `{url}`: {why}")]
    Mirror {
        /// Which.
        url: String,
        /// What is wrong.
        why: String,
        /// What can be done.
        hint: Option<String>,
    },
    /// A name that is none.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// A token of that name is there.
    #[error("there is a token `{0}` already")]
    TokenTaken(String),
    /// No token of that name.
    #[error("there is no token `{0}`")]
    NoToken(String),
}

impl ServerError {
    pub(crate) fn io(what: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        if is_full(&source) { Self::Full } else { Self::Io { what, path: path.into(), source } }
    }

    pub(crate) fn storage(what: impl Into<String>, source: object_store::Error) -> Self {
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&source);
        while let Some(error) = cause {
            if error.downcast_ref::<io::Error>().is_some_and(is_full) {
                return Self::Full;
            }
            cause = error.source();
        }
        Self::Storage { what: what.into(), source }
    }

    pub(crate) fn damaged(object: impl ToString, why: impl ToString) -> Self {
        Self::Damaged { object: object.to_string(), why: why.to_string() }
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

impl Fault for ServerError {
    fn kind(&self) -> FaultKind {
        match self {
            Self::Location { .. } | Self::Name(_) | Self::TokenTaken(_) | Self::NoToken(_) => FaultKind::User,
            Self::Storage { .. }
            | Self::Full
            | Self::Io { .. }
            | Self::Newer { .. }
            | Self::Contended(_)
            | Self::Listen { .. }
            | Self::Mirror { .. }
            | Self::Tls { .. } => FaultKind::Environment,
            Self::Damaged { .. } => FaultKind::Box,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Location { .. } => "give a directory, or a URL such as `s3://bucket/prefix`",
            Self::Full => "make room, or let older versions go: `--keep`, `--keep-days`",
            Self::Damaged { .. } => "put the object back from a backup, or remove it and push again",
            Self::Newer { .. } => "use the posada that made it, or a newer one",
            Self::Contended(_) => "try again",
            Self::Listen { source, .. } if source.kind() == io::ErrorKind::AddrInUse => {
                "something listens there already; `--listen 127.0.0.1:0` takes any port that is free"
            }
            Self::Listen { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                "ports below 1024 are root's; choose one above"
            }
            Self::Mirror { hint, .. } => return hint.clone(),
            Self::Tls { .. } => "give PEM files: the certificate with its chain, and its private key",
            Self::TokenTaken(_) => "choose another name, or revoke that one first",
            Self::NoToken(_) => "`posada box token list` shows those there are",
            _ => return None,
        };
        Some(hint.to_owned())
    }
}
