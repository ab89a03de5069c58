//! The caller's SSH agent reaches a machine where its Vmfile asks for that, and only there.

use std::fs;

use posada_tests::{Sandbox, sandbox};

/// The command that says whether there is an agent in the machine.
const ASK: &str = "test -S \"$SSH_AUTH_SOCK\" && echo agent || echo none";

#[track_caller]
fn seen(sandbox: &Sandbox) -> String {
    // An agent of the test's own, which ends with the command.
    let posada = posada_tests::place::binary();
    let outcome = sandbox::run(
        sandbox.program("ssh-agent"),
        &[posada.to_str().expect("a plain path"), "ssh", "-c", ASK],
    );
    outcome.ok().stdout.trim().to_owned()
}

#[test]
fn an_agent_is_passed_on_where_the_vmfile_asks_for_it() {
    let vmfile =
        |forward: bool| format!("box: debian/12\nprovider: container\nssh: {{forward_agent: {forward}}}\n");
    let sandbox = Sandbox::with(&vmfile(true));
    sandbox.ok(&["up"]);
    assert_eq!(seen(&sandbox), "agent");
    let config = sandbox.ok(&["ssh-config"]);
    assert!(config.mentions("ForwardAgent yes"), "{config}");

    // It is the caller's side alone that changes: no reload is asked for.
    sandbox.vmfile(&vmfile(false));
    let again = sandbox.ok(&["up"]);
    assert!(!again.mentions("reload"), "{again}");
    assert_eq!(seen(&sandbox), "none");
    assert!(!sandbox.ok(&["ssh-config"]).mentions("ForwardAgent"));

    // Logging in needs no Vmfile that can be read.
    fs::write(sandbox.project().join("Vmfile"), "box: [").unwrap();
    assert_eq!(seen(&sandbox), "none");
}
