//! What a command reads: its standard input on the way to it.

use std::io::{self, Read, Write};
use std::os::fd::BorrowedFd;

use super::link::not_now;
use super::{Stdin, TransportError};

/// How much is read from a source at once, bytes.
const PIECE: usize = 256 * 1024;

/// A standard input and how far it has come.
pub(super) struct Feed<'a> {
    source: Source<'a>,
    buffer: Vec<u8>,
    at: usize,
    state: State,
}

enum Source<'a> {
    Nothing,
    Reader(&'a mut dyn Read),
    Slice(&'a [u8]),
    Fd(BorrowedFd<'a>),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// There may be more to send.
    Open,
    /// A piece is half way into the socket: libssh2 wants the same bytes again before anything else.
    Sending,
    /// All is sent but the end.
    Ending,
    /// The end is half way into the socket.
    SendingEnd,
    /// Nothing is left to do.
    Done,
}

impl<'a> Feed<'a> {
    pub(super) fn new(stdin: Stdin<'a>) -> Self {
        let source = match stdin {
            Stdin::Empty => Source::Nothing,
            Stdin::Bytes(bytes) => Source::Slice(bytes),
            Stdin::Reader(reader) => Source::Reader(reader),
            Stdin::Fd(fd) => Source::Fd(fd),
        };
        Self { source, buffer: Vec::new(), at: 0, state: State::Open }
    }

    /// Whether the session must not be used for anything else.
    pub(super) fn is_sending(&self) -> bool {
        matches!(self.state, State::Sending | State::SendingEnd)
    }

    /// Whether there is something that the machine has room for. Reading a channel opens its window as well, and no
    /// event on the socket tells of it afterwards.
    pub(super) fn can_send(&self, channel: &ssh2::Channel) -> bool {
        self.state == State::Open && self.at < self.buffer.len() && channel.write_window().remaining > 0
    }

    /// The descriptor to wait for before the next piece can be had.
    pub(super) fn wants(&self) -> Option<BorrowedFd<'a>> {
        match self.source {
            Source::Fd(fd) if self.state == State::Open && self.at == self.buffer.len() => Some(fd),
            _ => None,
        }
    }

    /// Forgets what was not sent: the command does not read any more.
    pub(super) fn stop(&mut self) {
        self.state = State::Done;
    }

    /// Sends what can be sent now; tells whether anything was. `readable` says that the descriptor is.
    pub(super) fn pump(
        &mut self,
        channel: &mut ssh2::Channel,
        readable: bool,
    ) -> Result<bool, TransportError> {
        if self.state == State::Open && self.at == self.buffer.len() {
            self.refill(readable)?;
        }
        match self.state {
            State::Done => Ok(false),
            State::Ending | State::SendingEnd => match channel.send_eof().map_err(io::Error::from) {
                Ok(()) => {
                    self.state = State::Done;
                    Ok(true)
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    self.state = State::SendingEnd;
                    Ok(false)
                }
                Err(_) => Ok(self.unsent()),
            },
            State::Open | State::Sending => self.send(channel),
        }
    }

    fn send(&mut self, channel: &mut ssh2::Channel) -> Result<bool, TransportError> {
        if self.state == State::Open && !self.can_send(channel) {
            return Ok(false);
        }
        match not_now(channel.write(&self.buffer[self.at..])) {
            Ok(Some(sent)) => {
                self.at += sent;
                self.state = State::Open;
                Ok(sent > 0)
            }
            Ok(None) => {
                self.state = State::Sending;
                Ok(false)
            }
            Err(_) => Ok(self.unsent()),
        }
    }

    /// A command may end, or close its input, without having read it all: that is its own affair. A broken
    /// connection shows itself in the next read.
    fn unsent(&mut self) -> bool {
        self.state = State::Done;
        false
    }

    fn refill(&mut self, readable: bool) -> Result<(), TransportError> {
        let failed = |source| TransportError::Io { what: "reading what the command is to be fed", source };
        self.at = 0;
        let got = match &mut self.source {
            Source::Nothing => 0,
            Source::Slice(rest) => {
                let (piece, left) = rest.split_at(rest.len().min(PIECE));
                self.buffer.clear();
                self.buffer.extend_from_slice(piece);
                *rest = left;
                piece.len()
            }
            Source::Reader(reader) => {
                self.buffer.resize(PIECE, 0);
                loop {
                    match reader.read(&mut self.buffer) {
                        Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                        result => break result.map_err(failed)?,
                    }
                }
            }
            Source::Fd(_) if !readable => {
                self.buffer.clear();
                return Ok(());
            }
            Source::Fd(fd) => {
                self.buffer.resize(PIECE, 0);
                match rustix::io::read(*fd, self.buffer.as_mut_slice()) {
                    Ok(got) => got,
                    Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {
                        self.buffer.clear();
                        return Ok(());
                    }
                    // What a terminal says when its other end is gone.
                    Err(rustix::io::Errno::IO) => 0,
                    Err(e) => return Err(failed(e.into())),
                }
            }
        };
        self.buffer.truncate(got);
        if got == 0 {
            self.state = State::Ending;
        }
        Ok(())
    }
}
