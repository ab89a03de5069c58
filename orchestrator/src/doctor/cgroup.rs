//! Whether machines can be counted, limited and frozen.

use std::path::{Path, PathBuf};

use rustix::fs::Access;

use super::{Check, Site};

const NAME: &str = "cgroups";

/// How the host arranges its cgroups.
#[derive(Debug, PartialEq, Eq)]
enum Layout {
    /// cgroup2 alone.
    Unified { mount: PathBuf },
    /// cgroup2 for tracking, the old controllers in mounts of their own.
    Hybrid { mount: PathBuf, controllers: Vec<String> },
    /// No cgroup2.
    Legacy,
}

/// What a machine's limits need.
const WANTED: [&str; 3] = ["cpu", "memory", "pids"];

pub(super) fn check(site: &Site) -> Check {
    let layout = layout(&site.read("/proc/self/mountinfo").unwrap_or_default());
    let (mount, have, form) = match &layout {
        Layout::Legacy => {
            return Check::bad(
                NAME,
                "there is no cgroup2",
                "boot with `systemd.unified_cgroup_hierarchy=1`, or run `mount -t cgroup2 none /sys/fs/cgroup/unified`",
            );
        }
        Layout::Unified { mount } => {
            let listed = site.read(&mount.join("cgroup.controllers").to_string_lossy()).unwrap_or_default();
            (mount, listed.split_whitespace().map(str::to_owned).collect(), "v2")
        }
        Layout::Hybrid { mount, controllers } => (mount, controllers.clone(), "hybrid"),
    };
    if !rustix::process::geteuid().is_root() {
        let groups = site.read("/proc/self/cgroup").unwrap_or_default();
        let own = own_group(&groups);
        let dir = site.at(&format!("{}{own}", mount.display()));
        let user_manager = format!("/run/user/{}/systemd", rustix::process::geteuid().as_raw());
        if !writable(&dir) && !site.at(&user_manager).exists() {
            return Check::bad(
                NAME,
                format!("{form}, but none is delegated to you ({} is not yours)", dir.display()),
                "log in through a session of systemd, or let root make a cgroup that is yours and start your shell in it",
            );
        }
    }
    let missing: Vec<&str> = WANTED.into_iter().filter(|one| !have.iter().any(|had| had == one)).collect();
    if missing.is_empty() {
        Check::ok(NAME, format!("{form}, with {}", WANTED.join(", ")))
    } else {
        Check::warn(
            NAME,
            format!("{form}, without {}: those limits cannot be enforced", missing.join(", ")),
            "remove `cgroup_disable=` from the kernel's command line, or have the controllers delegated",
        )
    }
}

fn layout(mountinfo: &str) -> Layout {
    let mut unified = None;
    let mut controllers = Vec::new();
    for line in mountinfo.lines() {
        // proc_pid_mountinfo(5): the mount point is the fifth field; type, source, options follow the ` - `.
        let Some((head, tail)) = line.split_once(" - ") else { continue };
        let mut tail = tail.split(' ');
        let kind = tail.next().unwrap_or_default();
        let options = tail.nth(1).unwrap_or_default();
        match kind {
            "cgroup2" => unified = head.split(' ').nth(4).map(PathBuf::from),
            "cgroup" => controllers.extend(options.split(',').map(str::to_owned)),
            _ => {}
        }
    }
    match unified {
        None => Layout::Legacy,
        Some(mount) if controllers.is_empty() => Layout::Unified { mount },
        Some(mount) => Layout::Hybrid { mount, controllers },
    }
}

/// The caller's place in the cgroup2 tree, by `/proc/self/cgroup`.
fn own_group(text: &str) -> &str {
    text.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/")
}

fn writable(dir: &Path) -> bool {
    [dir.to_owned(), dir.join("cgroup.procs")]
        .iter()
        .all(|path| rustix::fs::access(path, Access::WRITE_OK).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_the_layouts_apart() {
        let v2 = "30 24 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n";
        assert_eq!(layout(v2), Layout::Unified { mount: "/sys/fs/cgroup".into() });
        let hybrid = "\
31 30 0:27 / /sys/fs/cgroup/cpu rw - cgroup none rw,cpu,cpuacct
32 30 0:28 / /sys/fs/cgroup/unified rw shared:4 - cgroup2 none rw
";
        let Layout::Hybrid { mount, controllers } = layout(hybrid) else { panic!("hybrid") };
        assert_eq!(mount, Path::new("/sys/fs/cgroup/unified"));
        assert!(controllers.contains(&"cpu".to_owned()));
        assert_eq!(layout("31 30 0:27 / /c rw - cgroup none rw,cpu\n"), Layout::Legacy);
    }

    #[test]
    fn finds_its_own_place() {
        assert_eq!(own_group("5:cpu:/a\n0::/user.slice/s\n"), "/user.slice/s");
        assert_eq!(own_group(""), "/");
    }
}
