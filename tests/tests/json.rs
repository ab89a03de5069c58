//! `--json`: every line of every command is one event, also when it fails.

use posada_tests::{Sandbox, sandbox};

/// Every line parses and has its `event`; the last is `end`, or `error` with kind, message and hint.
#[track_caller]
fn holds(sandbox: &Sandbox, arguments: &[&str], code: i32) {
    let mut words = arguments.to_vec();
    words.push("--json");
    let outcome = sandbox.run(&words).ended_with(code);
    let events = outcome.events();
    let last = events.last().unwrap_or_else(|| panic!("no event\n{outcome}"));
    assert_eq!(last["event"], if code == 0 { "end" } else { "error" }, "{outcome}");
    assert_eq!(last["exit_code"], code, "{outcome}");
    if code != 0 {
        assert!(last["kind"].is_string() && last["message"].is_string(), "{outcome}");
    }
    assert_eq!(outcome.stderr, "", "text for people is not mixed in\n{outcome}");
    assert!(!outcome.stdout.contains('\x1b'), "no colours in JSON\n{outcome}");
}

#[test]
fn every_command_speaks_json_lines() {
    let sandbox = Sandbox::with("box: debian/12\nprovider: container\nprovision:\n  - echo provisioned\n");
    for arguments in [
        &["version"][..],
        &["validate"],
        &["schema"],
        &["box", "list"],
        &["box", "info", "debian/12"],
        &["box", "fsck"],
        &["box", "prune", "--dry-run"],
        &["box", "gc", "--dry-run"],
        &["box", "keygen", "key", "--no-password"],
        &["box", "trust", "list"],
        &["box", "token", "create", "repository", "ci", "--read", "team"],
        &["box", "token", "list", "repository"],
        &["box", "token", "revoke", "repository", "ci"],
        &["status"],
        &["global-status"],
        &["up"],
        &["up"],
        &["status"],
        &["global-status"],
        &["port"],
        &["provision"],
        &["ssh-config"],
        &["log"],
        &["reload"],
        &["halt"],
        &["destroy", "--force"],
    ] {
        holds(&sandbox, arguments, 0);
    }
    // The host's state is not ours to assert; that the answer is JSON lines is.
    let doctor = sandbox.run(&["doctor", "--json"]);
    assert!(!doctor.events().is_empty(), "{doctor}");
}

#[test]
fn failures_are_events_too() {
    let sandbox = Sandbox::new();
    holds(&sandbox, &["up"], 3);
    sandbox.vmfile("box: debian/12\ncpus: many\nmemroy: 1G\n");
    holds(&sandbox, &["validate"], 3);
    holds(&sandbox, &["up"], 3);
    sandbox.vmfile("box: no/such\nprovider: container\n");
    holds(&sandbox, &["up"], 7);
    holds(&sandbox, &["box", "add", "./none.box"], 2);
    holds(&sandbox, &["box", "remove", "no/such"], 7);
    holds(&sandbox, &["box", "push", "no/such", "--to", "http://127.0.0.1:1"], 7);
    sandbox.vmfile("box: debian/12\nprovider: container\n");
    holds(&sandbox, &["ssh", "-c", "true"], 2);
    holds(&sandbox, &["halt", "nobody"], 2);
    sandbox.vmfile("box: debian/12\nprovider: container\nprovision:\n  - exit 3\n");
    holds(&sandbox, &["up"], 6);
}

#[test]
fn a_reader_that_leaves_early_is_no_fault() {
    let sandbox = Sandbox::with("box: debian/12\nprovider: container\n");
    let command = sandbox.program("sh");
    let script = format!("{} --json schema | head -c 10 >/dev/null", posada_tests::place::binary().display());
    let outcome = sandbox::run(command, &["-c", &script]).ok();
    assert_eq!(outcome.stderr, "", "{outcome}");
}
