//! The device's thread: packets of the guest, and the sockets of the host.

use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;

use super::header::{self, Header};
use super::host::Listener;
use super::table::Table;
use super::{RECEIVE, TRANSMIT};
use crate::virtio::buffers::Split;
use crate::virtio::{Activation, ActiveQueue, DeviceError};
use crate::worker::{Handler, Poll, Watch};

const CLIENTS: u64 = 0;
const TO_GUEST: u64 = 1;
const FROM_GUEST: u64 = 2;

/// Most packets in one direction before others have their turn.
const TURN: usize = 64;

/// The largest packet from the guest, bytes; Linux sends 64 KiB of data at most.
const LARGEST: usize = header::LENGTH + super::connection::ROOM as usize;

pub(super) struct VsockWorker {
    listener: Arc<Listener>,
    clients: Watch,
    to_guest: ActiveQueue,
    from_guest: ActiveQueue,
    table: Table,
    /// Whether packets of the guest wait until answers have found room.
    deaf: bool,
}

impl VsockWorker {
    /// `None` where a queue is missing.
    pub(super) fn new(cid: u64, listener: Arc<Listener>, activation: Activation) -> Option<Self> {
        let mut queues = activation.queues;
        let mut take = |index| Some(queues.remove(queues.iter().position(|queue| queue.index() == index)?));
        let (to_guest, from_guest) = (take(RECEIVE)?, take(TRANSMIT)?);
        let table = Table::new(cid, listener.path().to_owned());
        Some(Self { listener, clients: Watch::new(CLIENTS), to_guest, from_guest, table, deaf: false })
    }

    fn serve(&mut self, token: u64, ready: EventFlags, poll: &Poll) -> Result<(), DeviceError> {
        let mut accepting = true;
        match token {
            CLIENTS => accepting = self.accept()?,
            TO_GUEST => self.to_guest.kicked(),
            FROM_GUEST => self.from_guest.kicked(),
            _ => self.table.ready(token, ready),
        }
        if token == FROM_GUEST {
            self.hear()?;
        }
        self.speak()?;
        if self.deaf && self.table.can_hear() {
            self.deaf = false;
            self.from_guest.look_again();
        }
        self.table.watch(poll)?;
        let wanted = if accepting && self.table.has_room() { EventFlags::IN } else { EventFlags::empty() };
        Ok(self.clients.set(poll, &*self.listener, wanted)?)
    }

    /// Accepts a client. Returns false where there is no descriptor for it: then it waits until something has
    /// happened, as trying again would keep this thread busy.
    fn accept(&mut self) -> Result<bool, DeviceError> {
        match self.listener.accept() {
            Ok(stream) => self.table.greet(stream),
            Err(error) => {
                let errno = Errno::from_io_error(&error);
                return Ok(!matches!(
                    errno,
                    Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)
                ));
            }
        }
        Ok(true)
    }

    /// Hears what the guest has sent, as long as there is room for what that leads to.
    fn hear(&mut self) -> Result<(), DeviceError> {
        for _ in 0..TURN {
            if !self.table.can_hear() {
                self.deaf = true;
                return Ok(self.from_guest.signal()?);
            }
            let Some(chain) = self.from_guest.pop()? else {
                if self.from_guest.listen()? {
                    continue;
                }
                return Ok(self.from_guest.signal()?);
            };
            let Split { head, mut readable, writable } = Split::new(chain, self.from_guest.ram())?;
            let mut raw = [0; header::LENGTH];
            if !writable.is_empty()
                || readable.len() > LARGEST
                || readable.read_at(0, &mut raw) != header::LENGTH
            {
                return Err(DeviceError::Request);
            }
            let header = Header::parse(&raw);
            readable.skip(header::LENGTH);
            let length = header.length as usize;
            if length > readable.len() {
                return Err(DeviceError::Request);
            }
            readable.truncate(length);
            self.table.hear(&header, readable);
            self.from_guest.push(head, 0)?;
        }
        self.from_guest.look_again();
        Ok(self.from_guest.signal()?)
    }

    /// Sends the guest what there is, as long as it has room.
    fn speak(&mut self) -> Result<(), DeviceError> {
        for _ in 0..TURN {
            if !self.table.has_packets() {
                return Ok(self.to_guest.signal()?);
            }
            let Some(chain) = self.to_guest.pop()? else {
                if self.to_guest.listen()? {
                    continue;
                }
                return Ok(self.to_guest.signal()?);
            };
            let Split { head, readable, writable } = Split::new(chain, self.to_guest.ram())?;
            if !readable.is_empty() || writable.len() <= header::LENGTH {
                return Err(DeviceError::Request);
            }
            match self.table.next_packet(&writable) {
                Some(length) => self.to_guest.push(head, length as u32)?,
                None => self.to_guest.unpop(),
            }
        }
        self.to_guest.look_again();
        Ok(self.to_guest.signal()?)
    }
}

impl Handler for VsockWorker {
    fn register(&mut self, poll: &Poll) -> io::Result<()> {
        self.clients.set(poll, &*self.listener, EventFlags::IN)?;
        poll.add_event(self.to_guest.kick(), TO_GUEST)?;
        poll.add_event(self.from_guest.kick(), FROM_GUEST)?;
        // What the driver has made available before the device was active.
        self.from_guest.look_again();
        Ok(())
    }

    fn handle(&mut self, token: u64, ready: EventFlags, poll: &Poll) -> ControlFlow<()> {
        if self.serve(token, ready, poll).is_err() {
            self.to_guest.needs_reset();
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }
}
