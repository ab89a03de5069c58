//! The first serial line, a 16550A, between the guest and a stream socket.

use std::io::{self, Write};
use std::ops::ControlFlow;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{SendFlags, send};
use vm_superio::Trigger;
use vm_superio::serial::SerialEvents;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::bus::BusDevice;
use crate::worker::{Handler, Poll, ThreadKind, Worker};

/// How many ports it has.
pub const SERIAL_PORTS: u64 = 8;

const INPUT: u64 = 0;
const ROOM: u64 = 1;

/// Raises the line's interrupt.
pub type Interrupt = Box<dyn Fn() + Send>;

struct Raise(Interrupt);

impl Trigger for Raise {
    type E = io::Error;

    fn trigger(&self) -> io::Result<()> {
        (self.0)();
        Ok(())
    }
}

/// Tells the typing side that the guest has read all there was.
struct Emptied(EventFd);

impl SerialEvents for Emptied {
    fn buffer_read(&self) {}

    fn out_byte(&self) {}

    fn tx_lost_byte(&self) {}

    fn in_buffer_empty(&self) {
        // One that is set already need not be set again.
        let _ = self.0.write(1);
    }
}

/// What the guest prints. A reader that does not keep up loses bytes, as on a real line: the guest never waits for it.
struct Printed(Arc<OwnedFd>);

impl Write for Printed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match send(&*self.0, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
            Ok(_) | Err(Errno::AGAIN | Errno::PIPE | Errno::CONNRESET) => Ok(bytes.len()),
            Err(error) => Err(error.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

type Uart = vm_superio::Serial<Raise, Emptied, Printed>;

/// The line's registers. What is typed arrives by a thread of its own, for as long as this lives.
pub struct Serial {
    // Stops before the registers it types into are gone.
    _typing: Worker,
    uart: Arc<Mutex<Uart>>,
}

impl Serial {
    /// A line that ends at `socket`, a stream socket.
    ///
    /// # Errors
    /// Where a descriptor or thread cannot be had.
    pub fn new(socket: OwnedFd, interrupt: Interrupt) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&socket, true)?;
        let socket = Arc::new(socket);
        let emptied = EventFd::new(EFD_NONBLOCK)?;
        let room = emptied.try_clone()?;
        let uart = Uart::with_events(Raise(interrupt), Emptied(emptied), Printed(socket.clone()));
        let uart = Arc::new(Mutex::new(uart));
        let typing = Typing { socket, room, uart: uart.clone() };
        Ok(Self { _typing: Worker::start(ThreadKind::Stream, "serial", typing)?, uart })
    }
}

impl BusDevice for Serial {
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        if let [byte] = data {
            *byte = self.uart.lock().unwrap_or_else(PoisonError::into_inner).read(offset as u8);
        }
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        if let [byte] = data {
            // Fails where the line's end is broken; the guest cannot be told of that.
            let _ = self.uart.lock().unwrap_or_else(PoisonError::into_inner).write(offset as u8, *byte);
        }
    }
}

struct Typing {
    socket: Arc<OwnedFd>,
    room: EventFd,
    uart: Arc<Mutex<Uart>>,
}

impl Typing {
    /// Types what there is, as far as the guest has room for it; returns whether it has room for more.
    fn pass(&self) -> ControlFlow<(), bool> {
        let mut uart = self.uart.lock().unwrap_or_else(PoisonError::into_inner);
        let mut bytes = [0; 64];
        loop {
            let free = uart.fifo_capacity().min(bytes.len());
            if free == 0 {
                return ControlFlow::Continue(false);
            }
            match rustix::io::read(&*self.socket, &mut bytes[..free]) {
                Ok(0) => return ControlFlow::Break(()),
                Ok(count) => {
                    // What it refuses (in loop-back mode) is lost, as on a real line.
                    let _ = uart.enqueue_raw_bytes(&bytes[..count]);
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return ControlFlow::Continue(true),
                Err(_) => return ControlFlow::Break(()),
            }
        }
    }
}

impl Handler for Typing {
    fn register(&mut self, poll: &Poll) -> io::Result<()> {
        poll.add(self.socket.as_fd(), INPUT, EventFlags::IN)?;
        poll.add_event(&self.room, ROOM)
    }

    fn handle(&mut self, token: u64, _: EventFlags, poll: &Poll) -> ControlFlow<()> {
        if token == ROOM {
            // It is set whenever the guest has emptied the line; how often does not matter.
            let _ = self.room.read();
        }
        let interest = if self.pass()? { EventFlags::IN } else { EventFlags::empty() };
        match poll.modify(self.socket.as_fd(), INPUT, interest) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::net::UnixStream;
    use std::sync::mpsc;

    use super::*;

    const DATA: u64 = 0;
    const ENABLE: u64 = 1;
    const STATUS: u64 = 5;

    fn line() -> (Serial, UnixStream, mpsc::Receiver<()>) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (raised, interrupts) = mpsc::channel();
        let serial = Serial::new(
            theirs.into(),
            Box::new(move || {
                let _ = raised.send(());
            }),
        );
        (serial.unwrap(), ours, interrupts)
    }

    fn read(serial: &mut Serial, offset: u64) -> u8 {
        let mut byte = [0];
        serial.read(offset, &mut byte);
        byte[0]
    }

    #[test]
    fn what_is_printed_comes_out() {
        let (mut serial, mut ours, _interrupts) = line();
        for byte in b"hello" {
            serial.write(DATA, &[*byte]);
        }
        let mut text = [0; 5];
        ours.read_exact(&mut text).unwrap();
        assert_eq!(&text, b"hello");
    }

    #[test]
    fn more_than_the_fifo_holds_is_typed_without_loss() {
        let (mut serial, mut ours, interrupts) = line();
        serial.write(ENABLE, &[1]);
        let text: Vec<u8> = (0..1000).map(|n| b'a' + (n % 26) as u8).collect();
        ours.write_all(&text).unwrap();
        let mut got = Vec::new();
        while got.len() < text.len() {
            interrupts.recv_timeout(std::time::Duration::from_secs(10)).unwrap();
            while read(&mut serial, STATUS) & 1 == 1 {
                got.push(read(&mut serial, DATA));
            }
        }
        assert_eq!(got, text);
    }

    #[test]
    fn a_reader_that_sleeps_does_not_stop_the_guest() {
        let (mut serial, _ours, _interrupts) = line();
        for _ in 0..1_000_000 {
            serial.write(DATA, b"x");
        }
    }
}
