//! A virtual machine's day, as its user has it: a stock distribution's disk goes through `up`, provisioning, `reload`,
//! `halt` and `destroy`.
//!
//! Needs a KVM that runs stock kernels; where there is none, it is listed as ignored, and `make test-kvm` runs it.

use std::path::PathBuf;
use std::process::Command;

use libtest_mimic::{Arguments, Trial};
use posada_kvm::Facts;
use posada_provider_api::Availability;
use posada_tests::sandbox::Caller;
use posada_tests::{Sandbox, host, place};

/// Patience is for emulated CPUs; nothing waits for it that works.
const VMFILE: &str = "\
box: cloud/12
provider: kvm
memory: 640MiB
disk: 3GiB
graceful_timeout: 180s
ssh:
  boot_timeout: 600s
networks:
  - forward: \"auto:80\"
synced_folders:
  - ./shared:/srv/shared
env:
  GREETING: good morning
provision:
  - type: shell
    name: first
    inline: |
      test \"$(uname -n)\" = default
      echo first >>/root/steps
  - type: shell
    name: second
    inline: |
      echo second >>/root/steps
      test -e /srv/shared/go || { echo the door is shut >&2; exit 42; }
";

fn main() {
    let arguments = Arguments::from_args();
    let demanded = std::env::var_os("POSADA_TEST_NEEDS_KVM").is_some();
    let missing = !demanded && matches!(Facts::here().availability(), Availability::Unusable { .. });
    let trial = Trial::test("a_day_of_a_virtual_machine", || {
        day();
        Ok(())
    });
    libtest_mimic::run(&arguments, vec![trial.with_ignored_flag(missing)]).exit();
}

/// The folder of the stock image: told, or made.
fn image() -> PathBuf {
    if let Some(folder) = std::env::var_os("POSADA_TEST_IMAGE") {
        return PathBuf::from(folder).join("disk.qcow2");
    }
    let made = Command::new(place::workspace().join("tests/rig/image.sh")).output().expect("image.sh runs");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    PathBuf::from(String::from_utf8(made.stdout).expect("a path").trim()).join("disk.qcow2")
}

fn day() {
    let scratch = std::env::var_os("POSADA_TEST_SCRATCH").unwrap_or_else(|| "/var/tmp".into());
    let sandbox = Sandbox::below(Caller::Root, &PathBuf::from(scratch));
    sandbox.file("shared/from-host", "hello guest");
    sandbox.vmfile(VMFILE);
    sandbox.ok(&["box", "add", image().to_str().expect("text"), "--name", "cloud/12"]).says("cloud/12");

    // The second step fails: that is an error, the machine stays, and the first is done.
    sandbox.run(&["up"]).ended_with(6).says("second").says("the door is shut");
    assert_eq!(sandbox.state("default").as_deref(), Some("running"));
    assert_eq!(sandbox.inside("sudo cat /root/steps"), "first\nsecond");
    assert_eq!(sandbox.inside("echo $GREETING"), "good morning");

    // A folder of the host, both ways.
    assert_eq!(sandbox.inside("cat /srv/shared/from-host"), "hello guest");
    sandbox.inside("echo hello host >/srv/shared/go");
    let made = sandbox.project().join("shared/go");
    assert_eq!(std::fs::read_to_string(&made).expect("it is there"), "hello host\n");

    // The disk has grown, and the process that runs the machine has nothing it does not need.
    let size: u64 = sandbox.inside("df --output=size -B1 / | tail -1").trim().parse().expect("a number");
    assert!(size > 2_500_000_000, "{size}");
    confined();

    // `up` goes on at the step that failed.
    sandbox.ok(&["up"]);
    assert_eq!(sandbox.inside("sudo cat /root/steps"), "first\nsecond\nsecond");
    sandbox.inside("sudo sh -c 'echo kept >/root/kept && sync'");
    reboot(&sandbox);

    sandbox.ok(&["reload"]);
    assert_eq!(sandbox.inside("sudo cat /root/kept"), "kept");
    assert_eq!(sandbox.inside("cat /srv/shared/from-host"), "hello guest");

    let halted = sandbox.json(&["halt"]);
    assert!(halted.iter().all(|event| event["forced"] != true), "{halted:?}");
    assert_eq!(sandbox.state("default").as_deref(), Some("stopped"));
    assert!(supervisors().is_empty(), "its supervisor ends with it");
    let disk = sandbox.machine_folder().join("top/disk.qcow2");
    let check = Command::new("qemu-img").arg("check").arg(&disk).output().expect("qemu-img runs");
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stdout));

    packed(&sandbox);
    sandbox.ok(&["destroy", "--force"]);
    assert!(sandbox.machine_folders().is_empty());
}

/// The machine becomes a box: with what was made in it, without what is its own, and without a change to its own disk.
fn packed(sandbox: &Sandbox) {
    let disk = sandbox.machine_folder().join("top/disk.qcow2");
    let before = std::fs::metadata(&disk).expect("its disk").modified().expect("a time");
    sandbox.ok(&["package"]);
    assert_eq!(std::fs::metadata(&disk).expect("its disk").modified().expect("a time"), before);
    assert!(supervisors().is_empty(), "the copy that was cleaned is gone");
    assert!(!sandbox.machine_folder().join("packing").exists());

    let script = "set -e; tar xOf package.box metadata.json; tar xf package.box box.img; qemu-img check -q box.img
        qemu-img convert -O raw box.img box.raw; rm box.img
        disk=\"box.raw?offset=$((512 * $(sfdisk -d box.raw | sed -n 's/.*start= *\\([0-9]*\\),.*/\\1/p' | head -n 1)))\"
        # What a boot does with files that were removed while they were open; after that there is nothing to mend.
        e2fsck -p \"$disk\" >&2 || [ $? -eq 1 ]
        e2fsck -fn \"$disk\" >&2
        for path in /etc/ssh /root /var/log/journal /var/lib/cloud; do echo \"$path:\"; debugfs -R \"ls -p $path\" \"$disk\" 2>/dev/null; done
        for path in /root/kept /etc/machine-id /etc/environment; do echo \"$path:\"; debugfs -R \"cat $path\" \"$disk\" 2>/dev/null; done";
    let looked =
        Command::new("bash").args(["-c", script]).current_dir(sandbox.project()).output().expect("bash runs");
    let seen = String::from_utf8_lossy(&looked.stdout).into_owned();
    assert!(looked.status.success(), "{seen}{}", String::from_utf8_lossy(&looked.stderr));
    for there in [
        "\"provider\":\"libvirt\"",
        "/sshd_config/",
        "/steps/",
        "/root/kept:\nkept\n/etc/machine-id:\n/etc/environment:\n",
    ] {
        assert!(seen.contains(there), "{there}: {seen}");
    }
    for own in ["ssh_host_", "authorized_keys", "/.ssh/", "system.journal", "/instances/", "good morning"] {
        assert!(!seen.contains(own), "{own}: {seen}");
    }
}

/// A guest that reboots is the same machine with the same supervisor, another time round. By force, as sshd is there up
/// to the end then: the session ends with the boot, and what comes after it meets the next one.
fn reboot(sandbox: &Sandbox) {
    let boot = || sandbox.inside("cat /proc/sys/kernel/random/boot_id");
    let before = (boot(), supervisors());
    sandbox
        .run(&["ssh", "-c", "sudo reboot --force; exec sleep infinity"])
        .ended_with(5)
        .says("the connection to the machine broke");
    sandbox.ok(&["up"]);
    let after = (boot(), supervisors());
    assert_ne!(before.0, after.0);
    assert_eq!(before.1, after.1);
    assert_eq!(sandbox.inside("sudo cat /root/steps"), "first\nsecond\nsecond");
}

fn supervisors() -> Vec<i32> {
    host::processes_with(&[posada_kvm::supervise::ENTRY])
}

fn confined() {
    let [pid] = supervisors()[..] else { panic!("one supervisor: {:?}", supervisors()) };
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("status");
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_whitespace().nth(1).unwrap_or_default().to_owned()
    };
    assert_eq!(field("NoNewPrivs:"), "1");
    assert_eq!(field("Seccomp:"), "2");
    // CAP_SETGID and CAP_SETUID (capabilities(7), numbers 6 and 7).
    assert_eq!(field("CapEff:"), "00000000000000c0");
}
