//! The control socket's messages, version 1.
//!
//! A connection carries one request, a JSON line, and then replies, a JSON line each, until one that is `done`
//! or `failed`. File descriptors ride on the `done` of the requests that say so (`SCM_RIGHTS`). The supervisor
//! closes the connection after the last reply, but for `stop`: there the end of the connection is the end of the
//! supervisor itself.

use std::io;

use posada_provider_api::{ForwardedPort, MachineState, Protocol, ProviderError, Stopped};
use serde::{Deserialize, Serialize};

/// The version this supervisor and client speak.
pub const VERSION: u32 = 1;

/// A request with the version of who asks.
#[derive(Debug, Serialize, Deserialize)]
pub struct Envelope {
    /// [`VERSION`] of the client.
    pub version: u32,
    /// What is asked.
    #[serde(flatten)]
    pub request: Request,
}

/// What can be asked of a supervisor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Request {
    /// Replies with events until the machine has started.
    Watch,
    /// How the machine is.
    Status,
    /// Stops the machine: asks it, and forces it after `patience_ms`; 0 forces at once.
    Stop {
        /// How long the machine is given, milliseconds.
        patience_ms: u64,
    },
    /// Freezes the machine.
    Suspend,
    /// Lets it go on.
    Resume,
    /// A stream to a port of the machine as soon as something listens there; the stream rides on `done`.
    Connect {
        /// TCP port in the machine.
        port: u16,
        /// How long to wait for it, milliseconds.
        patience_ms: u64,
    },
    /// A stream to the console; it rides on `done`.
    Console,
}

/// What a supervisor replies.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
pub enum Reply {
    /// A new phase has begun.
    Phase {
        /// What is being done.
        text: String,
    },
    /// Something the user should know.
    Warning {
        /// What.
        text: String,
    },
    /// The console printed a line.
    Console {
        /// The line.
        line: String,
    },
    /// The request was carried out.
    Done(Answer),
    /// It was not.
    Failed(Failure),
}

/// What a carried-out request has to say.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Answer {
    /// For `status`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
    /// For `stop`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped: Option<Stopped>,
}

/// How a machine is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Status {
    /// What it is doing; `stopped` while it starts or stops.
    pub state: MachineState,
    /// Process id of the supervisor.
    pub supervisor_pid: u32,
    /// Process id of the machine's init on the host, where there is one.
    pub init_pid: Option<i32>,
    /// The forwards in force.
    pub forwards: Vec<ForwardedPort>,
    /// Host port that leads to the machine's sshd.
    pub ssh_port: Option<u16>,
}

/// Why a request was not carried out: a [`ProviderError`] in a form that travels.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Failure {
    /// [`ProviderError::Unsupported`].
    Unsupported {
        /// Which backend.
        provider: posada_provider_api::ProviderKind,
        /// What was asked.
        what: String,
    },
    /// [`ProviderError::Host`].
    Host {
        /// What happened.
        what: String,
        /// What to do next.
        remedy: String,
    },
    /// [`ProviderError::PortTaken`].
    PortTaken {
        /// Address and port.
        address: std::net::SocketAddr,
        /// TCP or UDP.
        protocol: Protocol,
        /// Who holds it.
        holder: String,
    },
    /// [`ProviderError::Box`].
    Box {
        /// What is wrong.
        what: String,
        /// What to do next.
        remedy: String,
    },
    /// [`ProviderError::Machine`].
    Machine {
        /// What happened.
        what: String,
        /// The console's last lines.
        console: Vec<String>,
    },
    /// [`ProviderError::State`]; the only demand a supervisor makes is `running`.
    NotRunning {
        /// What the machine is.
        is: MachineState,
    },
    /// [`ProviderError::Internal`].
    Internal {
        /// What happened.
        what: String,
    },
}

impl From<ProviderError> for Failure {
    fn from(error: ProviderError) -> Self {
        match error {
            ProviderError::Unsupported { provider, what } => Self::Unsupported { provider, what },
            ProviderError::Host { what, remedy } => Self::Host { what, remedy },
            ProviderError::PortTaken { address, protocol, holder } => {
                Self::PortTaken { address, protocol, holder }
            }
            ProviderError::Box { what, remedy } => Self::Box { what, remedy },
            ProviderError::Machine { what, console } => Self::Machine { what, console },
            ProviderError::State { is, .. } => Self::NotRunning { is },
            ProviderError::Internal { what } => Self::Internal { what },
        }
    }
}

impl From<Failure> for ProviderError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Unsupported { provider, what } => Self::Unsupported { provider, what },
            Failure::Host { what, remedy } => Self::Host { what, remedy },
            Failure::PortTaken { address, protocol, holder } => Self::PortTaken { address, protocol, holder },
            Failure::Box { what, remedy } => Self::Box { what, remedy },
            Failure::Machine { what, console } => Self::Machine { what, console },
            Failure::NotRunning { is } => Self::State { is, must: "running" },
            Failure::Internal { what } => Self::Internal { what },
        }
    }
}

/// One message as the line that carries it.
///
/// # Errors
/// Only where a value has no JSON form, which none of ours lacks.
pub fn to_line<T: Serialize>(message: &T) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_flat_json() {
        let line =
            to_line(&Envelope { version: VERSION, request: Request::Stop { patience_ms: 5 } }).unwrap();
        assert_eq!(String::from_utf8(line).unwrap(), "{\"version\":1,\"op\":\"stop\",\"patience_ms\":5}\n");
        let back: Envelope = serde_json::from_str(r#"{"version":1,"op":"status"}"#).unwrap();
        assert_eq!(back.request, Request::Status);
    }

    #[test]
    fn errors_travel_whole() {
        let sent = ProviderError::PortTaken {
            address: "127.0.0.1:80".parse().unwrap(),
            protocol: Protocol::Tcp,
            holder: "nginx (pid 7)".into(),
        };
        let shown = sent.to_string();
        let line = to_line(&Reply::Failed(sent.into())).unwrap();
        let Reply::Failed(back) = serde_json::from_slice(&line).unwrap() else { panic!("not a failure") };
        assert_eq!(ProviderError::from(back).to_string(), shown);
    }
}
