//! The server over real connections: with `curl`, Debian's `vagrant` and a browser where these are what will come, else
//! with an HTTP client.

mod browser;
mod bucket;
mod catalog;
mod chunks;
mod hostile;
mod mirror;
mod mirror_weather;
mod stopping;
mod support;
mod tls;
mod tokens;
mod transfer;
mod vagrant;
mod weather;
