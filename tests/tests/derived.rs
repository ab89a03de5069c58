//! Boxes that were made for the other provider.

use std::path::PathBuf;
use std::process::Command;

use posada_tests::sandbox::Caller;
use posada_tests::{Sandbox, boxes};

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// What the box is called: all tests have one store.
const NAME: &str = "derived/vm";

/// A VMDK with the system that all tests run on, as VMware would have it.
fn vmdk(sandbox: &Sandbox) -> PathBuf {
    let folder = sandbox.project();
    let boxes = sandbox.json(&["box", "list"]);
    let debian = boxes.iter().find(|stored| stored["name"] == boxes::DEBIAN).expect("the tests' box");
    let tree =
        boxes::store(&Caller::Root).join("trees").join(debian["digest"].as_str().unwrap()).join("rootfs");
    let raw = folder.join("disk.raw");
    std::fs::File::create(&raw).unwrap().set_len(2 << 30).unwrap();
    run(Command::new("mke2fs").args(["-q", "-t", "ext4", "-F", "-d"]).arg(tree).arg(&raw));
    let args = ["convert", "-O", "vmdk", "-o", "subformat=monolithicSparse"];
    run(Command::new("qemu-img").args(args).arg(&raw).arg(folder.join("disk.vmdk")));
    std::fs::remove_file(raw).unwrap();
    folder.join("disk.vmdk")
}

#[test]
fn a_disk_of_another_hypervisor_comes_up_as_a_container() {
    let sandbox = Sandbox::with(&format!("box: {NAME}\nprovider: container\n"));
    // Of a run that was broken off.
    let _ = sandbox.run(&["box", "remove", NAME, "--all", "--force"]);
    let disk = vmdk(&sandbox);
    sandbox.ok(&["box", "import", disk.to_str().unwrap(), "--name", NAME]);
    std::fs::remove_file(disk).unwrap();
    let up = sandbox.json(&["up"]);
    assert!(up.iter().any(|event| event["phase"] == format!("extracting {NAME}")), "{up:?}");
    assert_eq!(sandbox.inside("whoami"), "posada");
    // What only attributes of files say has come along.
    assert_eq!(
        sandbox.inside("getcap /usr/bin/ping || /usr/sbin/getcap /usr/bin/ping"),
        "/usr/bin/ping cap_net_raw=ep"
    );
    sandbox.ok(&["destroy", "--force"]);
    // Both forms are one box to whoever asks.
    let listed = sandbox.ok(&["box", "list"]).stdout.clone();
    assert_eq!(listed.lines().filter(|line| line.starts_with(NAME)).count(), 2, "{listed}");
    sandbox.ok(&["box", "remove", NAME]);
    assert!(!sandbox.ok(&["box", "list"]).stdout.contains(NAME));
}
