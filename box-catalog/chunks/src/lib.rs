//! Content-addressed chunks: large contents cut where their bytes say so, each piece kept once.
//!
//! A [`Cutter`] divides a content into holes and chunks; the same content is always divided in the same way, and a
//! change in it changes the chunks near it only. A [`Manifest`] lists them, and is what a content is made again from.
//! A [`ChunkStore`] keeps each chunk once in a directory, compressed, under its BLAKE3 digest.
//!
//! The cuts are FastCDC's (Xia and others, 2020, “The Design of Fast Content-Defined Chunking for Data Deduplication
//! Based Storage Systems”) with normalized chunk sizes.

mod cutter;
mod digest;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod manifest;
mod sparse;
mod store;

pub use cutter::{Cutter, HOLE, MAX_CHUNK, Piece, zeros};
pub use digest::Digest;
pub use error::Error;
pub use manifest::{Entry, Manifest, ManifestError};
pub use sparse::{Found, feed_file};
pub use store::{Adder, ChunkStore, Collected, Damage, Feed, Fsck, Kept};
