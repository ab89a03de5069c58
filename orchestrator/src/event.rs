//! What an operation tells while it runs. The command line draws these, or prints each as one JSON line.

use posada_provider_api::{ForwardedPort, MachineName, MachineState};
use serde::Serialize;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A machine has entered a phase that may take a while; it lasts until that machine's next event of
    /// this kind, or its `done`, `machine` or `failed`.
    Phase {
        /// Which machine.
        machine: MachineName,
        /// A present participle phrase: `starting on the container provider`.
        phase: String,
    },
    /// A phase has ended well.
    Done {
        /// Which machine.
        machine: MachineName,
        /// What is now so: `ssh ready`.
        what: String,
        /// How long it took, milliseconds.
        took_ms: u64,
    },
    /// Bytes of a transfer or an unpacking.
    Progress {
        /// Which machine it is for; `None` for a command that concerns none.
        machine: Option<MachineName>,
        /// What is being moved: `debian/12`.
        subject: String,
        /// Bytes done.
        done: u64,
        /// Bytes in all, where known.
        total: Option<u64>,
    },
    /// Another posada works on the machine; this one waits.
    Waiting {
        /// Which machine.
        machine: MachineName,
        /// Process id of the holder, where it is known.
        pid: Option<u32>,
        /// Its command: `posada up`.
        command: Option<String>,
    },
    /// A provisioning step begins.
    StepStarted {
        /// Which machine.
        machine: MachineName,
        /// Its place among the steps of this run, from 1.
        index: usize,
        /// How many steps this run has.
        total: usize,
        /// Its name.
        step: String,
        /// Why it runs: `new`, `edited`, `always`, `asked`, `resumes`.
        reason: String,
    },
    /// A provisioning step has succeeded.
    StepDone {
        /// Which machine.
        machine: MachineName,
        /// Its name.
        step: String,
        /// How long it took, milliseconds.
        took_ms: u64,
    },
    /// A provisioning step did not need to run.
    StepSkipped {
        /// Which machine.
        machine: MachineName,
        /// Its name.
        step: String,
        /// Why: `done`, `never`.
        reason: String,
    },
    /// A line that a provisioning step printed.
    Output {
        /// Which machine.
        machine: MachineName,
        /// The step's name.
        step: String,
        /// `stdout` or `stderr`.
        stream: &'static str,
        /// The line, without its end.
        line: String,
    },
    /// A line of a machine's console, while it starts.
    Console {
        /// Which machine.
        machine: MachineName,
        /// The line, without its end.
        line: String,
    },
    /// Something the user should know although all goes on.
    Warning {
        /// Which machine, where it concerns one.
        machine: Option<MachineName>,
        /// What.
        message: String,
    },
    /// A machine is ready, or has changed its state.
    Machine {
        /// Which machine.
        machine: MachineName,
        /// What it is now.
        state: MachineState,
        /// How long the whole operation took for it, milliseconds.
        took_ms: u64,
        /// The forwards in force, where it runs.
        forwards: Vec<ForwardedPort>,
        /// The Vmfile's `post_up_message`, after `up`.
        message: Option<String>,
    },
    /// An operation on a machine has failed; the error itself follows when the command ends.
    Failed {
        /// Which machine.
        machine: MachineName,
        /// The error's first line.
        message: String,
    },
}

/// Takes events as they come. Called from many threads.
pub trait EventSink: Send + Sync {
    /// Takes one.
    fn event(&self, event: Event);
}
