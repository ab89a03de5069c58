//! What only happens on a terminal: questions, live lines, Ctrl-C. Each on a real pty.
//!
//! The operation that lasts is one that waits for a lock which the test holds.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::process::{Command, Stdio};
use std::time::UNIX_EPOCH;

use nix::sys::signal::Signal;
use nix::unistd::Pid;
use posada_tests::Terminal;
use serde_json::{Value, json};

use crate::support::Place;

/// Makes the record of a machine of `place`, as `posada up` does first of all, and holds its lock.
fn held_machine(place: &Place) -> File {
    place.write("Vmfile", "machines:\n  web: {box: debian/12}\n");
    let project = place.path("").canonicalize().unwrap();
    let metadata = project.metadata().unwrap();
    let born = metadata.created().unwrap().duration_since(UNIX_EPOCH).unwrap().as_nanos();
    let record = json!({
        "format": 1,
        "id": "web-3f9a1c20",
        "name": "web",
        "project": {
            "path": project,
            "device": metadata.dev(),
            "inode": metadata.ino(),
            "born": u64::try_from(born).unwrap(),
        },
        "provider": "container",
        "box_name": "debian/12",
        "box_version": "1",
        "box_digest": "0".repeat(64),
        "created_at": 1,
    });
    let dir = place.home().join("machines/web-3f9a1c20");
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("machine.json"), record.to_string()).unwrap();
    let mut lock = File::create(dir.join("lock")).unwrap();
    lock.write_all(json!({"pid": 4711, "command": "posada up"}).to_string().as_bytes()).unwrap();
    lock.lock().unwrap();
    lock
}

fn on_terminal(mut command: Command) -> Terminal {
    command.env("TERM", "xterm");
    Terminal::start(command)
}

#[test]
fn init_asks_on_a_terminal() {
    let place = Place::new();
    let mut terminal = on_terminal(place.command(&["init"]));
    terminal.expect("Which box");
    // Down, to the second that is offered.
    terminal.type_raw("\x1b[B\r");
    terminal.expect("What should the Vmfile hold");
    terminal.type_raw("\x1b[B\r");
    let (code, seen) = terminal.end();
    assert_eq!(code, 0, "{seen}");
    assert!(place.read("Vmfile").contains("box: debian/13"), "{seen}");
    assert!(!place.read("Vmfile").contains("networks"), "the minimal one");
}

#[test]
fn destroy_asks_and_no_is_no() {
    let place = Place::new();
    let lock = held_machine(&place);
    let mut terminal = on_terminal(place.command(&["destroy"]));
    terminal.expect("Destroy 1 machine \\(web\\)\\?");
    terminal.type_raw("n");
    terminal.expect("nothing was done");
    let (code, seen) = terminal.end();
    assert_eq!(code, 2, "{seen}");
    assert!(place.home().join("machines/web-3f9a1c20/machine.json").exists());
    drop(lock);
    let told = place.errors(place.posada(&["destroy"]).code(2));
    assert!(
        told.contains("standard input is not a terminal") && told.contains("posada destroy -f"),
        "{told}"
    );
}

#[test]
fn live_lines_come_and_go() {
    let place = Place::new();
    let _lock = held_machine(&place);
    let mut terminal = on_terminal(place.command(&["halt"]));
    terminal.expect("waits for `posada up` \\(process 4711\\) to finish");
    terminal.expect("waiting for `posada up`");
    terminal.type_raw("\x03");
    let (_, seen) = terminal.end();
    assert!(seen.contains("\x1b[2K") || seen.contains("\x1b[K"), "the live line was taken away: {seen:?}");
}

#[test]
fn the_first_ctrl_c_ends_cleanly() {
    let place = Place::new();
    let _lock = held_machine(&place);
    let mut terminal = on_terminal(place.command(&["halt"]));
    terminal.expect("waits for");
    terminal.type_raw("\x03");
    terminal.expect("stopping cleanly");
    terminal.expect("interrupted");
    let (code, seen) = terminal.end();
    assert_eq!(code, 130, "{seen}");
}

#[test]
fn the_second_ctrl_c_ends_at_once() {
    let place = Place::new();
    place.posada(&["box", "list"]).success();
    // The store's lock is not waited for for long, and so not given up for a signal.
    let lock = File::create(place.home().join("boxes/lock")).unwrap();
    lock.lock().unwrap();
    place.write("box.tar", "");
    let mut terminal = on_terminal(place.command(&["box", "add", "box.tar", "--name", "mine", "-v"]));
    terminal.expect("unpacking");
    terminal.type_raw("\x03");
    terminal.expect("stopping cleanly");
    terminal.type_raw("\x03");
    terminal.expect("stopped at once");
    let (code, seen) = terminal.end();
    assert_eq!(code, 130, "{seen}");
}

#[test]
fn sigterm_and_sighup_are_heard_too() {
    for (signal, code) in [(Signal::SIGTERM, 143), (Signal::SIGHUP, 129)] {
        let place = Place::new();
        let _lock = held_machine(&place);
        let mut command = place.command(&["halt", "--json"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let first = lines.next().unwrap().unwrap();
        assert!(first.starts_with("{\"event\":\"waiting\""), "{first}");
        nix::sys::signal::kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
        let events: Vec<Value> = lines.map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect();
        assert_eq!(events[0]["event"], "interrupted");
        assert_eq!(events[0]["signal"], signal.as_str());
        let last = events.last().unwrap();
        assert_eq!((&last["event"], &last["kind"]), (&json!("error"), &json!("interrupted")), "{last}");
        assert_eq!(last["exit_code"], code);
        assert_eq!(child.wait().unwrap().code(), Some(code));
    }
}

#[test]
fn what_nohup_ignores_stays_ignored() {
    let place = Place::new();
    let lock = held_machine(&place);
    let mut command = Command::new("sh");
    let posada = place.command(&["halt", "--json"]);
    command.arg("-c").arg("trap '' HUP; exec \"$0\" halt --json").arg(posada.get_program());
    command.current_dir(place.path("")).env("POSADA_HOME", place.home());
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.next().unwrap().unwrap().starts_with("{\"event\":\"waiting\""));
    nix::sys::signal::kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGHUP).unwrap();
    drop(lock);
    let rest: Vec<String> = lines.map(Result::unwrap).collect();
    assert!(!rest.iter().any(|line| line.contains("interrupted")), "{rest:?}");
    assert_ne!(child.wait().unwrap().code(), Some(129));
}

#[test]
fn programs_that_are_started_do_not_inherit_blocked_signals() {
    let place = Place::new();
    let _lock = held_machine(&place);
    let mut command = place.command(&["halt", "--json"]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.next().unwrap().is_ok());
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let blocked = status.lines().find_map(|line| line.strip_prefix("SigBlk:")).unwrap().trim();
    assert_eq!(blocked.trim_start_matches('0'), "", "nothing is blocked, so nothing is inherited");
    child.kill().unwrap();
    child.wait().unwrap();
}
