//! The console: attached to on a terminal, kept in a log, followed.

use std::io::{BufRead as _, BufReader};

use nix::sys::signal::Signal;
use posada_tests::{Sandbox, Terminal, host, wait};

const VMFILE: &str = "box: debian/12\nprovider: container\n";

/// Posada on a terminal between two looks at how the terminal is set.
fn between_looks(sandbox: &Sandbox, words: &str) -> Terminal {
    let mut command = sandbox.program("sh");
    let posada = posada_tests::place::binary();
    let script = format!("stty -g; '{}' {words}; echo ended $?; stty -g", posada.display());
    command.args(["-c", &script]).env("TERM", "xterm");
    Terminal::start(command)
}

/// The two looks are of a terminal that is set alike.
#[track_caller]
fn assert_restored(seen: &str) {
    let looks: Vec<&str> =
        seen.lines().map(str::trim).filter(|line| line.matches(':').count() > 30).collect();
    assert_eq!(looks.len(), 2, "{seen}");
    assert_eq!(looks[0], looks[1], "the terminal is as it was");
}

#[test]
fn a_console_is_typed_at_and_left() {
    let sandbox = Sandbox::with(VMFILE);
    sandbox.ok(&["up"]);
    // A box need not have a login prompt on its console; whoever sits there reads and answers.
    sandbox.inside(
        "sudo systemd-run --quiet -p StandardInput=tty -p StandardOutput=tty -p TTYPath=/dev/console sh -c 'echo asks; read word; echo answers $word; sleep 600'",
    );
    wait::until_true("the question", || sandbox.ok(&["log"]).stdout.contains("asks"));
    let mut terminal = between_looks(&sandbox, "console");
    terminal.expect(r"Ctrl-\] leaves it");
    terminal.type_raw("hello\r");
    terminal.expect("answers hello");
    terminal.type_raw("\x03\x1d");
    terminal.expect(r"ended 0\r\n[^\n]+\n");
    let (_, seen) = terminal.end();
    assert_restored(&seen);
}

#[test]
fn a_console_that_is_terminated_leaves_the_terminal_as_it_was() {
    let sandbox = Sandbox::with(VMFILE);
    sandbox.ok(&["up"]);
    let home = sandbox.home().display().to_string();
    let mut terminal = between_looks(&sandbox, &format!("console --home '{home}'"));
    terminal.expect(r"Ctrl-\] leaves it");
    let pid = host::processes_with(&["console", &home])
        .into_iter()
        .find(|pid| std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "posada\n"))
        .expect("it runs");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGTERM).unwrap();
    terminal.expect(r"ended 143\r\n[^\n]+\n");
    let (_, seen) = terminal.end();
    assert_restored(&seen);
}

#[test]
fn a_machine_that_stops_closes_its_console() {
    let sandbox = Sandbox::with(VMFILE);
    sandbox.ok(&["up"]);
    let mut terminal = between_looks(&sandbox, "console");
    terminal.expect(r"Ctrl-\] leaves it");
    sandbox.ok(&["halt"]);
    terminal.expect("the console of default has closed");
    terminal.expect(r"ended 0\r\n[^\n]+\n");
    let (_, seen) = terminal.end();
    assert_restored(&seen);
}

#[test]
fn a_console_needs_a_terminal_and_a_running_machine() {
    let sandbox = Sandbox::with(VMFILE);
    sandbox.run(&["console"]).ended_with(2).says("posada up");
    sandbox.ok(&["up"]);
    sandbox.run(&["console"]).ended_with(2).says("not a terminal");
    sandbox.ok(&["halt"]);
    sandbox.run(&["console"]).ended_with(2).says("posada up");
    sandbox.run(&["console", "--json"]).ended_with(2).says("JSON");
}

#[test]
fn a_log_is_followed_to_the_machine_s_end() {
    let sandbox = Sandbox::with(VMFILE);
    sandbox.ok(&["up"]);
    let shown = sandbox.ok(&["log", "-n", "5"]).stdout;
    assert!(shown.lines().count() <= 5, "{shown}");
    let mut running = sandbox.start(&["log", "--follow", "--json"]);
    let mut lines = BufReader::new(running.child().stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.contains("Reached target") || line.contains("login:")), "what there was");
    sandbox.inside("echo told-on-the-console | sudo tee /dev/console");
    assert!(lines.any(|line| line.contains("told-on-the-console")), "what comes");
    // Over a restart it goes on, and it ends with the machine.
    sandbox.ok(&["halt"]);
    sandbox.ok(&["up"]);
    sandbox.inside("echo told-after-a-restart | sudo tee /dev/console");
    assert!(lines.any(|line| line.contains("told-after-a-restart")), "what comes later");
    sandbox.ok(&["destroy", "--force"]);
    assert!(lines.last().is_none_or(|line| line == "{\"event\":\"end\",\"exit_code\":0}"));
    running.wait().ok();
}

#[test]
fn a_follower_that_is_interrupted_ends() {
    let sandbox = Sandbox::with(VMFILE);
    sandbox.ok(&["up"]);
    let mut running = sandbox.start(&["log", "--follow"]);
    let mut lines = BufReader::new(running.child().stdout.take().unwrap()).lines();
    assert!(lines.next().is_some());
    running.signal(Signal::SIGINT);
    running.wait().ended_with(130);
}
