//! A driver that sends any packets at all, and clients that say anything. Nothing may panic, and a reset must come
//! back.
//!
//! Run it with `scripts/fuzz.sh 60 vsock`.

#![no_main]

mod driver;

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};

use arbitrary::Arbitrary;
use driver::{Driver, Step};
use libfuzzer_sys::fuzz_target;
use posada_vmm::virtio::VirtioDevice;
use posada_vmm::virtio::vsock::Vsock;

const CID: u64 = 3;

#[derive(Arbitrary, Debug)]
enum Event {
    Step(Step),
    /// A packet of the guest with a header that has a form.
    Packet {
        host: u8,
        guest: u8,
        operation: u8,
        flags: u8,
        buf_alloc: u32,
        fwd_cnt: u32,
        data: Vec<u8>,
    },
    /// A client of the host comes, and says where it wants to.
    Connect {
        port: u8,
    },
    /// The last that came says something.
    Say(Vec<u8>),
    /// The last that came hears something.
    Hear,
    /// The last that came goes.
    Leave,
    /// The guest's last connection is accepted by the service of the host.
    Accept,
}

fn packet(host: u32, guest: u32, operation: u8, flags: u8, credit: (u32, u32), data: &[u8]) -> Vec<u8> {
    let mut raw = CID.to_le_bytes().to_vec();
    raw.extend(2_u64.to_le_bytes());
    raw.extend(guest.to_le_bytes());
    raw.extend(host.to_le_bytes());
    raw.extend((data.len() as u32).to_le_bytes());
    raw.extend([1, 0, operation, 0, flags, 0, 0, 0]);
    raw.extend(credit.0.to_le_bytes());
    raw.extend(credit.1.to_le_bytes());
    raw.extend(data);
    raw
}

fuzz_target!(|events: Vec<Event>| {
    let stem = std::env::temp_dir().join(format!("posada-fuzz-{}", std::process::id()));
    let service_path = stem.with_file_name(format!("posada-fuzz-{}_1", std::process::id()));
    // An earlier run of this process may have left it.
    let _ = std::fs::remove_file(&service_path);
    let service = UnixListener::bind(&service_path).unwrap();
    service.set_nonblocking(true).unwrap();
    let mut vsock = Vsock::new(CID, &stem).unwrap();
    let mut driver = Driver::new(&mut vsock);
    let mut clients: Vec<UnixStream> = Vec::new();
    for event in events {
        match event {
            Event::Step(step) => driver.step(step),
            Event::Packet { host, guest, operation, flags, buf_alloc, fwd_cnt, data } => {
                let host = match host % 4 {
                    port @ 0..2 => u32::from(port),
                    port => (1 << 30) + u32::from(port) - 2,
                };
                let credit = (buf_alloc, fwd_cnt);
                let bytes = packet(host, u32::from(guest % 4), operation % 9, flags % 4, credit, &data);
                driver.step(Step::Send { queue: 1, bytes });
            }
            Event::Connect { port } if clients.len() < 100 => {
                let mut client = UnixStream::connect(&stem).unwrap();
                client.set_nonblocking(true).unwrap();
                // It is new, and has room.
                writeln!(client, "CONNECT {}", port % 4).unwrap();
                clients.push(client);
            }
            // One that is full or gone is part of the game.
            Event::Say(bytes) => {
                let _ = clients.last_mut().map(|client| client.write(&bytes));
            }
            Event::Hear => {
                let _ = clients.last_mut().map(|client| client.read(&mut [0; 4096]));
            }
            Event::Leave => drop(clients.pop()),
            Event::Accept => clients.extend(service.accept().map(|(stream, _)| stream)),
            Event::Connect { .. } => {}
        }
    }
    vsock.reset();
});
