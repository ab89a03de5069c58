//! Boxes: what they are called, how they are built, and the store that keeps each of them once.
//!
//! Calls that take long are blocking: an async caller wraps them in a blocking task. They tell what they do
//! through [`Progress`] and are ended early through [`Cancel`].

mod bucket;
pub mod build;
mod cancel;
mod delta;
mod digest;
mod disk;
mod error;
mod export;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod kernel;
mod metadata;
mod oci;
mod pack;
mod progress;
mod push;
pub mod reference;
pub mod source;
pub mod store;
pub mod trust;
mod unpack;
mod worker;

pub use cancel::Cancel;
pub use digest::Digest;
pub use error::BoxError;
pub use export::Export;
pub use kernel::KernelUnpacker;
pub use metadata::{BoxMetadata, Form, Os, host_architecture};
pub use oci::{ImageRef, InvalidImageRef, LoginPlaces};
pub use pack::{Package, SEAL, cleaning_script};
pub use posada_image::Format as ImageFormat;
pub use progress::{Progress, Quiet};
pub use push::{Fate, Place, Published, Pushed, decide, push_file};
pub use reference::{BoxRef, BucketRef, InvalidRef, StreamRef, UrlRef, Version, VersionReq};
pub use source::{FetchOptions, Remotes};
pub use store::{BoxDamage, BoxFsck, BoxGc, NewBox, Removed, Store, StoredBox, StoredDisk, Which};
pub use trust::Trust;
pub use unpack::Refusal;
pub use worker::{WORKER, worker_entry};
