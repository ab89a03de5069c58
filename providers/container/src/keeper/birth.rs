//! Making a container's first process, with its id map written and its mounts in hand.
//!
//! ```text
//! root                      keeper ── clone3 ──► first process
//! ordinary user             keeper ── clone3 ──► first process
//!   with synced folders     keeper ── clone3 ──► usher ── clone3 (as a sibling) ──► first process
//! ```
//! Attributes of a mount (read-only) are locked only by a mount namespace whose owner has more rights than the
//! container's root. Root's keeper has such a one; an ordinary user's must make a user namespace around the
//! container's. The usher ends as soon as the first process is there.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

use posada_provider_api::{MachineDir, MachineSpec};
use posada_userns::{Extent, IdMap, MapTools};

use super::launch::describe;
use crate::boot::{Go, Inheritance, Mounts, Staged, Word, attach_staged, boot, wait_for_go};
use crate::cgroup;
use crate::failure::{During, Failure};
use crate::sys::clone::{Child, Who, clone};
use crate::sys::{message, userns};

/// What an ordinary user's usher has of its own.
const USHER: libc::c_int = libc::CLONE_NEWUSER | libc::CLONE_NEWNS;

/// All that a container gets of its own. Its control group namespace comes later, see `boot`.
const CONTAINER: libc::c_int =
    USHER | libc::CLONE_NEWPID | libc::CLONE_NEWNET | libc::CLONE_NEWUTS | libc::CLONE_NEWIPC;

/// A first process that waits for its first [`Go`].
#[derive(Debug)]
pub struct Newborn {
    /// The process.
    pub child: Child,
    /// The keeper's end of the socket to it.
    pub socket: OwnedFd,
    /// What could not be done as asked.
    pub warnings: Vec<String>,
}

/// What is about to be born.
#[derive(Debug)]
pub struct Parents<'a> {
    /// The machine's directory.
    pub dir: &'a MachineDir,
    /// The machine.
    pub spec: &'a MachineSpec,
    /// Its ids.
    pub map: &'a IdMap,
    /// Its control group.
    pub group: File,
}

impl Parents<'_> {
    /// Makes the first process of a machine of root, whose ids begin at `base`.
    ///
    /// # Errors
    /// [`Failure`] where a mount or the kernel refuses.
    pub fn privileged(self, base: (u32, u32)) -> Result<Newborn, Failure> {
        cgroup::delegate(self.group.as_fd(), base).during("hand over the control group")?;
        let mut mounts = Mounts::privileged(self.dir, self.spec, base)?;
        let folders = std::mem::take(&mut mounts.folders);
        let warnings = std::mem::take(&mut mounts.warnings);
        let (staging, staged) = if folders.is_empty() {
            (None, Vec::new())
        } else {
            Staged::enter(folders).map(|(staging, staged)| (Some(staging), staged))?
        };
        let (ours, theirs) = message::pair().during("make a socket")?;
        // SAFETY: a keeper has one thread.
        let who = unsafe { clone(CONTAINER, Some(self.group.as_fd())) };
        let child = match who.map_err(refused)? {
            Who::Child => {
                drop(ours);
                let (dir, spec) = (self.dir.clone(), self.spec.clone());
                end(boot(Inheritance { dir, spec, mounts: Some(mounts), staged, group: None }, &theirs))
            }
            Who::Parent(child) => child,
        };
        let care = || -> Result<(), Failure> {
            staging.map_or(Ok(()), Staged::leave)?;
            userns::write_maps(child.pid, &self.map.uids, &self.map.gids)
                .during("write the machine's id map")?;
            let namespace = userns::of(child.pid).during("open the machine's user namespace")?;
            mounts.show_layers_to(namespace.as_fd())
        };
        match care() {
            Ok(()) => Ok(Newborn { child, socket: ours, warnings }),
            Err(failure) => Err(child.abandon(failure)),
        }
    }

    /// Makes the first process of an ordinary user's machine.
    ///
    /// # Errors
    /// [`Failure`] where the kernel or the writers of id maps refuse.
    pub fn ordinary(self) -> Result<Newborn, Failure> {
        let ushered = !self.spec.folders.is_empty();
        let (ours, theirs) = message::pair().during("make a socket")?;
        // SAFETY: a keeper has one thread.
        let who = unsafe { clone(if ushered { USHER } else { CONTAINER }, Some(self.group.as_fd())) };
        let child = match who.map_err(refused)? {
            Who::Child => {
                drop(ours);
                let (dir, spec) = (self.dir.clone(), self.spec.clone());
                let group = Some(self.group);
                let inheritance = Inheritance { dir, spec, mounts: None, staged: Vec::new(), group };
                end(if ushered { usher(inheritance, self.map, &theirs) } else { boot(inheritance, &theirs) })
            }
            Who::Parent(child) => child,
        };
        drop(theirs);
        let tools =
            MapTools::find().and_then(|tools| tools.write(child.pid.as_raw_nonzero().get(), self.map));
        if let Err(error) = tools {
            return Err(child.abandon(Failure::of(&error)));
        }
        let child = if ushered { follow(child, &ours)? } else { child };
        Ok(Newborn { child, socket: ours, warnings: Vec::new() })
    }
}

/// The keeper lets the usher do its work, and takes over the process that it has made.
fn follow(usher: Child, socket: &OwnedFd) -> Result<Child, Failure> {
    message::send(socket, &Go, &[]).during("speak to the usher")?;
    let status = usher.wait().during("wait for the usher")?;
    // It speaks before it ends, so nothing is waited for here: the first process says nothing yet.
    rustix::io::ioctl_fionbio(socket, true).during("hear from the usher")?;
    let word = message::receive::<Word>(socket);
    rustix::io::ioctl_fionbio(socket, false).during("hear from the usher")?;
    match word {
        Ok(Some((Word::Born(pid), _))) => Child::adopt(pid).during("take over the machine's first process"),
        Ok(Some((Word::Failed(failure), _))) => Err(failure),
        _ => Err(Failure::internal(format!("the usher {} before it had done its work", describe(&status)))),
    }
}

/// The usher: attaches the folders in its own mount namespace, and makes the first process from there.
fn usher(inheritance: Inheritance, map: &IdMap, keeper: &OwnedFd) -> i32 {
    let made = wait_for_go(keeper).and_then(|()| Ok(deliver(inheritance, map, keeper)?));
    let word = match made {
        Ok(pid) => Word::Born(pid),
        Err(Some(failure)) => Word::Failed(failure),
        Err(None) => return 1,
    };
    i32::from(message::send(keeper, &word, &[]).is_err())
}

fn deliver(inheritance: Inheritance, map: &IdMap, keeper: &OwnedFd) -> Result<i32, Failure> {
    let mut mounts = Mounts::own(&inheritance.dir, &inheritance.spec)?;
    let staged = attach_staged(std::mem::take(&mut mounts.folders))?;
    // SAFETY: an usher has one thread. The keeper becomes the parent of what is made.
    let child = match unsafe { clone(CONTAINER | libc::CLONE_PARENT, None) }.map_err(refused)? {
        Who::Child => end(boot(Inheritance { mounts: Some(mounts), staged, ..inheritance }, keeper)),
        Who::Parent(child) => child,
    };
    let (uids, gids) = (same(&map.uids), same(&map.gids));
    match userns::write_maps(child.pid, &uids, &gids).during("write the machine's id map") {
        Ok(()) => Ok(child.pid.as_raw_nonzero().get()),
        Err(failure) => {
            // Not this process's child: its parent finds it dead.
            let _ = child.signal(rustix::process::Signal::KILL);
            Err(failure)
        }
    }
}

/// The same ids once more; no extent may span two of the map that it lies in.
fn same(extents: &[Extent]) -> Vec<Extent> {
    extents.iter().map(|extent| Extent { outside: extent.inside, ..*extent }).collect()
}

/// Ends a process that is a copy of the keeper.
fn end(status: i32) -> ! {
    // SAFETY: what belongs to the keeper must not run here, so nothing but the end does.
    unsafe { libc::_exit(status) }
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
