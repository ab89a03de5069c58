//! The repository server: boxes over HTTP. What it speaks is told in `API.md`, how it keeps what it has in
//! [`Storage`]'s module.
//!
//! The crate knows nothing of Posada's own store of boxes: a box is a file, and a file is chunks. It prints nothing;
//! each request is told to whoever serves.

mod bundle;
mod catalog;
mod digest;
mod document;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod http;
mod mirror;
mod names;
mod pages;
mod range;
mod refusal;
mod repository;
mod settings;
mod storage;

pub use bundle::{InvalidBundle, MAX_CHUNK, Packed, Unbundle, head};
pub use digest::{ChunkDigest, Sha256};
pub use document::{BoxDocument, Dropped, FileEntry, State, VersionDocument};
pub use error::ServerError;
pub use http::{AccessRecord, Handle, Log, Served, Server};
pub use mirror::MirrorSettings;
pub use names::{BoxName, InvalidName, Part, VersionName};
pub use repository::{
    Access, Collected, FileManifest, Identity, InvalidManifest, Repository, Retention, Scopes, TokenInfo,
    secret_digest,
};
pub use settings::{Limits, Settings, TlsFiles};
pub use storage::{Location, Storage};
