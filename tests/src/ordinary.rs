//! An ordinary user, as a login on a usual host makes one: subordinate ids, a cgroup of its own, /dev/net/tun.

use std::ffi::CString;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::unistd::{Gid, Uid, User, chown};

use crate::{boxes::open_folder, place};

const NAME: &str = "posada-test";

/// An ordinary user made for the tests.
#[derive(Debug, Clone)]
pub struct Ordinary {
    uid: Uid,
    gid: Gid,
    name: String,
    cgroup: PathBuf,
}

impl Ordinary {
    /// The user `posada-test`, made where it is not there, with what a login gives: a cgroup to do with as it
    /// likes, and the right to open /dev/net/tun, which most hosts give to all.
    ///
    /// # Panics
    /// Where the caller is not root, or a step fails.
    #[must_use]
    pub fn new() -> Self {
        place::needs_root();
        open_folder(&place::cache());
        let lock = File::create(place::cache().join("user.lock")).expect("the cache can be written");
        lock.lock().expect("the cache can be locked");
        if User::from_name(NAME).expect("users can be looked up").is_none() {
            let made = Command::new("useradd")
                .args(["--create-home", "--shell", "/bin/bash", NAME])
                .output()
                .expect("useradd can be run");
            assert!(made.status.success(), "useradd: {}", String::from_utf8_lossy(&made.stderr));
        }
        let user = User::from_name(NAME).expect("users can be looked up").expect("it was just made");
        assert!(
            fs::read_to_string("/etc/subuid").unwrap_or_default().contains(NAME),
            "useradd gave no subordinate ids to {NAME}: see /etc/login.defs"
        );
        let tun = Path::new("/dev/net/tun");
        fs::set_permissions(tun, fs::Permissions::from_mode(0o666)).expect("/dev/net/tun is there");
        let ordinary = Self {
            uid: user.uid,
            gid: user.gid,
            name: NAME.to_owned(),
            cgroup: delegate(user.uid, user.gid),
        };
        drop(lock);
        ordinary
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its user id.
    #[must_use]
    pub fn uid(&self) -> u32 {
        self.uid.as_raw()
    }

    /// The cgroup that was given to it.
    #[must_use]
    pub fn cgroup(&self) -> &Path {
        &self.cgroup
    }

    /// Gives `path` to it.
    ///
    /// # Panics
    /// Where that fails.
    pub fn own(&self, path: &Path) {
        chown(path, Some(self.uid), Some(self.gid))
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }

    /// Lets `command` start as this user, in its cgroup.
    ///
    /// # Panics
    /// Never: the paths have no zero bytes.
    pub fn become_by(&self, command: &mut Command) {
        let procs =
            CString::new(self.cgroup.join("cgroup.procs").as_os_str().as_bytes()).expect("no zero byte");
        let name = CString::new(self.name.as_str()).expect("no zero byte");
        let (uid, gid) = (self.uid, self.gid);
        command.env("USER", &self.name).env("LOGNAME", &self.name);
        // SAFETY: between fork and exec only system calls are made, on values made before; initgroups(3) reads
        // /etc/group, which in a child of a threaded parent is at risk of a held allocator lock only: glibc
        // takes care of that one in fork(2).
        unsafe {
            command.pre_exec(move || {
                let file = nix::fcntl::open(
                    procs.as_c_str(),
                    nix::fcntl::OFlag::O_WRONLY,
                    nix::sys::stat::Mode::empty(),
                )?;
                nix::unistd::write(&file, b"0")?;
                drop(file);
                nix::unistd::initgroups(&name, gid)?;
                nix::unistd::setgid(gid)?;
                nix::unistd::setuid(uid)?;
                Ok(())
            });
        }
    }
}

impl Default for Ordinary {
    fn default() -> Self {
        Self::new()
    }
}

/// Where cgroup v2 is mounted, also beside v1.
///
/// # Panics
/// Where it is not.
#[must_use]
pub fn cgroup2() -> PathBuf {
    let mounts = fs::read_to_string("/proc/self/mounts").expect("/proc is mounted");
    mounts
        .lines()
        .map(|line| line.split(' ').collect::<Vec<_>>())
        .find(|fields| fields.get(2) == Some(&"cgroup2"))
        .map_or_else(|| panic!("cgroup v2 is not mounted"), |fields| PathBuf::from(fields[1]))
}

/// Makes a cgroup that belongs to the user, as systemd does at a login.
fn delegate(uid: Uid, gid: Gid) -> PathBuf {
    let root = cgroup2();
    let group = root.join(format!("user-{uid}.slice"));
    fs::create_dir_all(&group).unwrap_or_else(|error| panic!("{}: {error}", group.display()));
    // On a host whose controllers are in v1 hierarchies there is nothing to hand down.
    let available = fs::read_to_string(root.join("cgroup.controllers")).unwrap_or_default();
    for controller in
        ["cpu", "memory", "pids"].iter().filter(|name| available.split_whitespace().any(|a| a == **name))
    {
        fs::write(root.join("cgroup.subtree_control"), format!("+{controller}"))
            .unwrap_or_else(|error| panic!("the {controller} controller cannot be handed down: {error}"));
    }
    for file in ["", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"] {
        let path = if file.is_empty() { group.clone() } else { group.join(file) };
        chown(&path, Some(uid), Some(gid)).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
    group
}
