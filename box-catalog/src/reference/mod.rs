//! Names and versions of boxes.

mod box_ref;
mod bucket_ref;
mod requirement;
mod stream_ref;
mod url_ref;
mod version;

pub use box_ref::BoxRef;
pub use bucket_ref::BucketRef;
pub use requirement::VersionReq;
pub use stream_ref::StreamRef;
pub use url_ref::UrlRef;
pub use version::Version;

/// A text that names no box, or is no version or version requirement.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidRef(pub String);
