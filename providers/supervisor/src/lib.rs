//! What the supervisor of a machine does whatever the backend: it owns the machine's `alive` lock, answers on
//! the control socket, keeps the console, and tells clients what happens.
//!
//! ```text
//!   posada up ──spawn──► supervisor ──owns──► the machine (container init, or the monitor's vCPUs)
//!        └───control.sock───┘
//! ```
//! A supervisor is a re-executed copy of our own binary. It is handed the locked `alive` file and the listening
//! control socket by whoever starts it, so there is no moment in which a second one could start or in which a
//! client finds no socket. It ends when the machine ends.

pub mod client;
pub mod console;
pub mod fdpass;
pub mod forwarding;
pub mod liveness;
pub mod machine;
pub mod owner;
pub mod protocol;
pub mod remote;
pub mod server;
pub mod spawn;

pub use client::Client;
pub use console::ConsoleHub;
pub use machine::{Guest, Machine};
pub use owner::{Owner, own};
pub use remote::Remote;
