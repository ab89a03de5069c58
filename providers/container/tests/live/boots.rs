//! A machine boots, and ends, in every way.

use std::path::Path;

use libtest_mimic::Trial;
use posada_container::Ended;

use crate::rig::Machine;
use crate::trial;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("boots_without_a_failed_unit_and_halts", boots_and_halts),
        trial("reboots_and_keeps_its_files", reboots),
        trial("dies_when_it_is_killed_even_frozen", dies),
        trial("limits_are_set_and_enforced", limits),
    ]
}

pub async fn boots_and_halts() {
    let machine = Machine::new("web");
    let live = machine.start().await.unwrap();
    assert_eq!(live.boot(), "running", "{}", live.out("systemctl --failed"));
    assert_eq!(live.out("hostname"), "web");
    assert_eq!(live.out("cat /proc/1/comm"), "systemd");
    assert!(live.console().contains("Reached target"), "{}", live.console());
    live.keeper.ask_to_stop().unwrap();
    assert_eq!(live.end().await, Ended::Halted);
    assert!(!machine.dir.runtime().exists());
}

pub async fn reboots() {
    let machine = Machine::new("web");
    let live = machine.start().await.unwrap();
    live.boot();
    let id = live.out("echo kept > /srv/file; cat /etc/machine-id");
    live.out("systemctl reboot");
    assert_eq!(live.end().await, Ended::Rebooted);

    let live = machine.start().await.unwrap();
    assert_eq!(live.boot(), "running");
    assert_eq!(live.out("cat /srv/file; cat /etc/machine-id"), format!("kept\n{id}"));
    live.out("systemctl poweroff");
    assert_eq!(live.end().await, Ended::Halted);
}

pub async fn dies() {
    let machine = Machine::new("web");
    let live = machine.start().await.unwrap();
    live.boot();
    live.keeper.freeze().unwrap();
    let group = group_of(live.init_pid);
    let frozen = || std::fs::read_to_string(format!("{group}/cgroup.events")).unwrap().contains("frozen 1");
    assert!(frozen());
    live.keeper.thaw().unwrap();
    assert_eq!(live.out("echo alive"), "alive");
    live.keeper.freeze().unwrap();
    live.keeper.kill().unwrap();
    assert_eq!(live.end().await, Ended::Died("its init was killed by signal 9".to_owned()));
    assert!(!Path::new(&group).exists());
}

/// The version 2 group of the machine whose init is `pid`.
fn group_of(pid: i32) -> String {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    let mount = mounts.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(' ').collect();
        (fields[2] == "cgroup2").then(|| fields[1].to_owned())
    });
    let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let own = groups.lines().find_map(|line| line.strip_prefix("0::")).unwrap();
    format!("{}{}", mount.unwrap(), own.strip_suffix("/init.scope").unwrap_or(own))
}

async fn limits() {
    let mut machine = Machine::new("small");
    machine.spec.cpus = Some(1);
    machine.spec.memory = Some(256 << 20);
    machine.spec.pids = Some(60);
    let live = machine.start().await.unwrap();
    assert_eq!(live.warnings, Vec::<String>::new());
    live.boot();
    // More processes than there may be: forks fail, and the machine lives.
    let script = "i=0; while [ $i -lt 100 ]; do sleep 60 & i=$((i+1)); done; true";
    let refused =
        live.out(&format!("systemd-run --quiet --pipe --wait /bin/bash -c '{script}' 2>&1 || true"));
    assert!(refused.contains("Resource temporarily unavailable"), "{refused}");
    // More memory than there is: the kernel ends the program, not the machine.
    let script = r#"systemd-run --quiet --pipe --wait /usr/bin/perl -e '$x = "x" x (400 << 20); print length $x' 2>&1"#;
    let output = live.sh(script);
    assert!(!output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert_eq!(live.out("echo alive"), "alive");
    let version1 = std::fs::read_to_string(format!("/proc/{}/cgroup", live.init_pid)).unwrap();
    let version1 =
        version1.lines().find_map(|line| line.split_once(":cpu:").map(|(_, path)| path.to_owned()));
    let quota = match version1 {
        Some(own) => std::fs::read_to_string(format!("/sys/fs/cgroup/cpu{own}/cpu.cfs_quota_us")),
        None => std::fs::read_to_string(format!("{}/cpu.max", group_of(live.init_pid))),
    };
    assert!(quota.as_ref().is_ok_and(|text| text.starts_with("100000")), "{quota:?}");
    live.keeper.kill().unwrap();
    live.end().await;
}
