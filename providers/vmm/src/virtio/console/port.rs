//! One port: bytes between a socket and a pair of queues.

use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::event::epoll::EventFlags;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::virtio::buffers::{Buffers, Split};
use crate::virtio::{ActiveQueue, DeviceError};
use crate::worker::{Poll, Watch};

/// Where a port ends; outlives the driver.
pub(super) struct Line {
    name: Option<String>,
    stream: OwnedFd,
}

impl Line {
    pub(super) fn new(name: Option<String>, stream: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&stream, true)?;
        Ok(Self { name, stream })
    }

    /// `None` for the terminal.
    pub(super) fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Whether the other end is gone altogether, and not just done with sending.
    fn is_hung_up(&self) -> bool {
        let mut fds = [PollFd::new(&self.stream, PollFlags::empty())];
        let asked = poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }));
        asked.is_ok() && fds[0].revents().intersects(PollFlags::HUP | PollFlags::ERR)
    }
}

/// A port that the driver has set up.
pub(super) struct ActivePort {
    pub(super) line: Arc<Line>,
    pub(super) receive: ActiveQueue,
    pub(super) transmit: ActiveQueue,
    watch: Watch,
    wanted: EventFlags,
    /// Whether somebody in the guest has it open; what comes for nobody would be thrown away by Linux.
    open: bool,
    /// Whether the host has sent all it will.
    ended: bool,
    /// Whether the host has hung up. What the guest sends goes nowhere from then on.
    hung_up: bool,
    /// A chain of which a part has been sent: its head, and the rest.
    rest: Option<(u16, Buffers)>,
}

impl ActivePort {
    pub(super) fn new(
        line: Arc<Line>,
        receive: ActiveQueue,
        transmit: ActiveQueue,
        token: u64,
        open: bool,
    ) -> Self {
        Self {
            line,
            receive,
            transmit,
            watch: Watch::new(token),
            wanted: EventFlags::empty(),
            open,
            ended: false,
            hung_up: false,
            rest: None,
        }
    }

    /// Whether the host is there, or something it has left behind.
    pub(super) fn is_connected(&self) -> bool {
        !(self.hung_up && self.ended)
    }

    pub(super) fn set_open(&mut self, open: bool) {
        self.open = open;
    }

    /// Waits for what the last calls have found missing.
    pub(super) fn watch(&mut self, poll: &Poll) -> io::Result<()> {
        self.watch.set(poll, &self.line.stream, self.wanted)
    }

    /// The socket is ready for `ready`.
    pub(super) fn ready(&mut self, ready: EventFlags) -> Result<(), DeviceError> {
        if self.ended && ready.intersects(EventFlags::HUP | EventFlags::ERR) {
            self.hang_up();
        }
        if ready.intersects(EventFlags::OUT | EventFlags::HUP | EventFlags::ERR) {
            self.send()?;
        }
        self.take()
    }

    /// Passes on what the host has sent.
    pub(super) fn take(&mut self) -> Result<(), DeviceError> {
        let wants_more = self.open && !self.ended && self.take_some()?;
        self.wanted.set(EventFlags::IN, wants_more);
        // What is left to be heard of a host that sends no more is its hanging up.
        self.wanted.set(EventFlags::HUP, self.ended && !self.hung_up);
        Ok(self.receive.signal()?)
    }

    /// Returns whether there is room for more.
    fn take_some(&mut self) -> Result<bool, DeviceError> {
        for _ in 0..self.receive.size() {
            let Some(chain) = self.receive.pop()? else {
                if self.receive.listen()? {
                    continue;
                }
                return Ok(false);
            };
            let Split { head, readable, writable } = Split::new(chain, self.receive.ram())?;
            if !readable.is_empty() || writable.is_empty() {
                return Err(DeviceError::Request);
            }
            match writable.read_from(&self.line.stream) {
                Ok(length @ 1..) => {
                    self.receive.push(head, length as u32)?;
                    continue;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {
                    self.receive.unpop();
                    continue;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.receive.unpop(),
                Ok(0) | Err(_) => {
                    self.receive.unpop();
                    self.ended = true;
                    if self.line.is_hung_up() {
                        self.hang_up();
                    }
                }
            }
            return Ok(!self.ended);
        }
        // There may be more; the socket is still ready then.
        Ok(true)
    }

    fn hang_up(&mut self) {
        self.hung_up = true;
        self.ended = true;
    }

    /// Passes on what the guest sends.
    pub(super) fn send(&mut self) -> Result<(), DeviceError> {
        let full = self.send_some()?;
        self.wanted.set(EventFlags::OUT, full);
        Ok(self.transmit.signal()?)
    }

    /// Returns whether it has stopped as the socket takes no more.
    fn send_some(&mut self) -> Result<bool, DeviceError> {
        for _ in 0..self.transmit.size() {
            let (head, mut rest) = match self.rest.take() {
                Some(rest) => rest,
                None => {
                    let Some(chain) = self.transmit.pop()? else {
                        if self.transmit.listen()? {
                            continue;
                        }
                        return Ok(false);
                    };
                    let Split { head, readable, writable } = Split::new(chain, self.transmit.ram())?;
                    if !writable.is_empty() {
                        return Err(DeviceError::Request);
                    }
                    (head, readable)
                }
            };
            while !rest.is_empty() && !self.hung_up {
                match rest.send_to(&self.line.stream) {
                    Ok(length) => rest.skip(length),
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        self.rest = Some((head, rest));
                        return Ok(true);
                    }
                    Err(_) => self.hung_up = true,
                }
            }
            self.transmit.push(head, 0)?;
        }
        self.transmit.look_again();
        Ok(false)
    }
}
