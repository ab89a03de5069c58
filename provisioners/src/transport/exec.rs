//! Running one command over one channel: output as it comes, input as it is taken, and an end on request.

use std::io::Read;
use std::time::{Duration, Instant};

use ssh2::Channel;

use super::feed::Feed;
use super::link::{Event, Link, Patience, not_now};
use super::wrap::{Frame, Notice, ended};
use super::{ExitStatus, Output, Stdin, TransportError};
use crate::OutputStream;

/// How long the server may take to start a command.
const START: Duration = Duration::from_secs(30);
/// How long a command may take to end after it was asked to, and after it was forced to.
const TERM_GRACE: Duration = Duration::from_secs(3);
const KILL_GRACE: Duration = Duration::from_secs(2);
/// How long cleaning up may take.
const TIDY: Duration = Duration::from_secs(10);
/// How long the server may take to run `kill`.
const KILLER: Duration = Duration::from_secs(5);

/// How much is read from a channel at once, bytes.
const PIECE: usize = 64 * 1024;

/// As [`Transport::run`](super::Transport::run).
pub(super) fn run(
    link: &Link,
    command: &str,
    stdin: Stdin<'_>,
    output: Output<'_>,
) -> Result<ExitStatus, TransportError> {
    let mut running = Running::start(link, command, stdin, Patience::until(Instant::now() + START))?;
    match running.pump(Patience::ENDLESS, output) {
        Ok(()) => running.status(),
        Err(error @ (TransportError::Interrupted | TransportError::Io { .. })) => {
            running.stop(output);
            Err(error)
        }
        Err(error) => Err(error),
    }
}

/// As [`Transport::tidy`](super::Transport::tidy).
pub(super) fn tidy(link: &Link, command: &str) -> Result<ExitStatus, TransportError> {
    let patience = Patience::closing(TIDY);
    let mut running = Running::start(link, command, Stdin::Empty, patience)?;
    running.pump(patience, &mut |_, _| {})?;
    running.status()
}

fn start(link: &Link, line: &str, patience: Patience) -> Result<Channel, TransportError> {
    let mut channel = link.drive("opening a channel", patience, ssh2::Session::channel_session)?;
    link.drive("starting a command", patience, |_| channel.exec(line))?;
    Ok(channel)
}

struct Running<'l, 's> {
    link: &'l Link,
    channel: Channel,
    feed: Feed<'s>,
    out: Stream,
    err: Stream,
    group: Option<i32>,
    buffer: Vec<u8>,
}

/// One of a command's output streams.
struct Stream {
    frame: Frame,
    /// The command's status, once all that it wrote has come.
    ended: Option<i32>,
}

impl<'l, 's> Running<'l, 's> {
    fn start(
        link: &'l Link,
        command: &str,
        stdin: Stdin<'s>,
        patience: Patience,
    ) -> Result<Self, TransportError> {
        let frame = Frame::new();
        let channel = start(link, &frame.wrap(command), patience)?;
        let feed = Feed::new(stdin);
        let [out, err] = [frame.twin(), frame].map(|frame| Stream { frame, ended: None });
        Ok(Self { link, channel, feed, out, err, group: None, buffer: vec![0; PIECE] })
    }

    /// Moves input and output until the command's output ends; a process it left behind may hold it open.
    fn pump(&mut self, patience: Patience, output: Output<'_>) -> Result<(), TransportError> {
        let mut readable = false;
        loop {
            if patience.cancellable && self.link.is_cancelled() {
                return Err(TransportError::Interrupted);
            }
            let moved = self.feed.pump(&mut self.channel, readable)?
                | self.read(output)?
                | self.feed.can_send(&self.channel);
            readable = false;
            if self.channel.eof() || (self.out.ended.is_some() && self.err.ended.is_some()) {
                break;
            }
            if moved {
                continue;
            }
            match self.link.wait(patience, self.feed.wants())? {
                Event::Socket => {}
                Event::Other => readable = true,
                Event::Cancelled => return Err(TransportError::Interrupted),
                Event::TimedOut => {
                    return Err(TransportError::TimedOut {
                        during: "running a command",
                        patience: TERM_GRACE,
                    });
                }
            }
        }
        self.out.frame.finish(|text| output(OutputStream::Stdout, text));
        self.err.frame.finish(|text| output(OutputStream::Stderr, text));
        Ok(())
    }

    /// Reads a piece of each stream; tells whether there was one.
    fn read(&mut self, output: Output<'_>) -> Result<bool, TransportError> {
        // Reading may have to send a window adjustment, which libssh2 refuses between two halves of a write.
        if self.feed.is_sending() {
            return Ok(false);
        }
        let lost = |_| TransportError::Lost { during: "running a command" };
        let out = not_now(self.channel.read(&mut self.buffer)).map_err(lost)?.unwrap_or(0);
        let ended = &mut self.out.ended;
        self.out.frame.push(
            &self.buffer[..out],
            |text| output(OutputStream::Stdout, text),
            |notice| {
                if let Notice::Ended(status) = notice {
                    *ended = Some(status);
                }
            },
        );
        let err = not_now(self.channel.stderr().read(&mut self.buffer)).map_err(lost)?.unwrap_or(0);
        let (group, ended, feed) = (&mut self.group, &mut self.err.ended, &mut self.feed);
        self.err.frame.push(
            &self.buffer[..err],
            |text| output(OutputStream::Stderr, text),
            |notice| match notice {
                Notice::Group(id) => *group = Some(id),
                Notice::Ended(status) => {
                    *ended = Some(status);
                    feed.stop();
                }
            },
        );
        Ok(out + err > 0)
    }

    /// How the command ended. Nothing but a status, a signal or the frame's own word counts as an end: an
    /// output that stops without any of them is a broken connection.
    fn status(&mut self) -> Result<ExitStatus, TransportError> {
        // Status and signal may come after the end of the output, but never after the channel's end. Where the
        // closing breaks, what is known by then has to do.
        let _ = self.link.drive("closing a channel", Patience::closing(KILL_GRACE), |_| self.channel.close());
        let signal = self.channel.exit_signal().ok().and_then(|s| s.exit_signal);
        let code = self.channel.exit_status().unwrap_or(0);
        match (signal, self.err.ended, code) {
            (Some(name), ..) => Ok(ExitStatus::Signal(name)),
            // The frame has said it, and may not have come to ending itself by that signal before the channel was closed.
            (None, Some(code), _) => Ok(ended(code)),
            (None, None, 0) => Err(TransportError::Lost { during: "running a command" }),
            (None, None, code) => Ok(ExitStatus::Code(code)),
        }
    }

    /// Ends the command and all of its process group: asked first, then forced.
    fn stop(&mut self, output: Output<'_>) {
        self.settle();
        let first = self.link.stop_signal().name();
        let steps = [(first, TERM_GRACE), ("TERM", TERM_GRACE), ("KILL", KILL_GRACE)];
        for (signal, grace) in steps.into_iter().skip(usize::from(first == "TERM")) {
            if self.group.is_none() {
                // The frame says its group first of all, so it is on its way.
                let _ = self.pump_until_group(output);
            }
            let Some(group) = self.group else { break };
            if self.kill(signal, group).is_err() {
                break;
            }
            match self.pump(Patience::closing(grace), output) {
                Err(TransportError::TimedOut { .. }) => {}
                _ => break,
            }
        }
        let _ = self.link.drive("closing a channel", Patience::closing(KILL_GRACE), |_| self.channel.close());
    }

    /// Finishes a half-sent piece of input, without which nothing else can be sent; then there is no more.
    fn settle(&mut self) {
        let patience = Patience::closing(TERM_GRACE);
        while self.feed.is_sending() {
            match self.feed.pump(&mut self.channel, false) {
                Ok(_) if !self.feed.is_sending() => break,
                Ok(_) => {}
                Err(_) => break,
            }
            if !matches!(self.link.wait(patience, None), Ok(Event::Socket)) {
                break;
            }
        }
        self.feed.stop();
    }

    fn pump_until_group(&mut self, output: Output<'_>) -> Result<(), TransportError> {
        let patience = Patience::closing(KILL_GRACE);
        while self.group.is_none() && !self.channel.eof() {
            if !self.read(output)? && self.link.wait(patience, None)? == Event::TimedOut {
                break;
            }
        }
        Ok(())
    }

    /// Sends a signal to a process group, over a channel of its own; by sudo too, since what runs by sudo does
    /// not heed its caller.
    fn kill(&self, signal: &str, group: i32) -> Result<(), TransportError> {
        let patience = Patience::closing(KILLER);
        // The shell's own `kill`: not every box has one as a program.
        let kill = format!("kill -{signal} -{group}");
        let line = format!(
            "exec /bin/sh -c '{kill} 2>/dev/null; [ \"$(id -u)\" = 0 ] || sudo -n /bin/sh -c \"{kill}\" 2>/dev/null'"
        );
        let mut channel = start(self.link, &line, patience)?;
        self.link.drive("ending a command", patience, |_| channel.wait_eof())?;
        self.link.drive("ending a command", patience, |_| channel.close())
    }
}
