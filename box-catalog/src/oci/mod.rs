//! OCI registries, and the images of containers and the boxes in them.
//! Formats and protocol: OCI distribution and image specifications 1.1; Docker's token authentication.

mod auth;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod helper;
mod manifest;
mod reference;
mod registry;

pub use auth::LoginPlaces;
pub(crate) use manifest::{
    BOX, Descriptor, MANIFEST, Manifest, Picture, annotation, debian_architecture, read,
};
pub use reference::{ImageRef, InvalidImageRef};
pub(crate) use registry::{Access, Registry};
