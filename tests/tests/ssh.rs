//! `posada ssh` and `posada ssh-config`.

use std::process::Stdio;

use nix::sys::signal::Signal;
use posada_tests::{Sandbox, Terminal, host, sandbox, wait};

const VMFILE: &str = "box: debian/12\nprovider: container\n";

#[test]
fn status_output_and_input_pass_through() {
    let sandbox = Sandbox::with(VMFILE);
    sandbox.ok(&["up"]);
    for code in [0, 1, 7, 127, 255] {
        sandbox.run(&["ssh", "-c", &format!("exit {code}")]).ended_with(code);
    }
    let outcome = sandbox.ok(&["ssh", "-c", "echo out; echo err >&2"]);
    assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("out\n", "err\n"));

    let input: Vec<u8> = (0..=255_u8).cycle().take(1_000_000).collect();
    let sum = sandbox.run_with_input(&["ssh", "-c", "wc -c; cat >/dev/null"], &input).ok();
    assert_eq!(sum.stdout.trim(), "1000000");
    let there_and_back = sandbox.run_with_input(&["ssh", "-c", "od -An -tx1 | head -n 1"], &input).ok();
    assert_eq!(there_and_back.stdout.trim(), "00 01 02 03 04 05 06 07 08 09 0a 0b 0c 0d 0e 0f");

    // Large output comes whole.
    let large = sandbox.ok(&["ssh", "-c", "seq 1 300000"]);
    assert_eq!(large.stdout.lines().count(), 300_000);
    assert_eq!(large.stdout.lines().last(), Some("300000"));

    // Quoting is the remote shell's.
    assert_eq!(sandbox.inside("printf '%s|' 'a b' \"c d\" $((1+1))"), "a b|c d|2|");
    // A command killed by a signal.
    sandbox.run(&["ssh", "-c", "kill -TERM $$"]).ended_with(128 + 15);
}

#[test]
fn arguments_for_the_systems_ssh_are_passed_on() {
    let sandbox = Sandbox::with(VMFILE);
    sandbox.ok(&["up"]);
    let outcome = sandbox.ok(&["ssh", "--", "-v", "echo", "through"]);
    assert!(outcome.stderr.contains("OpenSSH"), "{outcome}");
    assert_eq!(outcome.stdout, "through\n");
}

#[test]
fn a_pty_when_interactive() {
    let sandbox = Sandbox::with(VMFILE);
    sandbox.ok(&["up"]);
    let mut command = sandbox.posada();
    command.arg("ssh").env("TERM", "xterm");
    let mut terminal = Terminal::start(command);
    terminal.expect(r"posada@default[^$]*\$ ");
    terminal.type_line("test -t 0 && echo is-a-tt''y");
    terminal.expect("is-a-tty");
    terminal.expect(r"\$ ");
    // One process that is there before it speaks: between two commands of its own, a shell may swallow a Ctrl-C.
    terminal.type_line("sh -c 'echo sle\"\"eps; exec sleep 1000'");
    terminal.expect("sleeps");
    terminal.type_raw("\x03");
    terminal.expect(r"\$ ");
    terminal.type_line("exit 9");
    let (code, seen) = terminal.end();
    assert_eq!(code, 9, "{seen}");
}

#[test]
fn signals_reach_the_remote_command() {
    let sandbox = Sandbox::with(VMFILE);
    sandbox.ok(&["up"]);
    let mut running = sandbox.start(&[
        "ssh",
        "-c",
        "trap 'echo got-int > ~/signal; exit 3' INT; echo ready; while :; do sleep 0.1; done",
    ]);
    let stdout = running.child().stdout.take().unwrap();
    let mut reader = std::io::BufReader::new(stdout);
    let mut line = String::new();
    std::io::BufRead::read_line(&mut reader, &mut line).unwrap();
    assert_eq!(line, "ready\n");
    running.signal(Signal::SIGINT);
    let outcome = running.wait();
    assert!([3, 130].contains(&outcome.code), "{outcome}");
    wait::until_true("the remote trap", || sandbox.run(&["ssh", "-c", "cat ~/signal"]).stdout == "got-int\n");
}

#[test]
fn a_client_that_dies_takes_its_remote_command_along() {
    let sandbox = Sandbox::with(VMFILE);
    sandbox.ok(&["up"]);
    let running = sandbox.start(&["ssh", "-c", "exec -a posada-remote-sleep sleep 3600"]);
    let seen = || {
        host::processes_with(&["posada-remote-sleep"]).into_iter().find(|pid| {
            std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "sleep")
        })
    };
    let pid = wait::until("the remote command", seen);
    running.signal(Signal::SIGTERM);
    let _ = running.wait();
    host::gone(pid);
}

#[test]
fn ssh_scp_and_rsync_work_with_ssh_config() {
    let sandbox = Sandbox::with(VMFILE);
    sandbox.ok(&["up"]);
    let config = sandbox.file("ssh_config", &sandbox.ok(&["ssh-config"]).stdout);
    let config = config.to_str().unwrap();
    let tool = |program: &str, arguments: &[&str]| sandbox::run(sandbox.program(program), arguments);

    let outcome = tool("ssh", &["-F", config, "default", "echo $USER"]).ok();
    assert_eq!(outcome.stdout, "posada\n");
    assert_eq!(outcome.stderr, "", "nothing is asked or warned of");

    sandbox.file("tree/a", "a");
    sandbox.file("tree/sub/b", "b");
    tool("scp", &["-F", config, "-q", "-r", "tree", "default:copied"]).ok();
    assert_eq!(sandbox.inside("cat copied/a copied/sub/b"), "ab");
    sandbox.inside("sudo apt-get install -y -qq --no-install-recommends rsync >/dev/null 2>&1 || (sudo apt-get update -qq && sudo apt-get install -y -qq --no-install-recommends rsync >/dev/null)");
    tool("rsync", &["-a", "-e", &format!("ssh -F {config}"), "tree/", "default:synced/"]).ok();
    assert_eq!(sandbox.inside("cat synced/a synced/sub/b"), "ab");
    // Another host key in the machine's place is refused.
    sandbox.inside("sudo rm /etc/ssh/ssh_host_ed25519_key* && sudo ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key && sudo systemctl restart ssh");
    assert_ne!(tool("ssh", &["-F", config, "default", "true"]).code, 0);
    let refused = sandbox.run(&["ssh", "-c", "true"]);
    assert_ne!(refused.code, 0, "{refused}");
    assert!(refused.mentions("host key"), "{refused}");
}

#[test]
fn a_machine_that_does_not_run_is_told() {
    let sandbox = Sandbox::with(VMFILE);
    sandbox.run(&["ssh", "-c", "true"]).ended_with(2).says("posada up");
    sandbox.ok(&["up"]);
    sandbox.ok(&["halt"]);
    sandbox.run(&["ssh", "-c", "true"]).ended_with(2).says("posada up");
    sandbox.run(&["ssh", "wbe", "-c", "true"]).ended_with(2).says("wbe");
}

#[test]
fn each_command_gets_its_own_input() {
    let sandbox = Sandbox::with(VMFILE);
    sandbox.ok(&["up"]);
    // A command that reads nothing must not wait for, nor eat, what is on standard input.
    let mut command = sandbox.program("sh");
    let script = format!(
        "printf 'one\\ntwo\\n' | while read -r line; do {} ssh -c \"echo $line\" </dev/null; done",
        posada_tests::place::binary().display()
    );
    command.env("POSADA_HOME", sandbox.home()).stdin(Stdio::null());
    let outcome = sandbox::run(command, &["-c", &script]).ok();
    assert_eq!(outcome.stdout, "one\ntwo\n");
}
