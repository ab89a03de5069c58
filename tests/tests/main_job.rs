//! The main job: from a Vmfile to a provisioned machine, and back to nothing.

use posada_tests::{HostSnapshot, Sandbox, net};

/// `examples/web`, as it is, but for the host port: everything a user would do with it, in one life.
#[test]
fn the_web_example_comes_up_is_provisioned_serves_and_goes() {
    let sandbox = Sandbox::new();
    let example = posada_tests::place::workspace().join("examples/web");
    for file in ["nginx-site.conf", "site/index.html"] {
        sandbox.file(file, &std::fs::read_to_string(example.join(file)).unwrap());
    }
    let vmfile = std::fs::read_to_string(example.join("Vmfile")).unwrap();
    assert!(vmfile.contains("host: 8080"));
    sandbox.vmfile(&vmfile.replace("host: 8080", "host: auto"));

    let up = sandbox.ok(&["up"]);
    assert!(up.mentions("install nginx"), "the steps are named\n{up}");
    let port: u16 = sandbox.ok(&["port", "web", "80"]).stdout.trim().parse().unwrap();
    let page = net::http_get(port, "/");
    assert!(page.contains("There is room at the inn"), "{page}");

    // A page edited on the host is served as it is now.
    sandbox.file("site/index.html", "<h1>edited</h1>");
    assert!(net::http_get(port, "/").contains("<h1>edited</h1>"));

    // Again: nothing runs a second time.
    let again = sandbox.json(&["up"]);
    assert!(again.iter().all(|event| event["event"] != "step_started"), "{again:?}");

    // Through a halt: provisioned once, started twice, and the page is back without a hand.
    sandbox.ok(&["halt"]);
    assert_eq!(sandbox.state("web").as_deref(), Some("stopped"));
    let restarted = sandbox.json(&["up"]);
    assert!(restarted.iter().all(|event| event["event"] != "step_started"), "{restarted:?}");
    let port: u16 = sandbox.ok(&["port", "web", "80"]).stdout.trim().parse().unwrap();
    assert!(net::http_get(port, "/").contains("<h1>edited</h1>"));
}

#[test]
fn a_whole_life_leaves_the_host_as_it_was() {
    let sandbox = Sandbox::with("box: debian/12\nprovider: container\n");
    let root = sandbox.root().display().to_string();
    let before = HostSnapshot::take(&[&root]);

    sandbox.ok(&["up"]);
    let id = sandbox.machine_id();
    let marks = [root.as_str(), id.as_str()];
    assert_eq!(sandbox.inside("whoami"), "posada");
    assert_eq!(sandbox.inside("sudo id -u"), "0");
    sandbox.ok(&["halt"]);
    sandbox.ok(&["up"]);
    sandbox.ok(&["reload"]);
    assert_eq!(sandbox.state("default").as_deref(), Some("running"));
    assert_ne!(HostSnapshot::take(&marks), before, "a running machine is seen in the picture");
    sandbox.ok(&["destroy", "--force"]);

    before.expect_again(&marks);
    assert!(sandbox.machine_folders().is_empty(), "{:?}", sandbox.machine_folders());
    assert!(sandbox.temporary_files().is_empty(), "{:?}", sandbox.temporary_files());
}

#[test]
fn what_is_written_in_a_machine_outlives_halt_and_not_destroy() {
    let sandbox = Sandbox::with("box: debian/12\nprovider: container\n");
    sandbox.ok(&["up"]);
    sandbox.inside("echo kept > ~/kept && sudo touch /etc/also-kept");
    sandbox.ok(&["halt"]);
    sandbox.ok(&["up"]);
    assert_eq!(sandbox.inside("cat ~/kept; ls /etc/also-kept"), "kept\n/etc/also-kept");
    sandbox.ok(&["destroy", "--force"]);
    sandbox.ok(&["up"]);
    assert_eq!(sandbox.inside("ls ~/kept /etc/also-kept 2>/dev/null | wc -l"), "0");
}

#[test]
fn systemd_is_content_and_nothing_of_the_host_shows() {
    let sandbox = Sandbox::with("box: debian/12\nprovider: container\nhostname: inn.example.test\n");
    sandbox.ok(&["up"]);
    let state = sandbox.run(&["ssh", "-c", "systemctl is-system-running --wait"]);
    assert_eq!(
        state.stdout.trim(),
        "running",
        "{}\n{state}",
        sandbox.run(&["ssh", "-c", "systemctl --failed"])
    );
    assert_eq!(sandbox.inside("hostname"), "inn.example.test");
    assert_eq!(sandbox.inside("cat /proc/1/comm"), "systemd");
    // Host root is never inside: id 0 of the machine is an id without rights outside.
    let map = sandbox.inside("cat /proc/self/uid_map");
    assert!(map.lines().all(|line| line.split_whitespace().nth(1) != Some("0")), "{map}");
    assert_eq!(sandbox.inside("sudo mknod /tmp/disk b 254 0 2>/dev/null || echo refused"), "refused");
    assert_eq!(
        sandbox.inside("sudo sh -c 'echo 1 > /proc/sys/kernel/sysrq' 2>/dev/null || echo refused"),
        "refused"
    );
    assert_eq!(sandbox.inside("sudo dmesg >/dev/null 2>&1 || echo refused"), "refused");
}

#[test]
fn the_outside_is_reached_by_name() {
    let sandbox = Sandbox::with("box: debian/12\nprovider: container\n");
    sandbox.ok(&["up"]);
    sandbox.inside(
        "sudo apt-get update -qq && sudo apt-get install -y -qq --no-install-recommends hello >/dev/null",
    );
    assert_eq!(sandbox.inside("hello -g posada"), "posada");
}

#[test]
fn limits_are_what_the_vmfile_says() {
    let sandbox = Sandbox::with("box: debian/12\nprovider: container\nmemory: 256M\ncpus: 1\n");
    let up = sandbox.ok(&["up"]);
    assert!(!up.mentions("warning"), "limits are enforced here\n{up}");
    // Twice the memory is asked for: the kernel ends the one that asks, and the machine lives.
    let greedy = sandbox.run(&["ssh", "-c", "head -c 512M /dev/zero | tail | wc -c"]);
    assert_ne!(greedy.stdout.trim(), "536870912", "{greedy}");
    assert_eq!(sandbox.inside("echo alive"), "alive");
}
