//! The same for an ordinary user with subordinate ids and a control group of its own, as a login gives it.

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use libtest_mimic::{Failed, Trial};

use crate::{boots, folders, inside, rig, run};

/// Plays a scenario as whoever runs it.
pub const SCENARIO: &str = "__scenario";

const USER: &str = "posada-test";

/// The scenario that is played where `/dev/net/tun` is not.
const WITHOUT_TUN: &str = "a_cable_without_tun";

type Scenario = fn() -> Result<(), String>;

const SCENARIOS: [(&str, Scenario); 11] = [
    ("boots_and_halts", || run(boots::boots_and_halts)),
    ("reboots", || run(boots::reboots)),
    ("dies", || run(boots::dies)),
    ("logs_in", || run(inside::logs_in)),
    ("sudo_and_apt", || run(inside::sudo_and_apt)),
    ("folder_owners", || run(folders::owners)),
    ("read_only_folder", || run(folders::read_only)),
    ("a_killed_supervisor", || run(crate::crashes::supervisor)),
    ("a_killed_keeper", || run(crate::crashes::keeper)),
    (WITHOUT_TUN, || run(inside::has_a_cable)),
    ("no_power", || run(crate::attacks::no_power)),
];

pub fn trials() -> Vec<Trial> {
    SCENARIOS
        .iter()
        .map(|(name, _)| Trial::test(format!("as_an_ordinary_user::{name}"), move || as_user(name)))
        .collect()
}

pub fn play(args: &[OsString]) -> ExitCode {
    let scenario = SCENARIOS.iter().find(|(name, _)| args == [OsString::from(name)]);
    match scenario.map(|(_, play)| play()) {
        Some(Ok(())) => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

/// Runs a scenario as the test user.
fn as_user(scenario: &str) -> Result<(), Failed> {
    let group = prepare();
    let mut command = in_group(&group, &[SCENARIO, scenario]);
    if scenario == WITHOUT_TUN {
        // SAFETY: only system calls between fork and exec.
        unsafe { command.pre_exec(hide_tun) };
    }
    let output = command.output()?;
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() { Ok(()) } else { Err(format!("{}\n{told}", output.status).into()) }
}

fn hide_tun() -> std::io::Result<()> {
    use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS)?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    Ok(mount("none", "/dev/net", "tmpfs", MountFlags::empty(), c"")?)
}

/// A command of ours as the test user, in its control group.
fn in_group(group: &Path, args: &[&str]) -> Command {
    let exe = std::env::current_exe().unwrap();
    let script = r#"echo $$ > "$1/cgroup.procs" && shift && exec setpriv --reuid posada-test --regid posada-test --init-groups -- "$@""#;
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script, "sh"]).arg(group).arg(exe).args(args).stdin(Stdio::null()).current_dir("/");
    command
}

/// Makes the user, gives it what a login gives, and a box of its own. Returns its control group.
fn prepare() -> PathBuf {
    let lock = File::create(rig::place().join("ordinary.lock")).unwrap();
    lock.lock().unwrap();
    if !id("-u").status.success() {
        let made =
            Command::new("useradd").args(["--create-home", "--shell", "/bin/bash", USER]).status().unwrap();
        assert!(made.success(), "useradd");
    }
    let number =
        |option: &str| -> u32 { String::from_utf8(id(option).stdout).unwrap().trim().parse().unwrap() };
    let (uid, gid) = (number("-u"), number("-g"));
    let group = group(uid, gid);
    let place = PathBuf::from(format!("/var/tmp/posada-live-{uid}"));
    if !place.join("debian-box").exists() {
        fs::create_dir_all(&place).unwrap();
        chown(&place, Some(uid), Some(gid)).unwrap();
        unpack(&group, &place);
    }
    group
}

fn id(option: &str) -> std::process::Output {
    Command::new("id").args([option, USER]).output().unwrap()
}

/// A delegated control group, as systemd gives at a login.
fn group(uid: u32, gid: u32) -> PathBuf {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let mount = mounts.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(' ').collect();
        (fields[2] == "cgroup2").then(|| PathBuf::from(fields[1]))
    });
    let group = mount.expect("version 2 control groups are mounted").join("posada-live.slice");
    fs::create_dir_all(&group).unwrap();
    for file in ["", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"] {
        chown(group.join(file), Some(uid), Some(gid)).unwrap();
    }
    group
}

/// Unpacks the box as root of the user's ids, the way the store does.
fn unpack(group: &Path, place: &Path) {
    let part = place.join("debian-box.part");
    let _ = fs::remove_dir_all(&part);
    let tree = rig::debian();
    let mut packer = Command::new("tar")
        .args(["--exclude=./dev/*", "--numeric-owner", "-C"])
        .arg(tree)
        .args(["-c", "."])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let script = r#"mkdir "$0" && chmod 755 "$0" && tar -C "$0" --numeric-owner -xp"#;
    let unpacked = in_group(group, &[posada_userns::ENTRY, "--", "/bin/sh", "-c", script])
        .arg(&part)
        .stdin(packer.stdout.take().unwrap())
        .output()
        .unwrap();
    assert!(unpacked.status.success(), "{}", String::from_utf8_lossy(&unpacked.stderr));
    assert!(packer.wait().unwrap().success());
    fs::rename(part, place.join("debian-box")).unwrap();
}
