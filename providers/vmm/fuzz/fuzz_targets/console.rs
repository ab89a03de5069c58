//! A driver that does anything at all to a console with a named port, and a host that types, reads and hangs up.
//! Nothing may panic, and a reset must come back.
//!
//! Run it with `scripts/fuzz.sh 60 console`.

#![no_main]

mod driver;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use arbitrary::Arbitrary;
use driver::{Driver, Step};
use libfuzzer_sys::fuzz_target;
use posada_vmm::config::Port;
use posada_vmm::virtio::VirtioDevice;
use posada_vmm::virtio::console::Console;

#[derive(Arbitrary, Debug)]
enum Event {
    Step(Step),
    /// A control message of the driver.
    Message {
        port: u8,
        event: u8,
        value: u8,
    },
    Type {
        port: bool,
        bytes: Vec<u8>,
    },
    Read {
        port: bool,
    },
    HangUp {
        port: bool,
    },
    Resize(u16, u16),
}

fn pair() -> (UnixStream, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    (ours, theirs)
}

fuzz_target!(|events: Vec<Event>| {
    let (terminal, end) = pair();
    let (port, port_end) = pair();
    let ports = vec![Port { name: "org.posada.fuzz".to_owned(), stream: port_end.into() }];
    let (mut console, handle) = Console::new(Some(end.into()), ports).unwrap();
    let mut host = [Some(terminal), Some(port)];
    let mut driver = Driver::new(&mut console);
    for event in events {
        match event {
            Event::Step(step) => driver.step(step),
            Event::Message { port, event, value } => {
                let bytes = vec![port % 3, 0, 0, 0, event % 8, 0, value % 2, 0];
                driver.step(Step::Send { queue: 3, bytes });
            }
            // A host that is full or gone is part of the game.
            Event::Type { port, bytes } => {
                let _ = host[usize::from(port)].as_mut().map(|stream| stream.write(&bytes));
            }
            Event::Read { port } => {
                let _ = host[usize::from(port)].as_mut().map(|stream| stream.read(&mut [0; 4096]));
            }
            Event::HangUp { port } => host[usize::from(port)] = None,
            Event::Resize(columns, rows) => handle.resize(columns, rows),
        }
    }
    console.reset();
});
