//! What is a machine's own and no part of a box that is made of it.
//!
//! The rules are kept as data, as a tree is cleaned while it is packed, and a disk by a script in the machine that lies on it.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// What becomes of something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It stays as it is.
    Kept,
    /// It stays with nothing in it.
    Emptied,
    /// It stays without the block of lines that Posada keeps in it.
    Unblocked,
    /// It goes, with all below it.
    Removed,
}

/// Directories that stay while all in them goes.
const HOLLOW: [&str; 8] = [
    "tmp",
    "var/tmp",
    "var/lib/cloud",
    "var/log/journal",
    "var/lib/systemd/coredump",
    "var/lib/NetworkManager",
    "var/cache/apt/archives",
    "var/backups",
];

/// The same, where the system runs that they belong to: they are the kernel's, or made at each start.
const HOLLOW_UNLESS_RUNNING: [&str; 4] = ["dev", "proc", "run", "sys"];

/// What goes; `*` stands for any part of one name.
const REMOVED: [&str; 15] = [
    // Who the machine is.
    "etc/ssh/ssh_host_*",
    "etc/ssh/sshd_config.d/00-posada.conf",
    "var/lib/dbus/machine-id",
    "var/lib/systemd/random-seed",
    "var/lib/systemd/credential.secret",
    "var/lib/dhcp/*.leases",
    "etc/netplan/50-cloud-init.yaml",
    "etc/network/interfaces.d/50-cloud-init",
    "etc/systemd/network/10-cloud-init-*",
    // Who worked on it.
    "root/.ssh",
    "home/*/.ssh",
    "root/.*history",
    "home/*/.*history",
    "root/.lesshst",
    "home/*/.lesshst",
];

/// Files that stay, empty.
const EMPTIED: [&str; 1] = ["etc/machine-id"];

/// Files with a block of lines that is of the machine: its names, and the environment that its Vmfile gives it.
const BLOCKS: [&str; 2] = ["etc/hosts", "etc/environment"];
const BEGIN: &str = "# posada: begin";
const END: &str = "# posada: end";

/// Directories whose files all stay, empty: programs that write to them may not make them.
const LOGS: &str = "var/log";

/// What becomes of what lies at `path`, relative to the root of a system that does not run.
pub fn fate(path: &Path, is_directory: bool) -> Fate {
    let inside = |directory: &&str| path.starts_with(directory) && path != Path::new(directory);
    if HOLLOW.iter().chain(&HOLLOW_UNLESS_RUNNING).any(inside)
        || REMOVED.iter().any(|pattern| matches(pattern, path))
    {
        Fate::Removed
    } else if EMPTIED.iter().any(|file| path == Path::new(file)) || (!is_directory && path.starts_with(LOGS))
    {
        Fate::Emptied
    } else if BLOCKS.iter().any(|file| path == Path::new(file)) {
        Fate::Unblocked
    } else {
        Fate::Kept
    }
}

/// A file's text without Posada's block.
pub fn unblocked(text: &[u8]) -> Vec<u8> {
    let mut inside = false;
    let mut kept = Vec::new();
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        let word = line.strip_suffix(b"\n").unwrap_or(line);
        inside |= word == BEGIN.as_bytes();
        if !inside {
            kept.extend(line);
        }
        inside &= word != END.as_bytes();
    }
    kept
}

/// Whether `path` is what `pattern` names.
fn matches(pattern: &str, path: &Path) -> bool {
    let mut names = path.iter();
    pattern.split('/').all(|pattern| {
        let Some(name) = names.next() else { return false };
        match pattern.split_once('*') {
            None => name == pattern,
            Some((start, end)) => {
                let name = name.as_bytes();
                name.len() >= start.len() + end.len()
                    && name.starts_with(start.as_bytes())
                    && name.ends_with(end.as_bytes())
            }
        }
    }) && names.next().is_none()
}

/// A script for sh(1), run as root of the running system, that does the same; [`SEAL`] ends it.
#[must_use]
pub fn script() -> String {
    let mut script = String::from("set -e\ncd /\n");
    let mut line = |text: String| {
        script.push_str(&text);
        script.push('\n');
    };
    // Who still starts would write again what is removed here.
    line("systemctl is-system-running --wait >/dev/null 2>&1 || :".to_owned());
    line("! command -v cloud-init >/dev/null || cloud-init status --wait >/dev/null 2>&1 || :".to_owned());
    // Those that would write on are ended; not all systems have them.
    line("systemctl stop systemd-journald.socket systemd-journald-dev-log.socket systemd-journald rsyslog 2>/dev/null || :".to_owned());
    line(format!("find {LOGS} -xdev -type f -exec sh -c 'for log; do : >\"$log\"; done' sh {{}} +"));
    for directory in HOLLOW {
        line(format!("[ ! -d {directory} ] || find {directory} -xdev -mindepth 1 -delete"));
    }
    line(format!("rm -rf -- {}", REMOVED.join(" ")));
    for file in EMPTIED {
        line(format!("[ ! -f {file} ] || : >{file}"));
    }
    for file in BLOCKS {
        line(format!("[ ! -f {file} ] || sed -i '/^{BEGIN}$/,/^{END}$/d' {file}"));
    }
    script
}

/// What comes after [`script`] and all else that is to be in the box. A file system that is frozen has nothing left in its journal
/// (fsfreeze(8)).
pub const SEAL: &str = "\
sync
fstrim / 2>/dev/null || :
sync
fsfreeze --freeze / || echo u >/proc/sysrq-trigger
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_the_machines_own_goes_and_all_else_stays() {
        for (path, fate_of_it) in [
            ("etc/ssh/ssh_host_ed25519_key", Fate::Removed),
            ("etc/ssh/ssh_host_rsa_key.pub", Fate::Removed),
            ("etc/ssh/sshd_config", Fate::Kept),
            ("etc/machine-id", Fate::Emptied),
            ("home/ana/.ssh", Fate::Removed),
            ("home/ana/.bash_history", Fate::Removed),
            ("home/ana/.bashrc", Fate::Kept),
            ("home/ana/src/.bash_history", Fate::Kept),
            ("root/.python_history", Fate::Removed),
            ("tmp", Fate::Kept),
            ("tmp/.X11", Fate::Removed),
            ("var/tmp/a/b", Fate::Removed),
            ("var/log/syslog", Fate::Emptied),
            ("var/log/journal/1/system.journal", Fate::Removed),
            ("dev", Fate::Kept),
            ("dev/null", Fate::Removed),
            ("srv/dev/null", Fate::Kept),
            ("var/lib/cloud/instances", Fate::Removed),
            ("", Fate::Kept),
        ] {
            assert_eq!(fate(Path::new(path), false), fate_of_it, "{path}");
        }
        assert_eq!(fate(Path::new("var/log/nginx"), true), Fate::Kept);
    }

    /// The script and [`fate`] say the same.
    #[test]
    fn the_script_does_what_the_rules_say() {
        let root = tempfile::tempdir().unwrap();
        let files = [
            "etc/ssh/ssh_host_ed25519_key",
            "etc/ssh/sshd_config",
            "etc/machine-id",
            "home/ana/.ssh/authorized_keys",
            "home/ana/.bash_history",
            "home/ana/.profile",
            "root/.lesshst",
            "tmp/.hidden/file",
            "var/log/syslog",
            "var/log/journal/1/system.journal",
            "var/lib/cloud/data/instance-id",
            "var/lib/systemd/random-seed",
            "usr/bin/true",
            "etc/hosts",
            "etc/environment",
        ];
        let text = "127.0.0.1 localhost\n# posada: begin\nSECRET=1\n# posada: end\nlast\n";
        for file in files {
            let path = root.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let script = script().replace("cd /\n", &format!("cd '{}'\n", root.path().display()));
        let of_systemd = |line: &str| line.starts_with("systemctl") || line.starts_with("! command");
        let script: String =
            script.lines().filter(|line| !of_systemd(line)).map(|line| format!("{line}\n")).collect();
        let done = std::process::Command::new("sh").arg("-c").arg(script).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        for file in files {
            let path = root.path().join(file);
            let parents = Path::new(file).ancestors().skip(1);
            let gone = parents.into_iter().any(|parent| fate(parent, true) == Fate::Removed);
            let is = std::fs::read(&path).ok();
            let wanted = match fate(Path::new(file), false) {
                _ if gone => None,
                Fate::Removed => None,
                Fate::Emptied => Some(Vec::new()),
                Fate::Unblocked => Some(b"127.0.0.1 localhost\nlast\n".to_vec()),
                Fate::Kept => Some(text.into()),
            };
            assert_eq!(is, wanted, "{file}");
        }
        assert_eq!(unblocked(text.as_bytes()), b"127.0.0.1 localhost\nlast\n");
    }
}
