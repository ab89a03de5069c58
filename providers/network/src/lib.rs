//! The network of a machine, for every backend: taps and their configuration, user-mode NAT, port forwards and
//! private networks. Nothing in here needs root; what must happen inside a machine's network namespace is kept
//! synchronous, so that a single-threaded process can do it.

mod cable;
pub mod forward;
pub mod holder;
pub mod link;
pub mod nat;
pub mod packet;
pub mod private;
pub mod tap;
mod watch;
