//! Fetching over HTTP: small documents, and large files that arrive whole whatever happens on the way.
//!
//! A [`Client`] is told everything it may use (proxies, authorities, tokens) and reads nothing of the environment itself, but
//! the system's own proxies and certificates. Calls block; they are ended early through a [`Stop`].

mod checksum;
mod client;
mod download;
mod error;
mod exchange;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod patience;
mod progress;
mod stop;
mod sums;

pub use checksum::{Algorithm, Checksum, InvalidChecksum};
pub use client::{Client, Document, Settings, Token, shown};
pub use download::{Downloaded, Request, Slot};
pub use error::FetchError;
pub use exchange::{Exchange, Reply};
pub use progress::{Progress, Quiet};
pub use reqwest::Method;
pub use stop::Stop;
pub use sums::Sums;
