//! Who owns what, and who acts.
//!
//! A folder has one owner on the host, and all that the guest makes in it is that owner's, whoever made it in the guest:
//! an ordinary user's monitor could not do otherwise, and one of root acts as the owner ([`assume`]), so that a guest can
//! do in the folder what its owner could and no more. The owner is shown as the guest's login user; everyone else on the
//! host is nobody in the guest, as they are in containers. To give a file of the owner's to the login user is no change;
//! to give one to anyone else is refused by `EPERM`.

use std::io;

use rustix::io::Errno;
use rustix::process::{Gid, Uid, geteuid};
use rustix::thread::set_thread_groups;

use crate::config::Owners;

/// The user and group that stand for all who have none of their own in the guest.
const NOBODY: u32 = 65534;
/// The id that means "as it is" (`chown`(2)).
const UNCHANGED: u32 = u32::MAX;

/// An id, or none, as it is shown to the guest.
fn shown(host: u32, owner: u32, login: u32) -> u32 {
    if host == owner { login } else { NOBODY }
}

/// The owners that the host is asked to give a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// The user, where it is to change.
    pub uid: Option<Uid>,
    /// The group, where it is to change.
    pub gid: Option<Gid>,
}

impl Owners {
    /// The guest's user for the host's.
    #[must_use]
    pub fn shown_uid(&self, uid: u32) -> u32 {
        shown(uid, self.host.0, self.guest.0)
    }

    /// The guest's group for the host's.
    #[must_use]
    pub fn shown_gid(&self, gid: u32) -> u32 {
        shown(gid, self.host.1, self.guest.1)
    }

    /// What is to be asked of the host when the guest wants a file that belongs to `now` to belong to `wanted`, either
    /// of which may be `None` for as it is. `None` where nothing has to change.
    ///
    /// # Errors
    /// `EPERM` where `wanted` has no counterpart on the host.
    pub fn chown(
        &self,
        now: (u32, u32),
        wanted: (Option<u32>, Option<u32>),
    ) -> Result<Option<Change>, Errno> {
        let counterpart = |now: u32, wanted: Option<u32>, owner: u32, login: u32| match wanted {
            None | Some(UNCHANGED) => Ok(None),
            Some(wanted) if wanted == shown(now, owner, login) => Ok(None),
            Some(wanted) if wanted == login => Ok(Some(owner)),
            Some(_) => Err(Errno::PERM),
        };
        let uid = counterpart(now.0, wanted.0, self.host.0, self.guest.0)?;
        let gid = counterpart(now.1, wanted.1, self.host.1, self.guest.1)?;
        if uid.is_none() && gid.is_none() {
            return Ok(None);
        }
        Ok(Some(Change { uid: uid.map(Uid::from_raw), gid: gid.map(Gid::from_raw) }))
    }
}

/// The bits that this process's `umask` takes from the mode of what it makes. They are given back to what the guest
/// makes, who has applied a mask of its own.
pub(super) fn umask_in_force() -> io::Result<u32> {
    // Read where it is told: `umask`(2) cannot be asked without changing it for all threads.
    let status = fs_err::read_to_string("/proc/self/status")?;
    let mask = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    mask.and_then(|mask| u32::from_str_radix(mask.trim(), 8).ok())
        .ok_or_else(|| io::Error::other("/proc/self/status tells no umask"))
}

/// Makes the calling thread act as the folder's owner, and only it: what root's monitor opens and makes is opened and
/// made by the owner's rights. An ordinary user's monitor stays who it is.
///
/// # Errors
/// Where the kernel does not let this thread be the owner; it needs `CAP_SETUID` and `CAP_SETGID` for that.
pub fn assume(owners: &Owners) -> io::Result<()> {
    let (uid, gid) = owners.host;
    if !geteuid().is_root() || uid == 0 {
        return Ok(());
    }
    set_thread_groups(&[Gid::from_raw(gid)])?;
    // SAFETY: both calls take plain numbers and change the calling thread's credentials only. They return the former
    // id whatever happens, so asking with an invalid one tells what is in force.
    let now = unsafe {
        libc::setfsgid(gid);
        libc::setfsuid(uid);
        (libc::setfsuid(UNCHANGED), libc::setfsgid(UNCHANGED))
    };
    let is = |now: libc::c_int, wanted: u32| u32::try_from(now) == Ok(wanted);
    if is(now.0, uid) && is(now.1, gid) { Ok(()) } else { Err(Errno::PERM.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWNERS: Owners = Owners { host: (1234, 1235), guest: (1000, 1001) };

    #[test]
    fn the_owner_is_the_login_user_and_others_are_nobody() {
        assert_eq!((OWNERS.shown_uid(1234), OWNERS.shown_gid(1235)), (1000, 1001));
        assert_eq!((OWNERS.shown_uid(0), OWNERS.shown_gid(1000)), (NOBODY, NOBODY));
    }

    #[test]
    fn only_the_login_user_can_be_given_files() {
        let own = (1234, 1235);
        assert_eq!(OWNERS.chown(own, (Some(1000), Some(1001))), Ok(None));
        assert_eq!(OWNERS.chown(own, (None, Some(u32::MAX))), Ok(None));
        assert_eq!(OWNERS.chown(own, (Some(0), None)), Err(Errno::PERM));
        assert_eq!(OWNERS.chown(own, (None, Some(0))), Err(Errno::PERM));
        let given = OWNERS.chown((7, 1235), (Some(1000), Some(1001)));
        assert_eq!(given, Ok(Some(Change { uid: Some(Uid::from_raw(1234)), gid: None })));
        assert_eq!(OWNERS.chown((7, 7), (Some(NOBODY), Some(NOBODY))), Ok(None));
    }
}
