//! Provisioning: each step once, resumed where it failed, again when it was edited.

use posada_tests::Sandbox;
use serde_json::Value;

const THREE: &str = "\
box: debian/12
provider: container
provision:
  - type: shell
    name: first
    inline: echo one >> /var/log/steps
  - type: shell
    name: second
    inline: |
      echo two >> /var/log/steps
      test -e /etc/go || { echo the door is shut >&2; exit 42; }
  - type: shell
    name: third
    inline: echo three >> /var/log/steps
";

/// The names of the steps that ran.
fn steps(events: &[Value]) -> Vec<&str> {
    events
        .iter()
        .filter(|event| event["event"] == "step_started")
        .filter_map(|event| event["step"].as_str())
        .map(|step| step.trim_start_matches("step `").trim_end_matches('`'))
        .collect()
}

#[test]
fn a_failed_step_stops_and_the_next_up_resumes_there() {
    let sandbox = Sandbox::with(THREE);
    sandbox.run(&["up"]).ended_with(6).says("second").says("42").says("the door is shut").says("Vmfile:7");
    assert_eq!(sandbox.state("default").as_deref(), Some("running"), "the machine stays up to be looked at");
    assert_eq!(sandbox.inside("cat /var/log/steps"), "one\ntwo");

    sandbox.inside("sudo touch /etc/go");
    let events = sandbox.json(&["up"]);
    assert_eq!(steps(&events), ["second", "third"]);
    assert_eq!(sandbox.inside("cat /var/log/steps"), "one\ntwo\ntwo\nthree");

    assert!(steps(&sandbox.json(&["up"])).is_empty(), "all is done");
    assert!(steps(&sandbox.json(&["provision"])).is_empty(), "all is done");
}

#[test]
fn provision_resumes_as_up_does() {
    let sandbox = Sandbox::with(THREE);
    sandbox.run(&["up", "--no-provision"]).ok();
    sandbox.run(&["provision"]).ended_with(6);
    sandbox.inside("sudo touch /etc/go");
    assert_eq!(steps(&sandbox.json(&["provision"])), ["second", "third"]);
}

#[test]
fn an_edited_step_runs_again_and_an_unchanged_one_does_not() {
    let sandbox = Sandbox::with(THREE);
    sandbox.ok(&["up", "--no-provision"]);
    sandbox.inside("sudo touch /etc/go");
    sandbox.ok(&["provision"]);
    sandbox.vmfile(&THREE.replace("echo one", "echo uno"));
    assert_eq!(steps(&sandbox.json(&["provision"])), ["first"]);
    assert_eq!(sandbox.inside("tail -n 1 /var/log/steps"), "uno");

    // A step that only moved did not change.
    let moved = THREE.replace(
        "provision:\n",
        "provision:\n  - type: shell\n    name: zeroth\n    inline: echo zero >> /var/log/steps\n",
    );
    sandbox.vmfile(&moved.replace("echo one", "echo uno"));
    assert_eq!(steps(&sandbox.json(&["provision"])), ["zeroth"]);
}

#[test]
fn a_changed_script_file_or_copied_tree_is_an_edit() {
    let sandbox = Sandbox::with(
        "box: debian/12\nprovider: container\nprovision:\n  - {type: shell, name: script, path: ./setup.sh, args: [\"two words\", 'q\"uote']}\n  - {type: file, name: tree, source: ./tree, destination: /opt/tree}\n",
    );
    sandbox.file("setup.sh", "#!/bin/sh\nprintf '%s|' \"$@\" > /var/log/arguments\n");
    let tool = sandbox.file("tree/bin/tool", "#!/bin/sh\necho v1\n");
    sandbox.file("tree/data", "data");
    std::fs::set_permissions(&tool, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();

    sandbox.ok(&["up"]);
    assert_eq!(sandbox.inside("cat /var/log/arguments"), "two words|q\"uote|");
    assert_eq!(sandbox.inside("/opt/tree/bin/tool"), "v1");
    assert_eq!(sandbox.inside("stat -c %a /opt/tree/bin/tool /opt/tree/data"), "755\n644");
    assert!(steps(&sandbox.json(&["provision"])).is_empty());

    sandbox.file("tree/bin/tool", "#!/bin/sh\necho v2\n");
    assert_eq!(steps(&sandbox.json(&["provision"])), ["tree"]);
    assert_eq!(sandbox.inside("/opt/tree/bin/tool"), "v2");
    sandbox.file("setup.sh", "#!/bin/sh\necho edited > /var/log/arguments\n");
    assert_eq!(steps(&sandbox.json(&["provision"])), ["script"]);
}

#[test]
fn always_never_and_named_steps() {
    let sandbox = Sandbox::with(
        "box: debian/12\nprovider: container\nprovision:\n  - {type: shell, name: each, run: always, inline: 'echo each >> /var/log/steps'}\n  - {type: shell, name: asked, run: never, inline: 'echo asked >> /var/log/steps'}\n  - {type: shell, name: usual, inline: 'echo usual >> /var/log/steps'}\n",
    );
    assert_eq!(steps(&sandbox.json(&["up"])), ["each", "usual"]);
    assert_eq!(steps(&sandbox.json(&["provision"])), ["each"]);
    assert_eq!(steps(&sandbox.json(&["provision", "--provision-with", "asked,usual"])), ["asked", "usual"]);
    assert_eq!(sandbox.inside("cat /var/log/steps"), "each\nusual\neach\nasked\nusual");
    sandbox.run(&["provision", "--provision-with", "aksed"]).ended_with(2).says("aksed").says("asked");
}

#[test]
fn a_sensitive_step_keeps_its_secrets() {
    let sandbox = Sandbox::with(
        "box: debian/12\nprovider: container\nprovision:\n  - {type: shell, name: login, sensitive: true, env: {TOKEN: s3cr3t-env}, args: [s3cr3t-arg], inline: 'echo \"$TOKEN $1 s3cr3t-text\"; echo \"$TOKEN $1\" > /root/token; exit ${FAIL:-0}'}\n",
    );
    let up = sandbox.ok(&["--verbose", "up"]);
    assert!(!up.mentions("s3cr3t"), "{up}");
    assert_eq!(sandbox.inside("sudo cat /root/token"), "s3cr3t-env s3cr3t-arg");
    for folder in sandbox.machine_folders() {
        for file in ["provision.json", "machine.json", "supervisor.log", "console.log"] {
            let text = std::fs::read(folder.join(file)).unwrap_or_default();
            assert!(!String::from_utf8_lossy(&text).contains("s3cr3t"), "{file}");
        }
    }
}

#[test]
fn output_comes_live_and_bears_the_machines_name() {
    let sandbox = Sandbox::with(
        "machines:\n  web:\n    box: debian/12\n    provider: container\n    provision:\n      - {type: shell, name: talk, inline: 'echo to-stdout; echo to-stderr >&2'}\n",
    );
    let up = sandbox.ok(&["up"]);
    for word in ["to-stdout", "to-stderr"] {
        let all = format!("{}\n{}", up.stdout, up.stderr);
        let line = all.lines().find(|line| line.contains(word)).unwrap_or_else(|| panic!("{word}\n{up}"));
        assert!(line.contains("web"), "the prefix: `{line}`");
    }
}

#[test]
fn unprivileged_steps_run_as_the_login_user_with_the_machines_environment() {
    let sandbox = Sandbox::with(
        "box: debian/12\nprovider: container\nenv: {STAGE: dev}\nprovision:\n  - {type: shell, privileged: false, inline: 'echo \"$(whoami) $STAGE\" > ~/who'}\n  - {type: shell, env: {STAGE: step}, inline: 'echo \"$(whoami) $STAGE\" > /root/who'}\n",
    );
    sandbox.ok(&["up"]);
    assert_eq!(sandbox.inside("cat ~/who; sudo cat /root/who"), "posada dev\nroot step");
    assert_eq!(sandbox.inside("echo $STAGE"), "dev");
}
