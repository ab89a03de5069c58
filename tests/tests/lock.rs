//! `Vmfile.lock`: written by `up`, kept to by it, refused by `--locked` where something differs, moved by `box update`.

use std::os::unix::fs::PermissionsExt as _;

use posada_tests::Sandbox;
use posada_tests::sandbox::Caller;
use serde_json::Value;

/// A root file system that has an init, and never runs: what is made from it is not started here.
fn archive(sandbox: &Sandbox, text: &str) -> String {
    let root = sandbox.root().join("tree");
    std::fs::create_dir_all(root.join("sbin")).expect("a folder");
    std::fs::create_dir_all(root.join("etc")).expect("a folder");
    std::fs::write(root.join("etc/motd"), text).expect("a file");
    std::fs::write(root.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\n").expect("a file");
    let init = root.join("sbin/init");
    std::fs::write(&init, "#!/bin/sh\n").expect("a file");
    std::fs::set_permissions(&init, std::fs::Permissions::from_mode(0o755)).expect("a mode");
    let file = sandbox.root().join(format!("{text}.tar"));
    let made = std::process::Command::new("tar").arg("-cf").arg(&file).arg("-C").arg(&root).arg(".").status();
    assert!(made.expect("tar runs").success());
    file.display().to_string()
}

fn lock(sandbox: &Sandbox) -> Value {
    let text = std::fs::read(sandbox.project().join("Vmfile.lock")).expect("a lock file");
    serde_json::from_slice(&text).expect("JSON")
}

fn made_from(sandbox: &Sandbox) -> String {
    let text = std::fs::read(sandbox.machine_folder().join("machine.json")).expect("a machine");
    let record: Value = serde_json::from_slice(&text).expect("JSON");
    record["box_version"].as_str().expect("a version").to_owned()
}

#[test]
fn up_keeps_to_the_box_it_was_first_made_from_and_box_update_moves_on() {
    let sandbox = Sandbox::bare(Caller::Root);
    // The init ends at once, so that `up` fails after the machine was made.
    let up = |arguments: &[&str]| sandbox.run(&[&["up"], arguments].concat());
    let add = |text: &str, version: &str| {
        sandbox.ok(&[
            "box",
            "add",
            &archive(&sandbox, text),
            "--name",
            "team/web",
            "--version",
            version,
            "-f",
        ]);
    };
    let again = |arguments: &[&str]| {
        sandbox.ok(&["destroy", "-f"]);
        up(arguments)
    };
    sandbox.vmfile("box: team/web\nprovider: container\nssh: {boot_timeout: 1s}\n");
    add("one", "1.0");
    up(&["--locked"]).ended_with(3).says("there is no").says("Vmfile.lock").says("without `--locked`");
    assert!(sandbox.machine_folders().is_empty(), "nothing was made");
    let _ = up(&[]);
    assert_eq!(lock(&sandbox)["boxes"]["team/web"]["rootfs"]["version"], "1.0");

    // A newer one is there, and not taken.
    add("two", "2.0");
    let _ = again(&[]);
    assert_eq!(made_from(&sandbox), "1.0");
    sandbox.ok(&["box", "update"]).says("1.0 → 2.0");
    assert_eq!(lock(&sandbox)["boxes"]["team/web"]["rootfs"]["version"], "2.0");
    // The machine is still the old one's.
    up(&["--locked"]).ended_with(3).says("default was made from team/web 1.0");
    let _ = again(&["--locked"]);
    assert_eq!(made_from(&sandbox), "2.0");

    // The same version with other content, and then none at all.
    add("three", "2.0");
    again(&["--locked"]).ended_with(3).says("team/web 2.0 with the digest");
    let before = lock(&sandbox);
    again(&[]).says("Vmfile.lock names");
    assert_eq!(made_from(&sandbox), "2.0");
    assert_eq!(lock(&sandbox), before, "it is moved by `box update`, and by nothing else");
    sandbox.ok(&["destroy", "-f"]);
    sandbox.ok(&["box", "remove", "team/web", "--all"]);
    up(&["--locked"]).ended_with(3).says("cannot be had");

    // One that nobody can read is not taken for none.
    sandbox.file("Vmfile.lock", "{\"format\": 1, \"boxes\": 7}");
    for arguments in [&["--locked"][..], &[]] {
        up(arguments).ended_with(3).says("Vmfile.lock is wrong");
    }
    sandbox.file("Vmfile.lock", "{\"format\": 9, \"boxes\": {}, \"scripts\": {}}");
    up(&[]).ended_with(3).says("format 9");
}

#[test]
fn scripts_are_what_they_were_or_refused() {
    let sandbox = Sandbox::with(
        "box: debian/12\nprovider: container\nenv: {WHO: ana}\nprovision:\n  - {type: shell, name: setup, path: setup.sh}\n  \
         - {type: file, source: files, destination: /tmp/files}\n  - {type: shell, inline: 'true', sensitive: true}\n",
    );
    sandbox.file("setup.sh", "echo one");
    sandbox.file("files/a", "one");
    sandbox.ok(&["up"]);
    let written = lock(&sandbox);
    let scripts = written["scripts"]["default"].as_array().expect("a list");
    assert_eq!(scripts.len(), 2, "what is sensitive is not written down, not even as a digest: {written}");
    sandbox.ok(&["up", "--locked"]);

    sandbox.file("setup.sh", "echo two");
    sandbox.file("files/b", "new");
    sandbox
        .run(&["up", "--locked"])
        .ended_with(3)
        .says("the step `setup` of default is another one")
        .says("the step 2 of default is another one");
    assert_eq!(lock(&sandbox), written);
    sandbox.ok(&["up"]);
    assert_ne!(lock(&sandbox), written);
    sandbox.ok(&["up", "--locked"]);
    // What no machine needs any more goes.
    sandbox.vmfile("box: debian/12\nprovider: container\n");
    sandbox.run(&["up", "--locked"]).ended_with(3).says("default has no step `setup` any more");
    sandbox.ok(&["up"]);
    assert!(lock(&sandbox)["scripts"].as_object().expect("a map").is_empty());
}

#[test]
fn a_lock_file_that_cannot_be_read_is_told() {
    let sandbox = Sandbox::with("box: debian/12\nprovider: container\n");
    std::fs::create_dir(sandbox.project().join("Vmfile.lock")).expect("a folder");
    sandbox.run(&["up"]).ended_with(4).says("Vmfile.lock");
}
