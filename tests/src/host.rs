//! Pictures of the host, to compare before and after.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use crate::wait;

/// What a host holds that Posada could leave behind.
///
/// On a machine where other things go on, only what bears the mark of a test's sandbox (its path, its machine's
/// identity) or Posada's own name is taken; with `POSADA_TEST_QUIET_HOST` set, everything is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostSnapshot {
    mounts: BTreeSet<String>,
    cgroups: BTreeSet<String>,
    links: BTreeSet<String>,
    processes: BTreeSet<String>,
    files: BTreeSet<String>,
}

impl HostSnapshot {
    /// The host now. `marks`: what tells that something belongs to the test.
    #[must_use]
    pub fn take(marks: &[&str]) -> Self {
        let quiet = std::env::var_os("POSADA_TEST_QUIET_HOST").is_some();
        let ours =
            |text: &str| quiet || text.contains("posada") || marks.iter().any(|mark| text.contains(mark));
        Self {
            mounts: mounts().into_iter().filter(|line| ours(line)).collect(),
            cgroups: cgroups()
                .into_iter()
                .filter(|path| marks.iter().any(|mark| path.contains(mark)))
                .collect(),
            links: links().into_iter().filter(|name| ours(name)).collect(),
            processes: processes(marks),
            // posada's own go to the sandbox's TMPDIR; others may be building boxes in these folders meanwhile.
            files: temporary_files()
                .into_iter()
                .filter(|path| quiet || marks.iter().any(|mark| path.contains(mark)))
                .collect(),
        }
    }

    /// Waits until the host is again as in this picture: processes that were told to end, and what hangs on
    /// them, go a moment after the command that told them.
    ///
    /// # Panics
    /// Where it does not become so; tells what is left.
    #[track_caller]
    pub fn expect_again(&self, marks: &[&str]) {
        let mut now = Self::take(marks);
        let began = std::time::Instant::now();
        while now != *self && began.elapsed() < std::time::Duration::from_secs(5) {
            std::thread::sleep(std::time::Duration::from_millis(20));
            now = Self::take(marks);
        }
        assert!(now == *self, "the host is not as it was:\n{}", self.difference(&now));
    }

    fn difference(&self, now: &Self) -> String {
        let mut text = String::new();
        for (what, before, after) in [
            ("mount", &self.mounts, &now.mounts),
            ("cgroup", &self.cgroups, &now.cgroups),
            ("link", &self.links, &now.links),
            ("process", &self.processes, &now.processes),
            ("file", &self.files, &now.files),
        ] {
            for gone in before.difference(after) {
                let _ = writeln!(text, "  - {what}: {gone}");
            }
            for new in after.difference(before) {
                let _ = writeln!(text, "  + {what}: {new}");
            }
        }
        text
    }
}

/// Every mount of this namespace: where, what, with which options; without the ids that change.
fn mounts() -> Vec<String> {
    let text = fs::read_to_string("/proc/self/mountinfo").expect("/proc is mounted");
    text.lines()
        .map(|line| line.splitn(4, ' ').last().unwrap_or(line).to_owned())
        .filter(|line| !line.contains(" - cgroup "))
        .collect()
}

/// Every cgroup of every hierarchy.
fn cgroups() -> Vec<String> {
    fn walk(folder: &Path, into: &mut Vec<String>) {
        let Ok(entries) = fs::read_dir(folder) else { return };
        for entry in entries.flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                into.push(entry.path().display().to_string());
                walk(&entry.path(), into);
            }
        }
    }
    let mut found = Vec::new();
    walk(Path::new("/sys/fs/cgroup"), &mut found);
    found
}

/// Every network interface of this namespace.
fn links() -> Vec<String> {
    fs::read_dir("/sys/class/net")
        .map(|entries| {
            entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
        })
        .unwrap_or_default()
}

/// Every process that names a mark in its command line or cgroup, or has a mount that does: that finds also what
/// runs in a machine, whose root file system is an overlay with the machine's folder among its layers.
fn processes(marks: &[&str]) -> BTreeSet<String> {
    let me = std::process::id().to_string();
    let Ok(entries) = fs::read_dir("/proc") else { return BTreeSet::new() };
    entries
        .flatten()
        .filter_map(|entry| {
            let pid = entry.file_name().to_string_lossy().into_owned();
            if pid == me || !pid.bytes().all(|byte| byte.is_ascii_digit()) {
                return None;
            }
            let read = |file: &str| {
                fs::read(entry.path().join(file))
                    .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
                    .unwrap_or_default()
            };
            let command = read("cmdline").replace('\0', " ");
            let marked = |text: &str| marks.iter().any(|mark| text.contains(mark));
            // A process that has ended and was not waited for has none of these.
            (marked(&command)
                || marked(&read("cgroup"))
                || foreign_mounts(&entry.path()).is_some_and(|text| marked(&text)))
            .then(|| format!("{pid} {command}"))
        })
        .collect()
}

/// The mounts of a process whose mount namespace is not ours.
fn foreign_mounts(process: &Path) -> Option<String> {
    let theirs = fs::read_link(process.join("ns/mnt")).ok()?;
    let own = fs::read_link("/proc/self/ns/mnt").ok()?;
    if theirs == own {
        return None;
    }
    fs::read_to_string(process.join("mountinfo")).ok()
}

/// The first level of every folder that is made for temporary files.
fn temporary_files() -> Vec<String> {
    ["/tmp", "/var/tmp", "/run", "/run/lock", "/dev/shm"]
        .iter()
        .filter_map(|folder| fs::read_dir(folder).ok())
        .flat_map(|entries| entries.flatten().map(|entry| entry.path().display().to_string()))
        .collect()
}

/// The processes whose command line has all of `words`, oldest first.
#[must_use]
pub fn processes_with(words: &[&str]) -> Vec<i32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let mut found: Vec<i32> = entries
        .flatten()
        .filter_map(|entry| {
            let pid = entry.file_name().to_string_lossy().parse().ok()?;
            let command = fs::read(entry.path().join("cmdline")).ok()?;
            let command = String::from_utf8_lossy(&command).replace('\0', " ");
            words.iter().all(|word| command.contains(word)).then_some(pid)
        })
        .collect();
    found.sort_unstable();
    found
}

/// Waits until no process `pid` runs any more.
///
/// # Panics
/// Where it goes on.
#[track_caller]
pub fn gone(pid: i32) {
    wait::until_true(&format!("process {pid} to end"), || {
        fs::read_to_string(format!("/proc/{pid}/stat"))
            .map_or(true, |stat| stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('Z')))
    });
}
