//! The same as an ordinary user: no root anywhere.

use std::os::unix::fs::MetadataExt as _;

use posada_tests::{HostSnapshot, Ordinary, Sandbox, host, net, wait};

const VMFILE: &str = "\
box: debian/12
provider: container
networks:
  - forward: 'auto:22'
synced_folders:
  - './shared:/srv/shared'
provision:
  - {type: shell, name: one, inline: 'id -u > /etc/provisioned-by'}
";

#[test]
fn a_whole_life_without_root() {
    let user = Ordinary::new();
    let sandbox = Sandbox::rootless(&user);
    sandbox.vmfile(VMFILE);
    sandbox.file("shared/from-host", "host");
    let root = sandbox.root().display().to_string();
    let before = HostSnapshot::take(&[&root]);

    sandbox.ok(&["up"]);
    let id = sandbox.machine_id();
    assert_eq!(sandbox.inside("whoami; sudo id -u; cat /etc/provisioned-by"), "posada\n0\n0");
    let state = sandbox.run(&["ssh", "-c", "systemctl is-system-running --wait"]);
    assert_eq!(state.stdout.trim(), "running", "{}", sandbox.run(&["ssh", "-c", "systemctl --failed"]));

    // Files in the folder are the user's on both sides.
    assert_eq!(
        sandbox.inside("stat -c %U /srv/shared/from-host; echo x > /srv/shared/from-machine"),
        "posada"
    );
    assert_eq!(std::fs::metadata(sandbox.project().join("shared/from-machine")).unwrap().uid(), user.uid());

    // Nothing of it runs as root: neither helpers nor what is inside.
    for pid in host::processes_with(&[&root]) {
        let owner = std::fs::metadata(format!("/proc/{pid}")).unwrap().uid();
        assert_ne!(owner, 0, "process {pid} runs as root");
    }
    let port: u16 = sandbox.ok(&["port", "default", "22"]).stdout.trim().parse().unwrap();
    let mut banner = [0; 4];
    std::io::Read::read_exact(&mut net::connect(port).unwrap(), &mut banner).unwrap();
    assert_eq!(&banner, b"SSH-");
    sandbox.inside("sudo apt-get update -qq");

    sandbox.ok(&["halt"]);
    sandbox.ok(&["up"]);
    sandbox.ok(&["destroy", "--force"]);
    before.expect_again(&[&root, &id]);
    assert!(sandbox.temporary_files().is_empty(), "{:?}", sandbox.temporary_files());
}

#[test]
fn a_killed_machine_leaves_nothing_without_root() {
    let user = Ordinary::new();
    let sandbox = Sandbox::rootless(&user);
    sandbox.vmfile(VMFILE);
    sandbox.file("shared/keep", "");
    let root = sandbox.root().display().to_string();
    let before = HostSnapshot::take(&[&root]);
    for words in [["__container-supervise"], ["__container-keeper"]] {
        sandbox.ok(&["up"]);
        let id = sandbox.machine_id();
        let victims = host::processes_with(&words);
        let victims: Vec<_> = victims
            .into_iter()
            .filter(|pid| {
                ["environ", "cmdline"].iter().any(|file| {
                    let bytes = std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
                    String::from_utf8_lossy(&bytes).contains(&root)
                })
            })
            .collect();
        assert!(!victims.is_empty(), "{words:?}");
        for pid in victims {
            let _ =
                nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
        }
        wait::until_true("the machine to be stopped", || {
            sandbox.state("default").as_deref() == Some("stopped")
        });
        sandbox.ok(&["up"]);
        assert_eq!(sandbox.inside("whoami"), "posada");
        sandbox.ok(&["destroy", "--force"]);
        before.expect_again(&[&root, &id]);
    }
}

#[test]
fn a_low_port_is_told_and_not_bound() {
    let user = Ordinary::new();
    let sandbox = Sandbox::rootless(&user);
    sandbox.vmfile("box: debian/12\nprovider: container\nnetworks:\n  - forward: '81:80'\n");
    let limit = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap();
    assert!(limit.trim().parse::<u16>().unwrap() > 81, "this host lets everyone bind port 81");
    sandbox.run(&["up"]).ended_with(4).says("81").says("ip_unprivileged_port_start");
}

#[test]
fn doctor_finds_the_ordinary_user_well() {
    let user = Ordinary::new();
    let sandbox = Sandbox::rootless(&user);
    let outcome = sandbox.run(&["doctor"]);
    assert!(outcome.mentions("user namespaces"), "{outcome}");
    assert!(!outcome.mentions("panicked"), "{outcome}");
}
