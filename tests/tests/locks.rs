//! Two at once, and interruptions.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use posada_tests::{Sandbox, Terminal, wait};

const SLOW: &str = "\
box: debian/12
provider: container
provision:
  - type: shell
    name: slow
    inline: |
      echo $$ > /run/slow.pid
      echo begun >> /var/log/slow
      until test -e /etc/go-on; do sleep 0.1; done
      echo ended >> /var/log/slow
";

/// Waits until the slow step runs inside.
fn step_runs(sandbox: &Sandbox) {
    wait::until_true("the slow step", || {
        sandbox.run(&["ssh", "-c", "cat /var/log/slow"]).stdout.contains("begun")
    });
}

#[test]
fn of_two_at_once_the_second_waits_and_says_for_whom() {
    let sandbox = Sandbox::with(SLOW);
    let first = sandbox.start(&["up"]);
    step_runs(&sandbox);
    let second = sandbox.start(&["up", "--json"]);
    // The second waits as long as the first works; it has said so before the first may go on.
    let log = sandbox.run(&["ssh", "-c", "sleep 1; cat /var/log/slow"]).ok();
    assert_eq!(log.stdout, "begun\n");
    sandbox.inside("sudo touch /etc/go-on");
    let pid = first.pid().to_string();
    let first = first.wait().ok();
    let second = second.wait().ok();
    let waiting = second.events_of("waiting");
    assert_eq!(waiting.len(), 1, "{second}");
    assert_eq!(waiting[0]["pid"].to_string(), pid, "{second}");
    assert_eq!(waiting[0]["command"], "posada up", "{second}");
    assert!(second.events_of("step_started").is_empty(), "the step ran once\n{first}\n{second}");
    assert_eq!(sandbox.inside("cat /var/log/slow"), "begun\nended");
    assert_eq!(sandbox.machine_folders().len(), 1);
}

#[test]
fn destroy_waits_for_an_up_that_works() {
    let sandbox = Sandbox::with(SLOW);
    let up = sandbox.start(&["up"]);
    step_runs(&sandbox);
    let destroy = sandbox.start(&["destroy", "--force"]);
    std::thread::sleep(Duration::from_millis(300));
    sandbox.inside("sudo touch /etc/go-on");
    up.wait().ok();
    destroy.wait().ok().says("posada up");
    assert!(sandbox.machine_folders().is_empty());
}

#[test]
fn many_ups_at_once_make_one_machine() {
    let sandbox = Sandbox::with("box: debian/12\nprovider: container\n");
    let all: Vec<_> = (0..5).map(|_| sandbox.start(&["up"])).collect();
    for up in all {
        up.wait().ok();
    }
    assert_eq!(sandbox.machine_folders().len(), 1);
    assert_eq!(sandbox.inside("whoami"), "posada");
}

#[test]
fn looking_does_not_wait() {
    let sandbox = Sandbox::with(SLOW);
    let up = sandbox.start(&["up"]);
    step_runs(&sandbox);
    assert_eq!(sandbox.state("default").as_deref(), Some("running"));
    sandbox.ok(&["global-status"]);
    sandbox.ok(&["ssh-config"]);
    sandbox.inside("sudo touch /etc/go-on");
    up.wait().ok();
}

#[test]
fn ctrl_c_ends_cleanly_says_where_things_stand_and_up_resumes() {
    let sandbox = Sandbox::with(SLOW);
    let mut command = sandbox.posada();
    command.arg("up").env("TERM", "xterm");
    let mut terminal = Terminal::start(command);
    terminal.expect("slow");
    step_runs(&sandbox);
    let pressed = Instant::now();
    terminal.type_raw("\x03");
    let (code, seen) = terminal.end();
    assert_eq!(code, 130, "{seen}");
    assert!(pressed.elapsed() < Duration::from_secs(10), "it took {:?}\n{seen}", pressed.elapsed());
    assert!(seen.contains("running"), "says what state the machine is in\n{seen}");
    assert_eq!(sandbox.state("default").as_deref(), Some("running"));
    // The step's own process ended with it.
    wait::until_true("the step's end", || {
        sandbox.run(&["ssh", "-c", "test -d /proc/$(cat /run/slow.pid)"]).code == 1
    });
    sandbox.inside("sudo touch /etc/go-on");
    let again = sandbox.json(&["up"]);
    assert_eq!(again.iter().filter(|event| event["event"] == "step_started").count(), 1, "{again:?}");
}

#[test]
fn a_second_ctrl_c_forces() {
    let sandbox = Sandbox::with(
        "box: debian/12\nprovider: container\nprovision:\n  - {type: shell, name: stubborn, inline: \"trap '' INT TERM HUP; touch /run/begun; until test -e /etc/go-on; do sleep 0.1; done\"}\n",
    );
    let up = sandbox.start(&["up"]);
    wait::until_true("the step", || sandbox.run(&["ssh", "-c", "test -e /run/begun"]).code == 0);
    up.signal(Signal::SIGINT);
    // Where the first was enough already, there is nobody left to send a second one to.
    let _ = nix::sys::signal::kill(up.pid(), Signal::SIGINT);
    let outcome = up.wait();
    assert_eq!(outcome.code, 130, "{outcome}");
    sandbox.inside("sudo touch /etc/go-on");
    sandbox.ok(&["up"]);
}

#[test]
fn terminated_is_as_good_as_interrupted() {
    let sandbox = Sandbox::with(SLOW);
    let up = sandbox.start(&["up"]);
    step_runs(&sandbox);
    up.signal(Signal::SIGTERM);
    let outcome = up.wait();
    assert_eq!(outcome.code, 143, "{outcome}");
    assert_eq!(sandbox.state("default").as_deref(), Some("running"));
    sandbox.ok(&["destroy", "--force"]);
}
