//! What this host offers containers, for `posada doctor` and for the choice of a backend.

use std::path::Path;

use posada_provider_api::{Availability, Fault};
use rustix::fs::{Access, access};

use crate::cgroup::{Controller, Host};

/// Facts about this host.
#[derive(Debug)]
pub struct Facts {
    /// User namespaces and the caller's id map.
    pub namespaces: posada_userns::Facts,
    /// Where version 2 control groups are mounted.
    pub cgroup2: Option<std::path::PathBuf>,
    /// The caller's own group there, and whether machines can be made in it.
    pub own_group: Option<(std::path::PathBuf, bool)>,
    /// Controllers that version 2 offers there.
    pub controllers: Vec<String>,
    /// Controllers that only version 1 has here (hybrid hosts); of use to root.
    pub version1: Vec<&'static str>,
    /// Whether `/dev/net/tun` can be opened; machines have no way out where not.
    pub tun: bool,
    /// Whether the kernel has overlay file systems.
    pub overlay: bool,
}

/// Looks at this host.
#[must_use]
pub fn facts() -> Facts {
    let host = Host::read().ok();
    let privileged = rustix::process::geteuid().is_root();
    let group =
        host.as_ref().and_then(|host| if privileged { host.version2.clone() } else { host.own.clone() });
    let controllers =
        group.as_ref().and_then(|group| fs_err::read_to_string(group.join("cgroup.controllers")).ok());
    let writable = |path: &Path| access(path, Access::WRITE_OK).is_ok();
    let file_systems = fs_err::read_to_string("/proc/filesystems").unwrap_or_default();
    Facts {
        namespaces: posada_userns::probe(),
        own_group: group.map(|group| {
            let usable = writable(&group) && writable(&group.join("cgroup.procs"));
            (group, usable)
        }),
        controllers: controllers.unwrap_or_default().split_whitespace().map(str::to_owned).collect(),
        version1: host
            .as_ref()
            .map(|host| host.version1.keys().copied().map(Controller::name).collect())
            .unwrap_or_default(),
        cgroup2: host.and_then(|host| host.version2),
        tun: access("/dev/net/tun", Access::READ_OK | Access::WRITE_OK).is_ok(),
        // A module that is not loaded yet is loaded by the first mount.
        overlay: file_systems.lines().any(|line| line.ends_with("\toverlay"))
            || Path::new("/sys/module/overlay").exists(),
    }
}

/// Whether containers can run here.
pub async fn availability() -> Availability {
    // Looks at files and forks once; a runtime's thread is not for that.
    tokio::task::spawn_blocking(|| judge(&facts())).await.unwrap_or_else(|error| Availability::Unusable {
        reason: format!("the host could not be looked at: {error}"),
        remedy: "try again".to_owned(),
    })
}

fn judge(facts: &Facts) -> Availability {
    let unusable = |reason: String, remedy: String| Availability::Unusable { reason, remedy };
    if let Some((reason, remedy)) = facts.namespaces.obstacle() {
        return unusable(reason, remedy);
    }
    let map = facts.namespaces.map.as_ref().err();
    let tools = facts.namespaces.tools.as_ref().and_then(|tools| tools.as_ref().err());
    if let Some(error) = map.or(tools) {
        return unusable(error.to_string(), error.hint().unwrap_or_default());
    }
    match &facts.own_group {
        None => unusable(
            "no version 2 control groups are mounted".to_owned(),
            "run `sudo mount -t cgroup2 none /sys/fs/cgroup/unified`".to_owned(),
        ),
        // A scope of the user's systemd will do.
        Some((group, false)) if !crate::scope::is_offered() => unusable(
            format!("the control group {} is not delegated to this user", group.display()),
            "start posada with `systemd-run --user --scope -p Delegate=yes`, or run it as root".to_owned(),
        ),
        Some(_) => Availability::Usable,
    }
}
