//! Whether containers can have users and files of their own.

use posada_provider_api::Fault as _;
use posada_userns::{Facts, HostKind};

use super::{Check, Site};

/// User namespaces, and the ids to fill them with.
pub(super) fn checks(facts: &Facts) -> Vec<Check> {
    const NAMESPACES: &str = "user namespaces";
    const IDS: &str = "subordinate ids";
    let namespaces = match facts.obstacle() {
        Some((reason, remedy)) => Check::bad(NAMESPACES, reason, remedy),
        None => Check::ok(NAMESPACES, "allowed"),
    };
    let refused = |error: &posada_userns::IdMapError| {
        Check::bad(IDS, error.to_string(), error.hint().unwrap_or_else(|| "see subuid(5)".to_owned()))
    };
    let ids = match (&facts.map, &facts.tools) {
        (Err(error), _) | (_, Some(Err(error))) => refused(error),
        (Ok(map), _) => match map.host {
            HostKind::Privileged { base_uid, .. } => {
                Check::ok(IDS, format!("as root, machines get ids {base_uid} and up"))
            }
            HostKind::Subordinate => Check::ok(IDS, "granted, newuidmap and newgidmap work"),
        },
    };
    vec![namespaces, ids]
}

/// The file system that lays a machine's own files over those of its box.
pub(super) fn overlay(site: &Site) -> Check {
    const NAME: &str = "overlayfs";
    let known = site
        .read("/proc/filesystems")
        .is_some_and(|list| list.lines().any(|line| line.split_whitespace().last() == Some("overlay")));
    if known {
        Check::ok(NAME, "known to the kernel")
    } else {
        Check::bad(NAME, "not known to the kernel", "run `sudo modprobe overlay`")
    }
}
