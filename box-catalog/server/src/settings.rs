//! How a server is to behave.

use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use crate::{MirrorSettings, Retention};

/// How a server is to behave.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The URL by which clients reach it, where that is not what they ask for: behind a proxy.
    pub public_url: Option<Url>,
    /// Whether those without a token may fetch all boxes.
    pub anonymous_read: bool,
    /// Which versions stay.
    pub retention: Retention,
    /// What is younger is not removed, though nothing may name it: it may be part of a push that is under way.
    pub grace: Duration,
    /// What clients may do to it.
    pub limits: Limits,
    /// PEM files for TLS; without them it speaks plain HTTP.
    pub tls: Option<TlsFiles>,
    /// The catalog whose boxes it has besides its own.
    pub mirror: Option<MirrorSettings>,
}

/// Where certificate and key lie.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// The certificate, and the chain to its authority.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// What clients may do to a server.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections at once; further ones wait.
    pub connections: usize,
    /// Bytes of a file that is pushed as a whole.
    pub file: u64,
    /// How long a request's head, and a TLS handshake, may take.
    pub head: Duration,
    /// How long nothing may come of a request's body, and nothing be taken of a response.
    pub stall: Duration,
    /// How long transfers may go on after the server was told to stop.
    pub farewell: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1024,
            file: 1 << 40,
            head: Duration::from_secs(15),
            stall: Duration::from_secs(60),
            farewell: Duration::from_secs(30),
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            public_url: None,
            anonymous_read: true,
            retention: Retention::default(),
            grace: Duration::from_secs(24 * 60 * 60),
            limits: Limits::default(),
            tls: None,
            mirror: None,
        }
    }
}
