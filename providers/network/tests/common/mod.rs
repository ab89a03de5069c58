//! Network namespaces for tests. A thread can have one of its own; what it opens there stays there.
#![allow(dead_code, reason = "each test program uses its own part")]

pub mod world;

use std::process::{Command, Output};
use std::thread;

use nix::sched::{CloneFlags, unshare};

/// Runs `work` in a thread that has moved to a fresh, empty network namespace.
pub fn in_fresh_netns<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET)
            .expect("this test makes network namespaces: run it as root, or in `unshare -Ur`");
        work()
    })
    .join()
    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Runs a command line in the current thread's namespace and gives what it printed.
pub fn run(line: &str) -> String {
    let output = output(line);
    assert!(output.status.success(), "`{line}`: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// Runs a command line in the current thread's namespace.
pub fn output(line: &str) -> Output {
    let mut words = line.split_whitespace();
    let program = words.next().expect("a program");
    Command::new(program).args(words).output().unwrap_or_else(|e| panic!("`{line}`: {e}"))
}
