//! What supervisor and keeper say to each other; one message a packet, descriptors beside it.

use std::path::PathBuf;

use posada_provider_api::{MachineSpec, Protocol};
use serde::{Deserialize, Serialize};

use crate::failure::Failure;

/// From the supervisor.
#[derive(Debug, Serialize, Deserialize)]
pub enum Order {
    /// The first message, and only that.
    Launch(Box<Launch>),
    /// Make a socket in the machine's network.
    Socket {
        /// What the answer is to name.
        ticket: u64,
        /// Its kind.
        protocol: Protocol,
    },
    /// Ask the init to shut the machine down.
    Stop,
    /// End the machine at once.
    Kill,
}

/// What is to be launched.
#[derive(Debug, Serialize, Deserialize)]
pub struct Launch {
    /// Our own binary, for helpers.
    pub exe: PathBuf,
    /// The machine's directory.
    pub dir: PathBuf,
    /// The machine.
    pub spec: MachineSpec,
}

/// From the keeper.
#[derive(Debug, Serialize, Deserialize)]
pub enum Report {
    /// What is being done.
    Phase(String),
    /// The init runs; comes with the console, `/run`, the tap where `way_out` says so, and a tap for each
    /// private network in the spec's order.
    Launched {
        /// Its process id on the host.
        init_pid: i32,
        /// Whether there is a tap to the management network.
        way_out: bool,
        /// What could not be done as asked.
        warnings: Vec<String>,
    },
    /// It did not work.
    Failed(Failure),
    /// The answer to [`Order::Socket`]; comes with the socket.
    Socket {
        /// Which order it answers.
        ticket: u64,
        /// An error is the kernel's number.
        made: Result<(), i32>,
    },
    /// The machine has ended; nothing comes after.
    Ended(Ended),
}

/// How a machine has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ended {
    /// Its init shut it down.
    Halted,
    /// Its init wants it started again.
    Rebooted,
    /// It did not end by itself; why.
    Died(String),
}
