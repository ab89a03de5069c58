//! What the end-to-end tests share: a home and a project of their own, the box that all of them run on, pictures
//! of the host before and after, an ordinary user, and a terminal.
//!
//! These tests run the built binary (`POSADA_BIN`) and look at nothing but what a user sees: its output, its exit
//! status, the machines and the host. Helpers panic with all that was printed: a failed test must tell why.

pub mod boxes;
pub mod buckets;
pub mod conformance;
pub mod host;
pub mod net;
pub mod ordinary;
pub mod outcome;
pub mod place;
pub mod sandbox;
pub mod terminal;
pub mod wait;

pub use host::HostSnapshot;
pub use ordinary::Ordinary;
pub use outcome::Outcome;
pub use sandbox::Sandbox;
pub use terminal::Terminal;
