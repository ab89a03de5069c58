//! Boxes: what they are called, where they come from, and the store that keeps each of them once.

pub mod reference;

pub use reference::{BoxRef, InvalidRef, Version, VersionReq};
