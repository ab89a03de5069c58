//! Control messages (virtio 1.2, section 5.3.6.2), which add ports, name, open and close them.
//!
//! ```text
//!   driver                                 device
//!     DEVICE_READY            ──►
//!                             ◄──            PORT_ADD, for each port
//!     PORT_READY, for each    ──►
//!                             ◄──            CONSOLE_PORT, RESIZE (the terminal) or PORT_NAME; PORT_OPEN
//!     PORT_OPEN 1 or 0        ──►            the port's bytes flow, or wait
//!                             ◄──            PORT_OPEN 0: the host has hung up
//! ```
//! What the device has to say is a set of flags a port, not a queue of messages, so that no driver can make it grow.

use super::config::Shared;
use super::port::Line;
use crate::virtio::buffers::Split;
use crate::virtio::{ActiveQueue, DeviceError};

/// Bytes of a message without what follows it.
const HEADER: usize = 8;

const DEVICE_READY: u16 = 0;
const PORT_ADD: u16 = 1;
const PORT_READY: u16 = 3;
const CONSOLE_PORT: u16 = 4;
const RESIZE: u16 = 5;
const PORT_OPEN: u16 = 6;
const PORT_NAME: u16 = 7;

/// In which order a port's messages go.
const ORDER: [u16; 5] = [PORT_ADD, CONSOLE_PORT, PORT_NAME, RESIZE, PORT_OPEN];

/// What the device has to say about a port: a bit for each message type.
#[derive(Debug, Clone, Copy, Default)]
struct Due(u8);

impl Due {
    fn add(&mut self, event: u16) {
        self.0 |= 1 << event;
    }

    fn first(self) -> Option<u16> {
        ORDER.into_iter().find(|event| self.0 >> event & 1 == 1)
    }

    fn remove(&mut self, event: u16) {
        self.0 &= !(1 << event);
    }
}

/// What the driver has said that concerns a port's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Opened {
    pub(super) port: usize,
    pub(super) open: bool,
}

/// The control queues.
pub(super) struct Control {
    /// To the driver.
    pub(super) receive: ActiveQueue,
    /// From the driver.
    pub(super) transmit: ActiveQueue,
    due: Vec<Due>,
    /// The first port there is: 1 where there is no terminal.
    first: usize,
}

impl Control {
    pub(super) fn new(receive: ActiveQueue, transmit: ActiveQueue, ports: usize, has_terminal: bool) -> Self {
        Self { receive, transmit, due: vec![Due::default(); ports], first: usize::from(!has_terminal) }
    }

    /// The terminal's size has changed.
    pub(super) fn resized(&mut self) {
        if self.first == 0 {
            self.due[0].add(RESIZE);
        }
    }

    /// The host has hung up a port.
    pub(super) fn hung_up(&mut self, port: usize) {
        if port >= self.first {
            self.due[port].add(PORT_OPEN);
        }
    }

    /// Hears what the driver has to say; gives `opened` what concerns the ports' bytes.
    pub(super) fn hear(&mut self, mut opened: impl FnMut(Opened)) -> Result<(), DeviceError> {
        for _ in 0..self.transmit.size() {
            let Some(chain) = self.transmit.pop()? else {
                if self.transmit.listen()? {
                    continue;
                }
                return Ok(self.transmit.signal()?);
            };
            let Split { head, readable, writable } = Split::new(chain, self.transmit.ram())?;
            let mut message = [0; HEADER];
            if !writable.is_empty() || readable.read_at(0, &mut message) != HEADER {
                return Err(DeviceError::Request);
            }
            self.message(message, &mut opened)?;
            self.transmit.push(head, 0)?;
        }
        self.transmit.look_again();
        Ok(self.transmit.signal()?)
    }

    fn message(&mut self, message: [u8; HEADER], opened: &mut impl FnMut(Opened)) -> Result<(), DeviceError> {
        let [i0, i1, i2, i3, e0, e1, v0, v1] = message;
        let port = u32::from_le_bytes([i0, i1, i2, i3]) as usize;
        let (event, yes) = (u16::from_le_bytes([e0, e1]), u16::from_le_bytes([v0, v1]) == 1);
        match event {
            DEVICE_READY if yes => {
                self.due[self.first..].iter_mut().for_each(|due| due.add(PORT_ADD));
            }
            PORT_READY | PORT_OPEN if !(self.first..self.due.len()).contains(&port) => {
                return Err(DeviceError::Request);
            }
            PORT_READY if yes => {
                let due = &mut self.due[port];
                if port == 0 {
                    due.add(CONSOLE_PORT);
                    due.add(RESIZE);
                } else {
                    due.add(PORT_NAME);
                }
                due.add(PORT_OPEN);
            }
            PORT_OPEN => opened(Opened { port, open: yes }),
            // A driver that has failed, or one that knows more than this specification does.
            _ => {}
        }
        Ok(())
    }

    /// Says what is due, as far as the driver has given room.
    pub(super) fn speak<'a>(
        &mut self,
        line: impl Fn(usize) -> (&'a Line, bool),
        shared: &Shared,
    ) -> Result<(), DeviceError> {
        while let Some((port, event)) =
            self.due.iter().enumerate().find_map(|(port, due)| Some((port, due.first()?)))
        {
            let (line, open) = line(port);
            let rest = match event {
                RESIZE if shared.size() == 0 => {
                    self.due[port].remove(event);
                    continue;
                }
                RESIZE => shared.size().to_le_bytes().to_vec(),
                PORT_NAME => line.name().unwrap_or_default().as_bytes().to_vec(),
                _ => Vec::new(),
            };
            let value = u16::from(event != PORT_OPEN || open);
            let Some(chain) = self.receive.pop()? else {
                if self.receive.listen()? {
                    continue;
                }
                break;
            };
            let Split { head, writable, readable } = Split::new(chain, self.receive.ram())?;
            let mut message = (port as u32).to_le_bytes().to_vec();
            message.extend(event.to_le_bytes());
            message.extend(value.to_le_bytes());
            message.extend(rest);
            if !readable.is_empty() || writable.write_at(0, &message) != message.len() {
                return Err(DeviceError::Request);
            }
            self.receive.push(head, message.len() as u32)?;
            self.due[port].remove(event);
        }
        Ok(self.receive.signal()?)
    }
}
