//! The device's thread.

use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;

use rustix::event::epoll::EventFlags;

use super::F_MULTIPORT;
use super::config::Shared;
use super::control::{Control, Opened};
use super::port::{ActivePort, Line};
use crate::virtio::{Activation, ActiveQueue, DeviceError, Interrupt};
use crate::worker::{Handler, Poll};

const RESIZED: u64 = 0;
const HEAR: u64 = 1;
const SPEAK: u64 = 2;
/// A port's tokens begin at this times its number, plus one.
const PORT: u64 = 4;
const STREAM: u64 = 0;
const TAKE: u64 = 1;
const SEND: u64 = 2;

pub(super) struct ConsoleWorker {
    lines: Vec<Arc<Line>>,
    /// By number; `None` where the driver has not set one up.
    ports: Vec<Option<ActivePort>>,
    control: Option<Control>,
    shared: Arc<Shared>,
    interrupt: Arc<dyn Interrupt>,
}

/// The first of a port's two queues (virtio 1.2, section 5.3.2).
fn first_queue(port: usize) -> u16 {
    if port == 0 { 0 } else { 2 + 2 * port as u16 }
}

impl ConsoleWorker {
    /// `None` where the terminal's or the control queues are missing.
    pub(super) fn new(lines: &[Arc<Line>], activation: Activation, shared: Arc<Shared>) -> Option<Self> {
        let multiport = activation.features >> F_MULTIPORT & 1 == 1;
        let mut queues = activation.queues;
        let mut pair = |first: u16| -> Option<(ActiveQueue, ActiveQueue)> {
            let mut take =
                |index| Some(queues.remove(queues.iter().position(|queue| queue.index() == index)?));
            Some((take(first)?, take(first + 1)?))
        };
        let control = match multiport {
            true => {
                let (receive, transmit) = pair(2)?;
                Some(Control::new(receive, transmit, lines.len(), shared.has_terminal()))
            }
            false => None,
        };
        let usable = if multiport { lines.len() } else { 1 };
        let ports: Vec<_> = lines[..usable]
            .iter()
            .enumerate()
            .map(|(port, line)| {
                let (receive, transmit) = pair(first_queue(port))?;
                let token = (port as u64 + 1) * PORT + STREAM;
                // Without control messages nobody says when it is opened: it always is.
                Some(ActivePort::new(line.clone(), receive, transmit, token, !multiport))
            })
            .collect();
        ports[0].as_ref()?;
        Some(Self { lines: lines.to_vec(), ports, control, shared, interrupt: activation.interrupt })
    }

    fn serve(&mut self, token: u64, ready: EventFlags, poll: &Poll) -> Result<(), DeviceError> {
        match (token, &mut self.control) {
            (RESIZED, control) => {
                // It is empty where an earlier look has read it.
                let _ = self.shared.resized.read();
                if let Some(control) = control {
                    control.resized();
                }
            }
            (HEAR, Some(control)) => {
                control.transmit.kicked();
                let mut opened = Vec::new();
                control.hear(|message| opened.push(message))?;
                for Opened { port, open } in opened {
                    self.on_port(port, poll, |port| {
                        port.set_open(open);
                        port.take()
                    })?;
                }
            }
            (SPEAK, Some(control)) => control.receive.kicked(),
            (token, _) => {
                let (number, what) = ((token / PORT) as usize - 1, token % PORT);
                self.on_port(number, poll, |port| match what {
                    TAKE => {
                        port.receive.kicked();
                        port.take()
                    }
                    SEND => {
                        port.transmit.kicked();
                        port.send()
                    }
                    _ => port.ready(ready),
                })?;
            }
        }
        let Self { control, lines, ports, shared, .. } = self;
        match control {
            None => Ok(()),
            Some(control) => control.speak(
                |port| (&*lines[port], ports[port].as_ref().is_some_and(ActivePort::is_connected)),
                shared,
            ),
        }
    }

    /// Does `work` on a port, if it is there, and what follows from it.
    fn on_port(
        &mut self,
        number: usize,
        poll: &Poll,
        work: impl FnOnce(&mut ActivePort) -> Result<(), DeviceError>,
    ) -> Result<(), DeviceError> {
        let Some(port) = self.ports.get_mut(number).and_then(Option::as_mut) else { return Ok(()) };
        let was_connected = port.is_connected();
        work(port)?;
        port.watch(poll)?;
        if let Some(control) = &mut self.control
            && was_connected
            && !port.is_connected()
        {
            control.hung_up(number);
        }
        Ok(())
    }
}

impl Handler for ConsoleWorker {
    fn register(&mut self, poll: &Poll) -> io::Result<()> {
        poll.add_event(&self.shared.resized, RESIZED)?;
        if let Some(control) = &self.control {
            poll.add_event(control.transmit.kick(), HEAR)?;
            poll.add_event(control.receive.kick(), SPEAK)?;
            control.transmit.look_again();
        }
        for (number, port) in self.ports.iter().enumerate() {
            let Some(port) = port else { continue };
            let token = (number as u64 + 1) * PORT;
            poll.add_event(port.receive.kick(), token + TAKE)?;
            poll.add_event(port.transmit.kick(), token + SEND)?;
            // What the driver has made available before the device was active.
            port.receive.look_again();
            port.transmit.look_again();
        }
        Ok(())
    }

    fn handle(&mut self, token: u64, ready: EventFlags, poll: &Poll) -> ControlFlow<()> {
        if self.serve(token, ready, poll).is_err() {
            self.interrupt.needs_reset();
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }
}
