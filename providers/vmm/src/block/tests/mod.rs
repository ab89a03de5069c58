//! Images against a model in memory, with QEMU's tools (package qemu-utils) as the judge of what is on disk.

mod crash;
mod full;
mod model;
mod refused;
mod support;
