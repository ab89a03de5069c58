//! Why host ports could not be had, all of them at once.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use posada_provider_api::{Fault, FaultKind, Forward, Protocol, ProviderError};

use crate::holder::{Holder, holder_of};

/// Ports that could not be bound; never empty.
#[derive(Debug, thiserror::Error)]
pub struct ForwardError(pub Vec<BindFailure>);

/// One port that could not be bound.
#[derive(Debug)]
pub struct BindFailure {
    /// The host's address and port.
    pub address: SocketAddr,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// Why not.
    pub reason: Reason,
}

/// Why a port could not be bound.
#[derive(Debug)]
pub enum Reason {
    /// Something else holds it; `None` where that has gone since.
    Taken(Option<Holder>),
    /// Another forward of the same machine holds it.
    AskedTwice,
    /// Ports this low are not for ordinary users.
    Privileged,
    /// The address is none of this host's.
    NoSuchAddress,
    /// Anything else.
    Other(io::Error),
}

impl BindFailure {
    pub(super) fn new(forward: &Forward, ours: bool, source: io::Error) -> Self {
        let address = SocketAddr::new(forward.host_ip, forward.host);
        let reason = match source.kind() {
            io::ErrorKind::AddrInUse if ours => Reason::AskedTwice,
            io::ErrorKind::AddrInUse => Reason::Taken(holder_of(address, forward.protocol)),
            io::ErrorKind::PermissionDenied => Reason::Privileged,
            io::ErrorKind::AddrNotAvailable => Reason::NoSuchAddress,
            _ => Reason::Other(source),
        };
        Self { address, protocol: forward.protocol, reason }
    }

    fn holder(&self) -> Option<String> {
        match &self.reason {
            Reason::Taken(Some(holder)) => Some(holder.to_string()),
            Reason::Taken(None) => Some("another process (gone by now)".to_owned()),
            Reason::AskedTwice => Some("another forward of this machine".to_owned()),
            _ => None,
        }
    }

    fn remedy(&self) -> String {
        let port = self.address.port();
        match self.reason {
            Reason::Taken(_) | Reason::AskedTwice => {
                "stop what holds the port, choose another `host` port, or set `auto_correct: true`".to_owned()
            }
            Reason::Privileged => format!(
                "choose a `host` port of 1024 or more, or allow it: `sudo sysctl net.ipv4.ip_unprivileged_port_start={port}`"
            ),
            Reason::NoSuchAddress => {
                "use an address that `ip address` shows, 127.0.0.1, or 0.0.0.0 for all of them as `host_ip`"
                    .to_owned()
            }
            Reason::Other(_) => "choose another `host` port or `host_ip`".to_owned(),
        }
    }
}

impl fmt::Display for BindFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, protocol, reason } = self;
        match reason {
            Reason::Taken(_) | Reason::AskedTwice => {
                write!(f, "port {address}/{protocol} is taken by {}", self.holder().unwrap_or_default())
            }
            Reason::Privileged => write!(f, "port {address}/{protocol} is reserved for root"),
            Reason::NoSuchAddress => {
                write!(
                    f,
                    "port {address}/{protocol} cannot be bound: {} is not an address of this host",
                    address.ip()
                )
            }
            Reason::Other(source) => write!(f, "port {address}/{protocol} cannot be bound: {source}"),
        }
    }
}

impl fmt::Display for ForwardError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, failure) in self.0.iter().enumerate() {
            write!(f, "{}{failure}", if index == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}

impl Fault for ForwardError {
    fn kind(&self) -> FaultKind {
        FaultKind::Environment
    }

    fn hint(&self) -> Option<String> {
        let mut remedies: Vec<_> = self.0.iter().map(BindFailure::remedy).collect();
        remedies.dedup();
        Some(remedies.join("; "))
    }
}

impl From<ForwardError> for ProviderError {
    fn from(error: ForwardError) -> Self {
        if let [failure] = &*error.0
            && let Some(holder) = failure.holder()
        {
            return Self::PortTaken { address: failure.address, protocol: failure.protocol, holder };
        }
        Self::Host { what: error.to_string(), remedy: error.hint().unwrap_or_default() }
    }
}
