//! Several machines from one file.

use posada_tests::{Sandbox, net};

const VMFILE: &str = "\
box: debian/12
provider: container
machines:
  app:
    depends_on: [db]
    networks:
      - forward: 'auto:22'
  db:
    provision:
      - type: shell
        name: serve
        # Healthy only a moment after provisioning has ended.
        inline: systemd-run --quiet --on-active=1 --timer-property=AccuracySec=10ms touch /var/ready
    healthcheck:
      command: test -e /var/ready
      interval: 100ms
  other: {}
";

#[test]
fn a_machine_starts_when_what_it_depends_on_is_healthy() {
    let sandbox = Sandbox::with(VMFILE);
    let events = sandbox.json(&["up"]);
    let up = |name: &str| {
        events
            .iter()
            .position(|event| event["event"] == "machine" && event["machine"] == name)
            .unwrap_or_else(|| panic!("{name} came up: {events:?}"))
    };
    let begun = |name: &str| events.iter().position(|event| event["machine"] == name).unwrap();
    assert!(up("db") < begun("app"), "{events:?}");
    assert!(begun("other") < up("db"), "machines without a tie go side by side: {events:?}");
    for machine in ["app", "db", "other"] {
        assert_eq!(sandbox.state(machine).as_deref(), Some("running"));
        assert_eq!(sandbox.inside_of(Some(machine), "hostname"), machine);
    }

    // One by name; the others stay.
    sandbox.ok(&["halt", "other"]);
    assert_eq!(sandbox.state("other").as_deref(), Some("stopped"));
    assert_eq!(sandbox.state("db").as_deref(), Some("running"));
    sandbox.run(&["halt", "ohter"]).ended_with(2).says("other");
    sandbox.run(&["ssh", "-c", "true"]).ended_with(2).says("app").says("db");
    sandbox.ok(&["destroy", "--force", "other"]);

    // Asked for alone, it brings what it needs.
    sandbox.ok(&["halt"]);
    sandbox.ok(&["up", "app"]);
    assert_eq!(sandbox.state("db").as_deref(), Some("running"));
    let port: u16 = sandbox.ok(&["port", "app", "22"]).stdout.trim().parse().unwrap();
    assert!(net::connect(port).is_ok());
}

#[test]
fn a_machine_that_never_gets_healthy_holds_back_what_depends_on_it() {
    let sandbox = Sandbox::with(&VMFILE.replace(
        "test -e /var/ready\n      interval: 100ms",
        "test -e /never\n      interval: 100ms\n      start_timeout: 2s",
    ));
    sandbox.run(&["up"]).ended_with(5).says("db").says("health");
    assert_ne!(sandbox.state("app").as_deref(), Some("running"));
    assert_eq!(sandbox.state("other").as_deref(), Some("running"), "what does not depend on it goes on");
}

#[test]
fn a_network_that_the_backend_cannot_give_is_told_before_anything_is_made() {
    let sandbox = Sandbox::with(
        "box: debian/12\nprovider: container\nnetworks:\n  - {type: bridged, interface: eth0}\n",
    );
    sandbox.run(&["up"]).ended_with(2).says("bridged").says("container");
    assert_ne!(sandbox.state("default").as_deref(), Some("running"));
}

#[test]
fn machines_see_each_other_on_a_private_network() {
    let sandbox = Sandbox::with(
        "box: debian/12\nprovider: container\nmachines:\n  one:\n    networks:\n      - {type: private, name: backend, ip: 192.168.56.10/24}\n  two:\n    networks:\n      - {type: private, name: backend, ip: 192.168.56.11/24}\n  apart:\n    networks:\n      - {type: private, name: elsewhere}\n",
    );
    sandbox.ok(&["up"]);
    let banner = "timeout 5 bash -c 'exec 3<>/dev/tcp/192.168.56.10/22 && head -c 4 <&3'";
    assert_eq!(sandbox.inside_of(Some("two"), banner), "SSH-");
    assert_ne!(
        sandbox.run(&["ssh", "apart", "-c", banner]).stdout,
        "SSH-",
        "another network is another network"
    );
    // An address that was not asked for stays the machine's own.
    let address = "ip -4 -br addr | grep -o '192[.]168[.][0-9.]*/[0-9]*'";
    let before = sandbox.inside_of(Some("two"), address);
    sandbox.ok(&["reload", "two"]);
    assert_eq!(sandbox.inside_of(Some("two"), address), before);
    assert_eq!(sandbox.inside_of(Some("two"), banner), "SSH-");
}

#[test]
fn global_status_tells_of_every_project() {
    let sandbox = Sandbox::with("box: debian/12\nprovider: container\n");
    sandbox.ok(&["up"]);
    let id = sandbox.machine_id();
    let elsewhere = sandbox.root().join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    let mut command = sandbox.posada();
    command.current_dir(&elsewhere);
    let all = posada_tests::sandbox::run(command, &["global-status", "--json"]).ok();
    let machine = all.events().into_iter().find(|event| event["id"] == id.as_str());
    let machine = machine.unwrap_or_else(|| panic!("{id}\n{all}"));
    assert_eq!(machine["state"], "running");
    assert!(machine.to_string().contains(sandbox.project().to_str().unwrap()), "{machine}");
    sandbox.ok(&["global-status"]).says(&id).says("running");
}
