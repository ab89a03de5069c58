//! Launching: from a machine's description to its running init.

use std::os::fd::OwnedFd;
use std::path::Path;

use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
use posada_provider_api::{MachineDir, MachineSpec};
use posada_userns::{HostKind, IdMap};
use rustix::process::WaitIdStatus;

use super::birth::{Newborn, Parents};
use super::network::{self, Cables, Namespaces};
use crate::boot::{Go, Halt, Word};
use crate::cgroup::{Group, Host, Limits, Plan};
use crate::failure::{During, Failure};
use crate::runtime::{self, Record};
use crate::sys::clone::Child;
use crate::sys::message;

/// A machine whose init runs.
#[derive(Debug)]
pub struct Running {
    /// The init.
    pub child: Child,
    /// How it is asked to shut down.
    pub halt: Halt,
    /// The console's master side.
    pub console: OwnedFd,
    /// The machine's `/run`.
    pub run: OwnedFd,
    /// The far ends of its cables.
    pub cables: Cables,
    /// Its control group.
    pub group: Group,
    /// What could not be done as asked.
    pub warnings: Vec<String>,
}

/// Launches a machine. Afterwards this process is root of the machine's ids and in its network, and nobody on
/// the host. Where it fails, control groups stay behind that [`runtime::cleanup`] removes.
///
/// # Errors
/// [`Failure`] of whichever stage.
pub fn launch(exe: &Path, dir: &MachineDir, spec: &MachineSpec) -> Result<Running, Failure> {
    let map = IdMap::of_host().map_err(|error| Failure::of(&error))?;
    runtime::cleanup_locked(exe, dir)?;
    let base = match map.host {
        HostKind::Privileged { base_uid, base_gid } => Some((base_uid, base_gid)),
        HostKind::Subordinate => None,
    };
    let plan = Plan::new(&Host::read()?, &spec.id, Limits::of(spec), base.is_some())?;
    Record::of(&plan).write(dir)?;
    let mut warnings = plan.make()?;

    let group = Group::new(&plan.version2);
    let directory = group.open().during("open the control group")?;
    let parents = Parents { dir, spec, map: &map, group: directory };
    let newborn = match base {
        Some(base) => parents.privileged(base)?,
        None => parents.ordinary()?,
    };
    let Newborn { child, socket, warnings: more } = newborn;
    warnings.extend(more);
    match attend(&child, &socket, base.is_some(), &plan, spec, &mut warnings) {
        Ok((halt, console, run, cables)) => {
            Ok(Running { child, halt, console, run, cables, group, warnings })
        }
        Err(failure) => Err(child.abandon(failure)),
    }
}

type Made = (Halt, OwnedFd, OwnedFd, Cables);

/// The keeper's part while the first process makes itself at home.
fn attend(
    child: &Child,
    socket: &OwnedFd,
    privileged: bool,
    plan: &Plan,
    spec: &MachineSpec,
    warnings: &mut Vec<String>,
) -> Result<Made, Failure> {
    let namespaces = Namespaces::of(child.pid).during("open the machine's namespaces")?;
    go(socket)?;
    // Meanwhile the first process mounts.
    let cables = network::enter(&namespaces, privileged, spec, warnings)?;
    // Takes the kernel some milliseconds, so it is not waited for earlier than needed.
    plan.enter_version1(child.pid)?;
    let (halt, console, run) = ready(child, socket, warnings)?;
    become_nobody(&namespaces, privileged)?;
    go(socket)?;
    match message::receive::<Word>(socket).during("hear from the machine")? {
        // The init took over, and the socket closed by itself.
        None => Ok((halt, console, run, cables)),
        Some((Word::Failed(failure), _)) => Err(failure),
        Some((Word::Ready { .. } | Word::Born(_), _)) => Err(out_of_turn()),
    }
}

fn go(socket: &OwnedFd) -> Result<(), Failure> {
    match message::send(socket, &Go, &[]) {
        // It has failed already; what it said is still to be read.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        result => result.during("speak to the machine"),
    }
}

fn ready(
    child: &Child,
    socket: &OwnedFd,
    warnings: &mut Vec<String>,
) -> Result<(Halt, OwnedFd, OwnedFd), Failure> {
    match message::receive::<Word>(socket).during("hear from the machine")? {
        Some((Word::Ready { halt, warnings: more }, fds)) => {
            warnings.extend(more);
            match <[OwnedFd; 2]>::try_from(fds) {
                Ok([console, run]) => Ok((halt, console, run)),
                Err(_) => Err(Failure::internal("the machine sent no console")),
            }
        }
        Some((Word::Failed(failure), _)) => Err(failure),
        Some((Word::Born(_), _)) => Err(out_of_turn()),
        None => {
            let end = child.wait().during("wait for the machine")?;
            Err(Failure::internal(format!(
                "the machine's first process {} before its init ran",
                describe(&end)
            )))
        }
    }
}

/// How a process has ended, as a phrase with a verb.
pub fn describe(status: &WaitIdStatus) -> String {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => format!("ended with status {code}"),
        (None, Some(signal)) => format!("was killed by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}

/// Gives up all rights on the host; keeps those over the machine.
fn become_nobody(namespaces: &Namespaces, privileged: bool) -> Result<(), Failure> {
    let doing = "give up rights on the host";
    if privileged {
        namespaces.enter_user().during(doing)?;
    }
    let root = (Uid::from_raw(0), Gid::from_raw(0));
    setgroups(&[]).during(doing)?;
    setresgid(root.1, root.1, root.1).during(doing)?;
    setresuid(root.0, root.0, root.0).during(doing)
}

fn out_of_turn() -> Failure {
    Failure::internal("the machine's first process spoke out of turn")
}
