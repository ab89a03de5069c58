//! What this host allows, for people who ask why machines do not start.

use std::path::Path;

use nix::sched::{CloneFlags, unshare};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork, geteuid};

use crate::{IdMap, IdMapError, MapTools};

/// Facts about user namespaces on this host.
#[derive(Debug)]
pub struct Facts {
    /// Whether the caller could just make one; the error of the kernel where not.
    pub allowed: Result<(), rustix::io::Errno>,
    /// `user.max_user_namespaces`.
    pub limit: Option<u64>,
    /// Whether AppArmor restricts unprivileged user namespaces (Ubuntu 23.10 and later).
    pub apparmor_restricts: bool,
    /// Whether Debian's older switch `kernel.unprivileged_userns_clone` is off.
    pub switched_off: bool,
    /// The caller's id map.
    pub map: Result<IdMap, IdMapError>,
    /// `newuidmap` and `newgidmap`; `None` where the caller is root and needs them not.
    pub tools: Option<Result<MapTools, IdMapError>>,
}

impl Facts {
    /// What keeps user namespaces from working, and what to do about it; `None` where nothing does.
    #[must_use]
    pub fn obstacle(&self) -> Option<(String, String)> {
        let errno = self.allowed.err()?;
        let (reason, remedy) = if self.limit == Some(0) {
            ("user namespaces are switched off", "run `sudo sysctl user.max_user_namespaces=15000`")
        } else if self.switched_off {
            ("user namespaces are for root only here", "run `sudo sysctl kernel.unprivileged_userns_clone=1`")
        } else if self.apparmor_restricts {
            (
                "AppArmor keeps ordinary users from user namespaces",
                "run `sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0`, or give posada an AppArmor profile with `userns,`",
            )
        } else {
            (
                "the kernel refuses user namespaces",
                "see user_namespaces(7); inside a container, start that with fewer restrictions",
            )
        };
        Some((format!("{reason} ({errno})"), remedy.to_owned()))
    }
}

/// Looks at this host. Makes a user namespace to see whether that works, in a child process that ends at once.
#[must_use]
pub fn probe() -> Facts {
    Facts {
        allowed: try_one(),
        limit: number("/proc/sys/user/max_user_namespaces"),
        apparmor_restricts: number("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == Some(1),
        switched_off: number("/proc/sys/kernel/unprivileged_userns_clone") == Some(0),
        map: IdMap::of_host(),
        tools: (!geteuid().is_root()).then(MapTools::find),
    }
}

fn number(path: &str) -> Option<u64> {
    fs_err::read_to_string(Path::new(path)).ok()?.trim().parse().ok()
}

fn try_one() -> Result<(), rustix::io::Errno> {
    // An unmapped user still counts, but mounting is what AppArmor takes away: a mount namespace shows it.
    const FLAGS: CloneFlags = CloneFlags::CLONE_NEWUSER.union(CloneFlags::CLONE_NEWNS);
    // SAFETY: the child makes two system calls, unshare and _exit, so that locks which other threads of this
    // process hold do not matter.
    match unsafe { fork() }.map_err(errno)? {
        ForkResult::Child => {
            let status = match unshare(FLAGS) {
                Ok(()) => 0,
                // Errors worth telling apart are all below 128.
                Err(error) => error as i32 & 0x7f,
            };
            // SAFETY: _exit ends the process at once, without running anything of its parent's.
            unsafe { libc::_exit(status) }
        }
        ForkResult::Parent { child } => match waitpid(child, None).map_err(errno)? {
            WaitStatus::Exited(_, 0) => Ok(()),
            WaitStatus::Exited(_, code) => Err(rustix::io::Errno::from_raw_os_error(code)),
            _ => Err(rustix::io::Errno::INTR),
        },
    }
}

fn errno(error: nix::Error) -> rustix::io::Errno {
    rustix::io::Errno::from_raw_os_error(error as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(allowed: Result<(), rustix::io::Errno>) -> Facts {
        Facts {
            allowed,
            limit: Some(1),
            apparmor_restricts: false,
            switched_off: false,
            map: IdMap::of_host(),
            tools: None,
        }
    }

    #[test]
    fn root_may_make_a_namespace_here() {
        assert_eq!(probe().allowed, Ok(()));
    }

    #[test]
    fn the_obstacle_is_named_with_its_switch() {
        assert_eq!(facts(Ok(())).obstacle(), None);
        let refused = Err(rustix::io::Errno::NOSPC);
        let (reason, remedy) = Facts { limit: Some(0), ..facts(refused) }.obstacle().unwrap();
        assert!(
            reason.contains("switched off") && remedy.contains("max_user_namespaces"),
            "{reason}: {remedy}"
        );
        let apparmor = Facts { apparmor_restricts: true, ..facts(refused) }.obstacle().unwrap();
        assert!(apparmor.1.contains("apparmor_restrict_unprivileged_userns"), "{}", apparmor.1);
    }
}
