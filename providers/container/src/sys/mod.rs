//! The few system calls that our crates do not wrap, and thin names for those that they do.

pub mod clone;
pub mod message;
pub mod mount;
pub mod userns;
