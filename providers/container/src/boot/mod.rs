//! The container's first process, from its birth in new namespaces until it is the box's init.
//!
//! ```text
//! keeper                               first process
//!   mounts (root)
//!   clone3 ───────────────────────────► wait
//!   id map, limits, idmapped layers
//!   Go ───────────────────────────────► root of the machine's ids
//!   tap, address, routes                overlay, /proc, /dev …, folders, seeds
//!       ◄─────────────────────────────  Ready (console, /run)
//!   Go ───────────────────────────────► capabilities, system call filter, exec init
//!       ◄─────────────────────────────  end of file: it runs
//! ```
//! Anything that goes wrong is told as [`Word::Failed`].

mod filesystems;
mod folder_map;
mod init;
mod prepare;
mod root;
mod seed;
mod stage;

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
use posada_provider_api::{MachineDir, MachineSpec};
use serde::{Deserialize, Serialize};

pub use init::Halt;
pub use prepare::Mounts;
pub use stage::{Staged, attach_staged};

use crate::cgroup;
use crate::failure::{During, Failure};
use crate::security;
use crate::sys::message;
use filesystems::Handles;

/// What the keeper says to the first process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Go;

/// What the first process says to the keeper.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Word {
    /// All is made but for the init; comes with the console's master side and `/run`.
    Ready {
        /// How the init is asked to shut down.
        halt: Halt,
        /// What could not be done as asked.
        warnings: Vec<String>,
    },
    /// An usher has made the first process; its id on the host.
    Born(i32),
    /// It did not work.
    Failed(Failure),
}

/// What the first process gets from the keeper's memory.
#[derive(Debug)]
pub struct Inheritance {
    /// The machine's directory.
    pub dir: MachineDir,
    /// The machine.
    pub spec: MachineSpec,
    /// Mounts that root's keeper or an usher has made; otherwise the first process makes its own.
    pub mounts: Option<Mounts>,
    /// Where folders go that a staging mount namespace brings along.
    pub staged: Vec<PathBuf>,
    /// The control group, where it is not delegated yet.
    pub group: Option<File>,
}

/// Becomes the machine's init. Returns, with the exit status to end with, only where that fails.
#[must_use]
pub fn boot(inheritance: Inheritance, keeper: &OwnedFd) -> i32 {
    match run(inheritance, keeper) {
        Err(Some(failure)) => {
            // Where nobody listens, nobody needs to know.
            let _ = message::send(keeper, &Word::Failed(failure), &[]);
        }
        // The keeper is gone.
        Err(None) => {}
        Ok(never) => match never {},
    }
    1
}

/// `None` stands for a keeper that is gone.
fn run(inheritance: Inheritance, keeper: &OwnedFd) -> Result<std::convert::Infallible, Option<Failure>> {
    let Inheritance { dir, spec, mounts, staged, group } = inheritance;
    wait_for_go(keeper)?;
    let mounts = match mounts {
        Some(mounts) => mounts,
        // Still with the caller's own id: what the caller can reach, this process can.
        None => Mounts::own(&dir, &spec)?,
    };
    if let Some(group) = group {
        cgroup::delegate(group.as_fd(), (0, 0)).during("hand over the control group")?;
    }
    become_root()?;
    let Mounts { layers, top, devices, mut folders, mut warnings } = mounts;
    folders.extend(stage::take(staged)?);
    let old = root::enter(layers, top)?;
    let Handles { console, terminal, run } = filesystems::mount_all(devices)?;
    root::leave(old)?;
    filesystems::set_hostname(&spec.hostname)?;
    let init = init::Init::find()?;
    warnings.extend(seed::write_all(&spec)?);
    for folder in folders {
        filesystems::attach_folder(folder.mount, &folder.target)?;
    }
    let ready = Word::Ready { halt: init.halt, warnings };
    message::send(keeper, &ready, &[console.as_fd(), run.as_fd()]).during("hand over the console")?;
    drop((console, run));
    wait_for_go(keeper)?;
    // Once more: only now is this process in all of its control groups.
    unshare(CloneFlags::CLONE_NEWCGROUP).during("make a control group namespace")?;
    security::confine()?;
    Err(Some(init.become_it(&spec, &seed::machine_id(&spec), terminal)))
}

/// Waits for the keeper; `None` stands for one that is gone.
///
/// # Errors
/// [`Failure`] where the keeper cannot be heard.
pub fn wait_for_go(keeper: &OwnedFd) -> Result<(), Option<Failure>> {
    match message::receive::<Go>(keeper).during("hear from the keeper")? {
        Some(_) => Ok(()),
        None => Err(None),
    }
}

/// From here on this process is nobody on the host.
fn become_root() -> Result<(), Failure> {
    let root = (Uid::from_raw(0), Gid::from_raw(0));
    setgroups(&[]).during("leave the caller's groups")?;
    setresgid(root.1, root.1, root.1).during("become the machine's root")?;
    setresuid(root.0, root.0, root.0).during("become the machine's root")?;
    // After the change of ids, which takes it back. A keeper that is gone already will not answer later.
    prctl::set_pdeathsig(Signal::SIGKILL).during("follow the keeper")?;
    // Not by clone3: the root of a control group namespace is where its maker is at that moment.
    unshare(CloneFlags::CLONE_NEWCGROUP).during("make a control group namespace")?;
    security::leave_keyring();
    Ok(())
}
