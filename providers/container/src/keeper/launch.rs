//! Launching: from a machine's description to its running init.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
use posada_provider_api::{MachineDir, MachineSpec};
use posada_userns::{HostKind, IdMap, MapTools};
use rustix::process::WaitIdStatus;

use super::network::{self, Namespaces};
use crate::boot::{Go, Halt, Inheritance, Mounts, Staged, Word, boot};
use crate::cgroup::{self, Group, Host, Limits, Plan};
use crate::failure::{During, Failure};
use crate::runtime::{self, Record};
use crate::sys::clone::{Child, Who, clone};
use crate::sys::{message, userns};

/// All that a container gets of its own. Its control group namespace comes later, see `boot`.
const NAMESPACES: libc::c_int = libc::CLONE_NEWUSER
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC;

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
    /// Its way out.
    pub tap: Option<OwnedFd>,
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
    let mut mounts = match base {
        Some(base) => {
            cgroup::delegate(directory.as_fd(), base).during("hand over the control group")?;
            Some(Mounts::privileged(dir, spec, base)?)
        }
        None => None,
    };
    let folders = mounts.as_mut().map(|mounts| std::mem::take(&mut mounts.folders)).unwrap_or_default();
    let (staging, staged) = match folders.is_empty() {
        true => (None, Vec::new()),
        false => Staged::enter(folders).map(|(staging, staged)| (Some(staging), staged))?,
    };
    let (keeper_end, child_end) = message::pair().during("make a socket")?;
    // SAFETY: a keeper has one thread.
    let who = unsafe { clone(NAMESPACES, Some(directory.as_fd())) };
    let child = match who.map_err(refused)? {
        Who::Child => {
            drop(keeper_end);
            let group = base.is_none().then_some(directory);
            let inheritance = Inheritance { dir: dir.clone(), spec: spec.clone(), mounts, staged, group };
            let status = boot(inheritance, &child_end);
            // SAFETY: what belongs to the keeper must not run here.
            unsafe { libc::_exit(status) }
        }
        Who::Parent(child) => child,
    };
    drop((child_end, directory));
    let home = staging.map_or(Ok(()), Staged::leave);
    let launched =
        home.and_then(|()| attend(&child, &keeper_end, &map, base, &plan, mounts, spec, &mut warnings));
    let (halt, console, run, tap) = launched.inspect_err(|_| {
        // Whatever it is doing, it is of no use any more.
        let _ = child.signal(rustix::process::Signal::KILL);
        let _ = child.wait();
    })?;
    Ok(Running { child, halt, console, run, tap, group, warnings })
}

type Made = (Halt, OwnedFd, OwnedFd, Option<OwnedFd>);

/// The keeper's part while the first process makes itself at home.
#[expect(clippy::too_many_arguments, reason = "one caller, and each is a thing of its own")]
fn attend(
    child: &Child,
    socket: &OwnedFd,
    map: &IdMap,
    base: Option<(u32, u32)>,
    plan: &Plan,
    mounts: Option<Mounts>,
    spec: &MachineSpec,
    warnings: &mut Vec<String>,
) -> Result<Made, Failure> {
    match base {
        Some(_) => {
            userns::write_maps(child.pid, &map.uids, &map.gids).during("write the machine's id map")?
        }
        None => MapTools::find()
            .and_then(|tools| tools.write(child.pid.as_raw_nonzero().get(), map))
            .map_err(|error| Failure::of(&error))?,
    }
    plan.enter_version1(child.pid)?;
    if let Some(mounts) = mounts {
        let map = userns::of(child.pid).during("open the machine's user namespace")?;
        mounts.show_layers_to(map.as_fd())?;
        warnings.extend(mounts.warnings);
    }
    let namespaces = Namespaces::of(child.pid).during("open the machine's namespaces")?;
    go(socket)?;
    // Meanwhile the first process mounts.
    let tap = network::enter(&namespaces, base.is_some(), &spec.id, warnings)?;
    let (halt, console, run) = ready(child, socket, warnings)?;
    become_nobody(&namespaces, base.is_some())?;
    go(socket)?;
    match message::receive::<Word>(socket).during("hear from the machine")? {
        // The init took over, and the socket closed by itself.
        None => Ok((halt, console, run, tap)),
        Some((Word::Failed(failure), _)) => Err(failure),
        Some((Word::Ready { .. }, _)) => Err(Failure::internal("the machine was ready twice")),
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

fn refused(error: std::io::Error) -> Failure {
    let obstacle = posada_userns::probe().obstacle();
    match (obstacle, error.raw_os_error()) {
        (Some((reason, remedy)), _) => Failure::host(reason, remedy),
        (None, Some(libc::ENOSPC)) => Failure::host(
            format!("the kernel refuses more namespaces: {error}"),
            "raise `user.max_user_namespaces` and its neighbours in sysctl",
        ),
        (None, Some(libc::EACCES)) => Failure::host(
            format!("the machine cannot enter its control group: {error}"),
            "start posada with `systemd-run --user --scope -p Delegate=yes`, or run it as root",
        ),
        _ => Err::<(), _>(error).during("make the machine's namespaces").unwrap_err(),
    }
}
