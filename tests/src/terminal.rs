//! A terminal with posada on it: a real pty, as a person has.

use std::process::{Command, Stdio};
use std::time::Duration;

use expectrl::process::unix::WaitStatus;
use expectrl::session::OsSession;
use expectrl::{Expect as _, Regex, Session};

/// A terminal with a program on it.
pub struct Terminal {
    session: OsSession,
    seen: String,
}

impl Terminal {
    /// Starts `command` on a pty of its own.
    ///
    /// # Panics
    /// Where it cannot be started.
    #[must_use]
    pub fn start(mut command: Command) -> Self {
        // What is set here would stand in the way of the pty.
        command.stdin(Stdio::inherit()).stdout(Stdio::inherit()).stderr(Stdio::inherit());
        let mut session = Session::spawn(command).expect("the program can be started on a pty");
        session.set_expect_timeout(Some(Duration::from_secs(60)));
        Self { session, seen: String::new() }
    }

    /// Waits until the program prints something that `pattern` matches.
    ///
    /// # Panics
    /// Where it does not; tells what it printed.
    #[track_caller]
    pub fn expect(&mut self, pattern: &str) {
        match self.session.expect(Regex(pattern)) {
            Ok(captures) => {
                self.seen.push_str(&String::from_utf8_lossy(captures.before()));
                self.seen.push_str(&String::from_utf8_lossy(captures.get(0).unwrap_or_default()));
            }
            Err(error) => {
                let rest = self.rest();
                panic!("`{pattern}` does not come: {error}; so far:\n{}{rest}", self.seen)
            }
        }
    }

    /// What was printed and not matched by anything.
    fn rest(&mut self) -> String {
        let rest = self.session.check(Regex("(?s).+")).ok();
        rest.and_then(|captures| captures.get(0).map(|bytes| String::from_utf8_lossy(bytes).into_owned()))
            .unwrap_or_default()
    }

    /// Types a line.
    ///
    /// # Panics
    /// Where the terminal is gone.
    pub fn type_line(&mut self, line: &str) {
        self.session.send_line(line).expect("the terminal is there");
    }

    /// Types as it is: `\x03` is Ctrl-C.
    ///
    /// # Panics
    /// Where the terminal is gone.
    pub fn type_raw(&mut self, keys: &str) {
        self.session.send(keys).expect("the terminal is there");
    }

    /// Waits for the program's end; gives its exit status as a shell counts, and all that it printed.
    ///
    /// # Panics
    /// Where it does not end.
    #[track_caller]
    pub fn end(mut self) -> (i32, String) {
        match self.session.expect(expectrl::Eof) {
            Ok(captures) => self.seen.push_str(&String::from_utf8_lossy(captures.as_bytes())),
            Err(error) => {
                let rest = self.rest();
                panic!("the program does not end: {error}; so far:\n{}{rest}", self.seen)
            }
        }
        let status = self.session.get_process().wait().expect("its status can be had");
        let code = match status {
            WaitStatus::Exited(_, code) => code,
            WaitStatus::Signaled(_, signal, _) => 128 + signal as i32,
            other => panic!("an end of another kind: {other:?}"),
        };
        (code, self.seen)
    }
}
