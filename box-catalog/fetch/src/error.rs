//! What can go wrong on the way.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use posada_provider_api::{Fault, FaultKind};

use crate::Checksum;

/// What can go wrong. URLs are shown without what could let somebody in.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// What the client was to be made with cannot be used.
    #[error("cannot use {what}")]
    Settings {
        /// Which of the settings.
        what: String,
        /// What is wrong with it.
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// No connection, or one that broke.
    #[error("cannot fetch `{url}`: {}", in_words(source))]
    Transport {
        /// From where.
        url: String,
        /// What broke.
        source: reqwest::Error,
    },
    /// It ended before all had come.
    #[error("`{url}` broke off after {came} of {total} bytes")]
    BrokeOff {
        /// From where.
        url: String,
        /// What came.
        came: u64,
        /// What was to come.
        total: u64,
    },
    /// Nothing came for too long.
    #[error("nothing came from `{url}` for {} s", after.as_secs())]
    Stalled {
        /// From where.
        url: String,
        /// For how long.
        after: Duration,
    },
    /// The server wants to know who asks, or does not let them.
    #[error("the server of `{url}` refuses it ({status})")]
    Refused {
        /// What was asked for.
        url: String,
        /// 401 or 403.
        status: u16,
        /// Whether a token was sent.
        token: bool,
    },
    /// It is not there.
    #[error("there is nothing at `{url}` ({status})")]
    NotFound {
        /// What was asked for.
        url: String,
        /// 404 or 410.
        status: u16,
    },
    /// Another answer that is none.
    #[error("the server of `{url}` answers {status}")]
    Status {
        /// What was asked for.
        url: String,
        /// What it said.
        status: u16,
        /// When it wants to be asked again.
        again: Option<Duration>,
    },
    /// The server's answer makes no sense.
    #[error("the server of `{url}` {what}")]
    Nonsense {
        /// What was asked for.
        url: String,
        /// What it did.
        what: String,
    },
    /// More than is taken.
    #[error("`{url}` is larger than {limit} bytes")]
    TooLarge {
        /// What was asked for.
        url: String,
        /// What is taken at most.
        limit: u64,
    },
    /// It changes while it is fetched.
    #[error("`{url}` changed again and again while it was fetched")]
    Changes {
        /// What was asked for.
        url: String,
    },
    /// What came is not what was to come.
    #[error("what came from `{url}` is not what was promised: it has {got}, not {wanted}")]
    Mismatch {
        /// From where.
        url: String,
        /// What it was to have.
        wanted: Checksum,
        /// What it has.
        got: Checksum,
    },
    /// There is no room for it.
    #[error("the disk with `{}` is full", .0.display())]
    DiskFull(PathBuf),
    /// The host refused something.
    #[error("cannot {what} `{}`", path.display())]
    Io {
        /// What was being done.
        what: &'static str,
        /// To what.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// It was asked to end early.
    #[error("cancelled")]
    Cancelled,
}

impl FetchError {
    pub(crate) fn io(what: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull(path.into()),
            _ => Self::Io { what, path: path.into(), source },
        }
    }

    /// Whether the same may go well another time.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Self::Transport { source, .. } => {
                !source.is_redirect() && !source.is_builder() && !is_tls(source)
            }
            Self::BrokeOff { .. } | Self::Stalled { .. } => true,
            // RFC 9110, section 15: what the server says of itself, of time, and of haste (RFC 6585).
            Self::Status { status, .. } => matches!(status, 408 | 425 | 429 | 500 | 502 | 503 | 504),
            _ => false,
        }
    }
}

fn is_tls(error: &reqwest::Error) -> bool {
    causes(error).any(|cause| cause.downcast_ref::<rustls::Error>().is_some())
}

fn causes(error: &reqwest::Error) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    std::iter::successors(std::error::Error::source(error), |error| next(*error))
}

fn next<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a (dyn std::error::Error + 'static)> {
    // An I/O error passes over the error that it wraps when it is asked for its source.
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(wrapped) => Some(wrapped),
        None => error.source(),
    }
}

/// The innermost cause, which is what tells most.
fn in_words(error: &reqwest::Error) -> String {
    if error.is_redirect() {
        return "it leads from one place to another without an end, or to one that is not safe".to_owned();
    }
    causes(error).last().map_or_else(|| error.to_string(), ToString::to_string)
}

impl Fault for FetchError {
    fn kind(&self) -> FaultKind {
        match self {
            Self::Cancelled => FaultKind::User,
            Self::NotFound { .. } | Self::Mismatch { .. } | Self::TooLarge { .. } => FaultKind::Box,
            _ => FaultKind::Environment,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Transport { source, .. } if is_tls(source) => {
                "is its authority one of your company's? `--cacert FILE` takes its certificate".to_owned()
            }
            Self::Transport { .. } | Self::BrokeOff { .. } | Self::Stalled { .. } => {
                "what came is kept: the same command goes on from there".to_owned()
            }
            Self::Refused { token: true, .. } => "the token that was sent does not allow it".to_owned(),
            Self::Refused { token: false, .. } => {
                "`posada box login URL` keeps a token for it; POSADA_SERVER_TOKEN gives one for once"
                    .to_owned()
            }
            Self::NotFound { .. } => "is it written correctly?".to_owned(),
            Self::Status { again: Some(after), .. } => {
                format!("it wants to be asked again in {} s", after.as_secs())
            }
            Self::Status { .. } => "try again later; what came is kept".to_owned(),
            Self::Mismatch { .. } => {
                "it was thrown away; if it comes like this again, ask who publishes it".to_owned()
            }
            Self::DiskFull(_) => "make room and run the same command again: what came is kept".to_owned(),
            _ => return None,
        })
    }
}
