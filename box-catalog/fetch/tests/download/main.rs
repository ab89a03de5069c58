//! Downloads from a server that misbehaves, on loopback.

mod process;
mod server;
mod tls;
mod weather;
