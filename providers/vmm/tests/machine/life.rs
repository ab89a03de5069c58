//! How machines start, pause and end.

use std::time::Duration;

use posada_vmm::config::Boot;
use posada_vmm::machine::{Exit, Vm};

use crate::guest::Guest;

/// The tests of this file.
pub const ALL: &[(&str, fn())] = &[
    ("life::a_guest_switches_itself_off", a_guest_switches_itself_off),
    ("life::a_guest_resets_itself", a_guest_resets_itself),
    ("life::a_panic_is_noticed", a_panic_is_noticed),
    ("life::the_power_button_is_heard", the_power_button_is_heard),
    ("life::a_paused_guest_stands_still", a_paused_guest_stands_still),
    ("life::a_guest_is_killed", a_guest_is_killed),
    ("life::several_processors_and_more_memory_than_lies_below_the_hole", large),
    ("life::what_is_typed_is_read", what_is_typed_is_read),
    ("life::no_kernel_no_machine", no_kernel_no_machine),
];

fn a_guest_switches_itself_off() {
    Guest::plain("true").finish();
}

fn a_guest_resets_itself() {
    let mut guest = Guest::plain("reboot -f");
    guest.wait_for("POSADA-READY");
    assert_eq!(guest.exit(), Exit::Reset);
}

fn a_panic_is_noticed() {
    let guest = Guest::plain("modprobe pvpanic-mmio && echo c >/proc/sysrq-trigger");
    assert_eq!(guest.exit(), Exit::Panicked);
}

fn the_power_button_is_heard() {
    // What systemd-logind does: an event of the button's input device.
    let mut guest = Guest::plain("exec 3</dev/input/event0 && echo LISTENING && head -c 24 <&3 >/dev/null");
    guest.wait_for("LISTENING");
    guest.running.handle().press_power_button();
    guest.finish();
}

fn a_paused_guest_stands_still() {
    let mut guest = Guest::start("while :; do echo tick; sleep 0.1; done", |config| config.cpus = 2);
    guest.wait_for("tick");
    let handle = guest.running.handle();
    for _ in 0..3 {
        handle.pause();
        while guest.prints_within(Duration::from_millis(50)) {}
        assert!(!guest.prints_within(Duration::from_secs(1)), "it goes on");
        handle.resume();
        guest.wait_for("tick");
    }
    handle.pause();
    handle.kill();
    assert_eq!(guest.exit(), Exit::Killed);
}

fn a_guest_is_killed() {
    let mut guest = Guest::plain("while :; do :; done");
    guest.wait_for("POSADA-READY");
    guest.running.handle().kill();
    assert_eq!(guest.exit(), Exit::Killed);
}

fn large() {
    let script = "grep -c ^processor /proc/cpuinfo; grep MemTotal /proc/meminfo; echo ASKED";
    let mut guest = Guest::start(script, |config| {
        config.cpus = 3;
        config.memory = 6 << 30;
    });
    assert_eq!(guest.wait_for("3").trim(), "3");
    let memory = guest.wait_for("MemTotal");
    let kib: u64 = memory.split_whitespace().nth(1).expect("a number").parse().expect("a number");
    assert!(kib > 5_500_000, "{memory}");
    guest.finish();
}

fn what_is_typed_is_read() {
    let mut guest = Guest::plain("echo TYPE && read line && echo GOT $line");
    guest.wait_for("TYPE");
    guest.type_in("a line\n");
    guest.wait_for("GOT a line");
    guest.finish();
}

fn no_kernel_no_machine() {
    let (_ours, theirs) = std::os::unix::net::UnixStream::pair().expect("a socket pair");
    let refused = |kernel: &str| {
        let boot = Boot { kernel: kernel.into(), initrd: None, cmdline: String::new() };
        let config = posada_vmm::config::VmConfig {
            name: "test".to_owned(),
            cpus: 1,
            memory: 256 << 20,
            boot,
            serial: theirs.try_clone().expect("a descriptor").into(),
            devices: posada_vmm::config::Devices::default(),
        };
        Vm::build(config).err().expect("refused").to_string()
    };
    assert!(refused("/bin/busybox").contains("kernel"), "{}", refused("/bin/busybox"));
    assert!(refused("/nowhere/vmlinuz").contains("vmlinuz") || refused("/nowhere/vmlinuz").contains("read"));
}
