//! A machine becomes a box, and the box a machine that has nothing of the first one's own.

use std::process::Command;

use posada_tests::sandbox::Caller;
use posada_tests::{Ordinary, Sandbox};

const VMFILE: &str = "\
box: debian/12
provider: container
env:
  TOKEN: hunter2
provision:
  - type: shell
    inline: |
      umask 022
      echo made >/srv/made
      ln /srv/made /srv/again
      ln -s made /srv/link
      mkfifo /srv/pipe
      name=$(printf 'a%.0s' $(seq 120))
      mkdir -p \"/srv/$name\"
      echo deep >\"/srv/$name/$name\"
      ln -s \"/srv/$name/$name\" /srv/far
      chown 1000:33 /srv/again
      rm -r /usr/share/doc
      mkdir /usr/share/doc
      touch /usr/share/doc/new
      rm /etc/issue
      echo hunter2 >/root/.bash_history
      echo hunter2 >/tmp/left
      echo hunter2 >/var/log/said
      install -d -o 1000 -g 1000 -m 700 /home/posada/.ssh
      echo hunter2 >/home/posada/.ssh/id_ed25519
";

/// What is asked in both machines: of what was provisioned, all is there.
const LOOK: &str = "cat /srv/link /srv/far; stat -c '%n %F %a %u:%g %h' /srv/made /srv/pipe /tmp; ls /usr/share/doc; \
                    test ! -e /etc/issue; getfattr --absolute-names -d -m security.capability /usr/bin/ping 2>/dev/null || :";

fn a_machine_is_packed_and_made_again(sandbox: &Sandbox, other: &Sandbox) {
    sandbox.vmfile(VMFILE);
    sandbox.ok(&["up"]);
    let first = sandbox.inside(LOOK);
    assert!(
        first.starts_with("made\ndeep\n") && first.contains("/srv/made regular file 644 1000:33 2"),
        "{first}"
    );
    let id = sandbox.inside("cat /etc/machine-id");
    let host_keys = sandbox.inside("cat /etc/ssh/ssh_host_*.pub");

    let events = sandbox.json(&["package", "--output", "web.box"]);
    let packaged = events.iter().find(|event| event["event"] == "packaged").expect("an event");
    let file = sandbox.project().join("web.box");
    assert_eq!(packaged["size"], file.metadata().expect("the file").len());
    assert_eq!(sandbox.state("default").as_deref(), Some("stopped"));
    // What is there is not written over, and the machine is not even looked at.
    sandbox.run(&["package", "-o", "web.box"]).ended_with(2).says("web.box").says("--force");
    // Once more is the same, bit for bit.
    sandbox.ok(&["package", "-o", "again.box"]);
    let again = sandbox.project().join("again.box");
    assert!(
        std::fs::read(&file).expect("it") == std::fs::read(&again).expect("it"),
        "two boxes of one machine differ"
    );

    // As vagrant-lxc unpacks it.
    let list = Command::new("sh")
        .args(["-c", "tar xOf \"$1\" rootfs.tar.gz | tar tzv --numeric-owner", "sh"])
        .arg(&file)
        .output()
        .expect("tar runs");
    let list = String::from_utf8_lossy(&list.stdout);
    assert!(list.contains(" ./rootfs/srv/made") && list.contains(" 0/0 "), "{list}");
    for own in ["ssh_host_", ".bash_history", "/tmp/left", "posada/.ssh", "system.journal"] {
        assert!(!list.contains(own), "{own}");
    }
    let text = Command::new("sh")
        .args(["-c", "tar xOf \"$1\" rootfs.tar.gz | gzip -dc | grep -a -c hunter2", "sh"])
        .arg(&file)
        .output()
        .expect("grep runs");
    assert_eq!(String::from_utf8_lossy(&text.stdout).trim(), "0", "the box holds secrets of the machine");

    let path = file.to_str().expect("text");
    other.vmfile(&format!("box: {path}\nprovider: container\nhostname: other\n"));
    other.ok(&["up"]);
    assert_eq!(other.inside(LOOK), first);
    assert_eq!(other.inside("cat /var/log/said; whoami; uname -n"), "posada\nother");
    assert_ne!(other.inside("cat /etc/machine-id"), id);
    assert_ne!(other.inside("cat /etc/ssh/ssh_host_*.pub"), host_keys);

    // The first one goes on as it was.
    sandbox.ok(&["up"]);
    assert_eq!(sandbox.inside("cat /etc/machine-id"), id);
    assert_eq!(
        sandbox.inside("cat /var/log/said; sudo cat /root/.bash_history; echo $TOKEN"),
        "hunter2\nhunter2\nhunter2"
    );
}

#[test]
fn a_machine_of_roots() {
    let sandbox = Sandbox::new();
    a_machine_is_packed_and_made_again(&sandbox, &Sandbox::bare(Caller::Root));
}

#[test]
fn a_machine_of_an_ordinary_users() {
    let user = Ordinary::new();
    let sandbox = Sandbox::rootless(&user);
    a_machine_is_packed_and_made_again(&sandbox, &Sandbox::bare(Caller::Ordinary(user.clone())));
}

#[test]
fn into_the_store_and_what_is_not_there() {
    let sandbox = Sandbox::with("box: debian/12\nprovider: container\n");
    sandbox.run(&["package"]).ended_with(2).says("posada up");
    sandbox.ok(&["up"]);
    sandbox.run(&["package", "nobody"]).ended_with(2).says("nobody");
    sandbox.run(&["package", "-o", "nowhere/a.box"]).ended_with(4).says("nowhere");
    let name = format!("packed/{}", std::process::id());
    let events = sandbox.json(&["package", "--as", &name, "--version", "1.2"]);
    let packaged = events.iter().find(|event| event["event"] == "packaged").expect("an event");
    assert_eq!(packaged["box"]["name"], name.as_str());
    sandbox.ok(&["box", "remove", &name]);
    sandbox.run(&["package", "-f", "--as", "not/a/name", "--version", "1"]).ended_with(2).says("not/a/name");
}
