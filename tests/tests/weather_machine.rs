//! What happens to a machine from inside it and from outside of Posada: it runs out of memory, floods its console,
//! its supervisor stops.

use std::fs;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use posada_tests::{HostSnapshot, Sandbox};

const VMFILE: &str = "box: debian/12\nprovider: container\n";

/// The supervisor, which signs the lock that it holds.
#[track_caller]
fn supervisor(sandbox: &Sandbox) -> Pid {
    let said = fs::read_to_string(sandbox.machine_folder().join("alive")).unwrap();
    Pid::from_raw(said.parse().expect("a process id"))
}

#[test]
fn a_supervisor_that_does_not_answer_is_told_and_ended() {
    let sandbox = Sandbox::with(VMFILE);
    let root = sandbox.root().display().to_string();
    let before = HostSnapshot::take(&[&root]);
    sandbox.ok(&["up"]);
    let id = sandbox.machine_id();
    let pid = supervisor(&sandbox);
    kill(pid, Signal::SIGSTOP).unwrap();
    sandbox
        .run(&["status"])
        .ended_with(4)
        .says("does not answer")
        .says(&pid.to_string())
        .says("halt --force");
    sandbox.ok(&["halt", "--force"]);
    assert_eq!(sandbox.state("default").as_deref(), Some("stopped"));

    sandbox.ok(&["up"]);
    kill(supervisor(&sandbox), Signal::SIGSTOP).unwrap();
    sandbox.ok(&["destroy", "--force"]);
    before.expect_again(&[&root, &id]);
}

#[test]
fn a_console_that_is_flooded_costs_bounded_room_and_nothing_else() {
    let sandbox = Sandbox::with(VMFILE);
    sandbox.ok(&["up"]);
    // Six times what is kept.
    sandbox.inside("sudo sh -c 'head -c 6000000 /dev/urandom > /dev/console'");
    let folder = sandbox.machine_folder();
    let kept: u64 = ["console.log", "console.log.1"]
        .iter()
        .filter_map(|name| fs::metadata(folder.join(name)).ok())
        .map(|metadata| metadata.len())
        .sum();
    assert!((1_000_000..=2 << 20).contains(&kept), "{kept} bytes are kept");
    assert_eq!(sandbox.inside("echo alive"), "alive");
    sandbox.ok(&["reload"]);
    assert_eq!(sandbox.inside("echo alive"), "alive");
}

#[test]
fn a_machine_that_powers_itself_off_is_stopped_and_one_that_reboots_is_not() {
    let sandbox = Sandbox::with(VMFILE);
    sandbox.ok(&["up"]);
    let boot = sandbox.inside("systemctl show -p UserspaceTimestampMonotonic");
    // The connection breaks while it goes down; what counts is what becomes of it.
    let _ = sandbox.run(&["ssh", "-c", "sudo systemctl reboot"]);
    sandbox.ok(&["up"]);
    assert_ne!(sandbox.inside("systemctl show -p UserspaceTimestampMonotonic"), boot, "it booted again");
    let _ = sandbox.run(&["ssh", "-c", "sudo systemctl poweroff"]);
    // It is brought up again from wherever it is on its way down.
    sandbox.ok(&["up"]);
    assert_eq!(sandbox.inside("echo alive"), "alive");
}
