//! Guests that write without sense into whatever they can reach: the monitor pauses, goes on and ends them all the same.

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use posada_vmm::config::{Disk, DiskFormat, Folder, Nic, NicBackend, Owners, Vsock};
use posada_vmm::fuse::Root;
use posada_vmm::machine::{Exit, Running, Vm};

use crate::machine;
use crate::payload::{Payload, Width};

/// The tests of this file.
pub const ALL: &[(&str, fn())] = &[
    ("nonsense::the_programs_reach_the_devices", reached),
    ("nonsense::configuration_space_bars_and_devices", devices),
    ("nonsense::power_and_other_ports", ports),
];

/// Where the program puts the devices' memory: 1 MiB for each.
const BARS: u32 = 0xc000_0000;
/// Configuration space, memory mapped (`layout::ECAM`).
const ECAM: u32 = 0xe000_0000;
/// Devices on the bus, the host bridge with them.
const DEVICES: u32 = 9;
/// What a machine may take to do what it is told, also where a CPU is emulated.
const PATIENCE: Duration = Duration::from_secs(60);
/// What the program prints at its end.
const END: u8 = b'!';

/// Numbers without a pattern, the same in every run.
struct Numbers(u64);

impl Numbers {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    fn next(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as u32
    }

    fn below(&mut self, bound: u32) -> u32 {
        self.next() % bound
    }

    /// Such as drivers write, more often than by chance.
    fn value(&mut self) -> u32 {
        match self.below(4) {
            0 => 1 << self.below(32),
            1 => self.below(16),
            2 => 0_u32.wrapping_sub(self.below(3)),
            _ => self.next(),
        }
    }

    fn width(&mut self) -> Width {
        [Width::Byte, Width::Word, Width::Long][self.below(3) as usize]
    }
}

/// Selects a register of configuration space (PCI Local Bus 3.0, section 3.2.2.3.2).
fn select(payload: &mut Payload, device: u32, register: u32) {
    payload.output(0xcf8, 1 << 31 | device << 11 | register & 0xfc, Width::Long);
}

/// Gives each device its memory, at an address that the program knows, and switches it on.
fn place_devices(payload: &mut Payload) {
    for device in 1..DEVICES {
        for (register, value) in [(0x10, BARS + (device << 20)), (0x14, 0), (0x04, 6)] {
            select(payload, device, register);
            payload.output(0xcfc, value, Width::Long);
        }
    }
}

/// One access somewhere in PCI space.
fn poke(payload: &mut Payload, numbers: &mut Numbers) {
    let (device, value, width) = (numbers.below(DEVICES), numbers.value(), numbers.width());
    let address = match numbers.below(16) {
        // Mostly what a virtio device has there: its registers, its notifications, its interrupt table.
        0..=8 => BARS + (device << 20) + (numbers.below(0x80) << (numbers.below(4) * 3)),
        9..=11 => ECAM + (device << 15) + numbers.below(0x100),
        12 => ECAM + numbers.below(1 << 20),
        13 => BARS + numbers.below(ECAM - BARS),
        14 => {
            select(payload, device, numbers.below(256));
            let port = 0xcfc + numbers.below(4) as u16;
            return if numbers.below(4) == 0 {
                payload.input(port, width)
            } else {
                payload.output(port, value, width)
            };
        }
        _ => return place_devices(payload),
    };
    if numbers.below(4) == 0 { payload.read(address, width) } else { payload.write(address, value, width) }
}

/// A machine with one device of each kind that runs `payload`.
fn start(payload: Payload, folder: &std::path::Path) -> (Arc<Running>, UnixStream) {
    let kernel = payload.kernel();
    let (mut config, serial) = machine(kernel.path());
    let image = folder.join("disk");
    std::fs::write(&image, vec![0; 1 << 20]).expect("written");
    let (ours, theirs) = std::os::unix::net::UnixDatagram::pair().expect("a socket pair");
    // Nobody answers on the wire, and nobody has to.
    drop(ours);
    let shared = folder.join("shared");
    std::fs::create_dir_all(&shared).expect("a directory");
    let disk = Disk {
        path: image,
        format: DiskFormat::Raw,
        backing: Vec::new(),
        read_only: false,
        serial: String::new(),
    };
    config.devices.disks.push(disk);
    config.devices.nics.push(Nic {
        mac: [2, 0, 0, 0, 0, 1],
        mtu: 1500,
        backend: NicBackend::Frames(theirs.into()),
    });
    let owners = Owners { host: (0, 0), guest: (0, 0) };
    config.devices.folders.push(Folder {
        tag: "x".to_owned(),
        root: Root::open(&shared).expect("a folder"),
        read_only: true,
        owners,
        changes: None,
    });
    config.devices.vsock = Some(Vsock { cid: 3, path: folder.join("vsock") });
    config.devices.balloon = true;
    let running = Vm::build(config).and_then(Vm::start).expect("the machine starts");
    (Arc::new(running), serial)
}

/// Waits until the machine has printed its last or has ended.
fn watch(running: &Arc<Running>, mut serial: UnixStream) -> Result<(), mpsc::RecvTimeoutError> {
    let (printed, said) = mpsc::channel();
    let ended = printed.clone();
    thread::spawn(move || {
        let mut bytes = [0; 256];
        while let Ok(count @ 1..) = serial.read(&mut bytes) {
            if bytes[..count].contains(&END) {
                // Whoever asked may have gone.
                let _ = printed.send(());
            }
        }
    });
    let running = running.clone();
    thread::spawn(move || {
        let _ = running.wait();
        drop(running);
        let _ = ended.send(());
    });
    said.recv_timeout(PATIENCE)
}

/// Ends the machine, which must come to an end.
fn end(running: Arc<Running>) -> Exit {
    let (say, said) = mpsc::channel();
    let handle = running.handle();
    handle.pause();
    handle.resume();
    handle.pause();
    handle.kill();
    thread::spawn(move || {
        let exit = running.wait();
        // With all its devices' threads.
        drop(running);
        let _ = say.send(exit);
    });
    said.recv_timeout(PATIENCE).expect("the monitor ends")
}

/// What the others write is written to devices: each tells how many queues it has (virtio 1.2, section 4.1.4.3) where
/// the program has put it.
fn reached() {
    let folder = tempfile::tempdir().expect("a directory");
    let mut payload = Payload::default();
    place_devices(&mut payload);
    payload.print(b'>');
    for device in 1..DEVICES {
        payload.read(BARS + (device << 20) + 0x12, Width::Byte);
        payload.show();
    }
    let (running, mut serial) = start(payload, folder.path());
    let mut printed = [0; 1 + DEVICES as usize - 1];
    serial.read_exact(&mut printed).expect("printed");
    let answer = printed[1..].iter().filter(|queues| (1..=16).contains(*queues)).count();
    // A disk, a network card, a folder, a socket, a balloon.
    assert!(printed[0] == b'>' && answer >= 5, "{printed:?}");
    assert_eq!(end(running), Exit::Killed);
}

fn devices() {
    for seed in 1..=12 {
        let folder = tempfile::tempdir().expect("a directory");
        let mut numbers = Numbers::new(seed);
        let mut payload = Payload::default();
        place_devices(&mut payload);
        for _ in 0..4000 {
            poke(&mut payload, &mut numbers);
        }
        payload.print(END);
        let (running, serial) = start(payload, folder.path());
        running.handle().pause();
        running.handle().resume();
        watch(&running, serial)
            .unwrap_or_else(|error| panic!("seed {seed}: {error}; {:?}", running.handle().exit()));
        assert_eq!(end(running), Exit::Killed, "seed {seed}");
    }
}

/// Some of these end the machine, as they should; none ends the monitor.
fn ports() {
    let (mut ended, mut survived) = (0, 0);
    for seed in 1..=40 {
        let folder = tempfile::tempdir().expect("a directory");
        let mut numbers = Numbers::new(seed);
        let mut payload = Payload::default();
        for _ in 0..60 {
            let base = [0x600, 0x600, 0x60, 0xcf8, 0x505, 0x3f8, 0xffff_u16][numbers.below(7) as usize];
            let port = base.wrapping_add(numbers.below(12) as u16);
            let (value, width) = (numbers.value(), numbers.width());
            if numbers.below(2) == 0 {
                payload.input(port, width)
            } else {
                payload.output(port, value, width)
            }
        }
        payload.print(END);
        let (running, serial) = start(payload, folder.path());
        watch(&running, serial).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        match end(running) {
            Exit::Killed => survived += 1,
            Exit::PoweredOff | Exit::Reset | Exit::Panicked => ended += 1,
            other @ Exit::Failed(_) => panic!("seed {seed}: {other:?}"),
        }
    }
    assert!(ended > 0 && survived > 0, "both are tried: {ended}, {survived}");
}
