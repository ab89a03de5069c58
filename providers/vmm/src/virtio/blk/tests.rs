//! The device with queues driven by hand.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use proptest::prelude::*;
use virtio_bindings::virtio_ring::{VRING_DESC_F_INDIRECT, VRING_DESC_F_NEXT, VRING_DESC_F_WRITE};
use virtio_queue::desc::RawDescriptor;
use virtio_queue::desc::split::Descriptor;
use virtio_queue::mock::MockSplitQueue;
use virtio_queue::{Queue, QueueT};
use vm_memory::{Bytes, GuestAddress};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::Blk;
use super::worker::fuzz_queue;
use crate::block::{Engine, Image, ImageOptions};
use crate::config::{Disk, DiskFormat};
use crate::memory::GuestRam;
use crate::virtio::{Activation, ActiveQueue, Interrupt, VirtioDevice};

const SECTORS: u64 = 2048;
const RAM: usize = 1 << 20;
/// Where requests lie; the rings are below.
const HEADER: u64 = 0x1_0000;
const DATA: u64 = 0x2_0000;
const STATUS: u64 = 0x1_8000;
const NEXT: u16 = VRING_DESC_F_NEXT as u16;
const WRITE: u16 = VRING_DESC_F_WRITE as u16;

#[derive(Default)]
struct Signals {
    count: Mutex<u32>,
    raised: Condvar,
    resets: AtomicU32,
}

impl Interrupt for Signals {
    fn queue(&self, _index: u16) {
        *self.count.lock().unwrap() += 1;
        self.raised.notify_all();
    }

    fn config(&self) {}

    fn needs_reset(&self) {
        self.resets.fetch_add(1, Ordering::SeqCst);
        self.raised.notify_all();
    }
}

struct Bench {
    _folder: tempfile::TempDir,
    path: std::path::PathBuf,
    ram: Arc<GuestRam>,
    signals: Arc<Signals>,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk.raw");
        let bytes: Vec<u8> = (0..SECTORS * 512).map(|at| (at / 512 % 251) as u8).collect();
        fs_err::write(&path, bytes).unwrap();
        let ram = Arc::new(crate::memory::allocate(&[(GuestAddress(0), RAM)]).unwrap());
        Self { _folder: folder, path, ram, signals: Arc::default() }
    }

    fn disk(&self, read_only: bool) -> Disk {
        Disk {
            path: self.path.clone(),
            format: DiskFormat::Raw,
            backing: Vec::new(),
            read_only,
            serial: "posada-0".to_owned(),
        }
    }

    fn image(&self, read_only: bool) -> Arc<Image> {
        let options = ImageOptions { path: &self.path, format: DiskFormat::Raw, read_only, backing: &[] };
        Arc::new(Image::open(&options, Arc::new(Engine::new().unwrap()), None).unwrap())
    }

    fn active(&self, queue: Queue) -> ActiveQueue {
        let kick = EventFd::new(EFD_NONBLOCK).unwrap();
        ActiveQueue::new(0, queue, kick, self.ram.clone(), self.signals.clone())
    }

    /// Serves one chain and returns its status byte and the length told as used.
    fn request(&self, read_only: bool, header: [u8; 16], chain: &[RawDescriptor]) -> (u8, u32) {
        self.ram.write_slice(&header, GuestAddress(HEADER)).unwrap();
        self.ram.write_obj(0xff_u8, GuestAddress(STATUS)).unwrap();
        let mock = MockSplitQueue::new(&*self.ram, 16);
        mock.build_desc_chain(chain).unwrap();
        let queue = self.active(mock.create_queue().unwrap());
        fuzz_queue(&self.ram, &self.image(read_only), vec![queue]);
        assert_eq!(u16::from_le(mock.used().idx().load()), 1, "each chain is given back");
        let status = self.ram.read_obj(GuestAddress(STATUS)).unwrap();
        (status, u32::from_le(mock.used().ring().ref_at(0).unwrap().load().len()))
    }
}

fn header(kind: u32, sector: u64) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&kind.to_le_bytes());
    bytes[8..].copy_from_slice(&sector.to_le_bytes());
    bytes
}

fn part(address: u64, len: u32, flags: u16) -> RawDescriptor {
    RawDescriptor::from(Descriptor::new(address, len, flags, 0))
}

/// Header, data and status, each in one part.
fn plain(len: u32, flags: u16) -> [RawDescriptor; 3] {
    [part(HEADER, 16, NEXT), part(DATA, len, NEXT | flags), part(STATUS, 1, WRITE)]
}

#[test]
fn reads_and_writes_sectors() {
    let bench = Bench::new();
    assert_eq!(bench.request(false, header(0, 5), &plain(1024, WRITE)), (0, 1025));
    let mut read = [0; 1024];
    bench.ram.read_slice(&mut read, GuestAddress(DATA)).unwrap();
    assert!(read[..512].iter().all(|&byte| byte == 5) && read[512..].iter().all(|&byte| byte == 6));
    bench.ram.write_slice(&[0xab; 512], GuestAddress(DATA)).unwrap();
    assert_eq!(bench.request(false, header(1, 7), &plain(512, 0)), (0, 1));
    assert_eq!(fs_err::read(&bench.path).unwrap()[7 * 512..8 * 512], [0xab; 512]);
    assert_eq!(bench.request(false, header(4, 0), &[part(HEADER, 16, NEXT), part(STATUS, 1, WRITE)]), (0, 1));
}

#[test]
fn header_and_status_may_be_split_and_joined() {
    let bench = Bench::new();
    let split = [part(HEADER, 3, NEXT), part(HEADER + 3, 13, NEXT), part(STATUS - 512, 513, WRITE)];
    assert_eq!(bench.request(false, header(0, 9), &split), (0, 513));
    let mut read = [0; 512];
    bench.ram.read_slice(&mut read, GuestAddress(STATUS - 512)).unwrap();
    assert_eq!(read, [9; 512]);
}

#[test]
fn tells_its_serial_number() {
    let bench = Bench::new();
    let mut blk = Blk::open(&bench.disk(false), "disk", 1, None).unwrap();
    let mock = MockSplitQueue::new(&*bench.ram, 16);
    bench.ram.write_slice(&header(8, 0), GuestAddress(HEADER)).unwrap();
    mock.build_desc_chain(&plain(20, WRITE)).unwrap();
    let queue = bench.active(mock.create_queue().unwrap());
    let kick = queue.kick().try_clone().unwrap();
    let (ram, features) = (bench.ram.clone(), blk.features());
    let interrupt = bench.signals.clone();
    blk.activate(Activation { ram, features, queues: vec![queue], interrupt }).unwrap();
    kick.write(1).unwrap();
    let mut count = bench.signals.count.lock().unwrap();
    while *count == 0 {
        count = bench.signals.raised.wait(count).unwrap();
    }
    drop(count);
    let mut serial = [0xff; 20];
    bench.ram.read_slice(&mut serial, GuestAddress(DATA)).unwrap();
    assert_eq!(&serial, b"posada-0\0\0\0\0\0\0\0\0\0\0\0\0");
    blk.reset();
    // And again, as a driver that is loaded twice would.
    let mock = MockSplitQueue::new(&*bench.ram, 16);
    mock.build_desc_chain(&plain(512, WRITE)).unwrap();
    bench.ram.write_slice(&header(0, 3), GuestAddress(HEADER)).unwrap();
    let queue = bench.active(mock.create_queue().unwrap());
    let kick = queue.kick().try_clone().unwrap();
    let (ram, interrupt) = (bench.ram.clone(), bench.signals.clone());
    blk.activate(Activation { ram, features, queues: vec![queue], interrupt }).unwrap();
    kick.write(1).unwrap();
    let mut count = bench.signals.count.lock().unwrap();
    while *count == 1 {
        count = bench.signals.raised.wait(count).unwrap();
    }
    drop(count);
    assert_eq!(bench.ram.read_obj::<u8>(GuestAddress(DATA)).unwrap(), 3);
}

#[test]
fn a_reset_lets_what_is_in_flight_end_first() {
    let bench = Bench::new();
    let mut blk = Blk::open(&bench.disk(false), "disk", 1, None).unwrap();
    let mock = MockSplitQueue::new(&*bench.ram, 16);
    bench.ram.write_slice(&header(1, 0), GuestAddress(HEADER)).unwrap();
    bench.ram.write_slice(&[0xcd; 65536], GuestAddress(DATA)).unwrap();
    mock.build_desc_chain(&plain(65536, 0)).unwrap();
    let queue = bench.active(mock.create_queue().unwrap());
    queue.kick().write(1).unwrap();
    let (ram, features, interrupt) = (bench.ram.clone(), blk.features(), bench.signals.clone());
    blk.activate(Activation { ram, features, queues: vec![queue], interrupt }).unwrap();
    blk.reset();
    let written = fs_err::read(&bench.path).unwrap()[..65536].to_vec();
    // The request was begun or not; if it was, it is over.
    assert!(written == [0xcd; 65536] || written[512] == 1 && written[65535] == 127);
    bench.ram.write_slice(&[0xee; 65536], GuestAddress(DATA)).unwrap();
    assert!(fs_err::read(&bench.path).unwrap()[..65536] == written, "nothing goes on after a reset");
}

#[test]
fn what_lies_outside_of_the_disk_is_refused() {
    let bench = Bench::new();
    for (kind, sector, len) in [
        (0, SECTORS, 512),
        (0, SECTORS - 1, 1024),
        (0, u64::MAX, 512),
        (0, u64::MAX / 512, 512),
        (0, 0, 511),
        (1, SECTORS, 512),
        (1, 1 << 55, 512),
        (1, 0, 100),
    ] {
        let flags = if kind == 0 { WRITE } else { 0 };
        assert_eq!(bench.request(false, header(kind, sector), &plain(len, flags)), (1, 1), "{sector} {len}");
    }
    assert_eq!(bench.request(false, header(99, 0), &plain(512, WRITE)).0, 2);
    assert_eq!(bench.request(false, header(0, 0), &plain(RAM as u32, WRITE)).0, 1, "beyond memory");
}

#[test]
fn a_read_only_disk_is_not_written() {
    let bench = Bench::new();
    let before = fs_err::read(&bench.path).unwrap();
    let mut range = [0; 16];
    range[8] = 8;
    bench.ram.write_slice(&range, GuestAddress(DATA)).unwrap();
    for (kind, len) in [(1, 512), (11, 16), (13, 16)] {
        assert_eq!(bench.request(true, header(kind, 0), &plain(len, 0)).0, 1);
    }
    assert!(fs_err::read(&bench.path).unwrap() == before);
    assert_eq!(bench.request(true, header(0, 0), &plain(512, WRITE)).0, 0);
}

#[test]
fn discards_and_zeroes_ranges() {
    let bench = Bench::new();
    let range = |sector: u64, sectors: u32, flags: u32| {
        let bytes = [&sector.to_le_bytes()[..], &sectors.to_le_bytes(), &flags.to_le_bytes()].concat();
        bench.ram.write_slice(&bytes, GuestAddress(DATA)).unwrap();
    };
    let byte = |sector: usize| fs_err::read(&bench.path).unwrap()[sector * 512];
    range(3, 2, 1);
    assert_eq!(bench.request(false, header(13, 0), &plain(16, 0)).0, 0);
    assert_eq!([byte(2), byte(3), byte(4), byte(5)], [2, 0, 0, 5]);
    range(8, 8, 0);
    assert_eq!(bench.request(false, header(11, 0), &plain(16, 0)).0, 0);
    assert_eq!([byte(7), byte(8), byte(16)], [7, 0, 16]);
    range(0, 8, 1);
    assert_eq!(bench.request(false, header(11, 0), &plain(16, 0)).0, 2, "discard has no unmap flag");
    range(0, 8, 2);
    assert_eq!(bench.request(false, header(13, 0), &plain(16, 0)).0, 2, "reserved flag");
    range(SECTORS, 1, 0);
    assert_eq!(bench.request(false, header(11, 0), &plain(16, 0)).0, 1);
    range(0, u32::MAX, 0);
    assert_eq!(bench.request(false, header(13, 0), &plain(16, 0)).0, 1);
    assert_eq!(bench.request(false, header(13, 0), &plain(15, 0)).0, 1);
    assert_eq!(byte(0), 0);
    assert_eq!(byte(1), 1);
}

#[test]
fn chains_that_break_the_rules_are_given_back() {
    let bench = Bench::new();
    let before = fs_err::read(&bench.path).unwrap();
    let wrong_order = [part(STATUS, 1, NEXT | WRITE), part(HEADER, 16, NEXT), part(DATA, 512, 0)];
    assert_eq!(bench.request(false, header(1, 0), &wrong_order), (0xff, 0));
    assert_eq!(bench.request(false, header(1, 0), &[part(HEADER, 16, 0)]), (0xff, 0), "no status");
    assert_eq!(bench.request(false, header(1, 0), &[part(HEADER, 15, NEXT), part(STATUS, 1, WRITE)]).0, 1);
    let indirect = VRING_DESC_F_INDIRECT as u16;
    assert_eq!(bench.request(false, header(1, 0), &[part(DATA, 17, indirect)]), (0xff, 0), "no whole table");
    // A write with no data at all changes nothing, and is no error.
    assert_eq!(bench.request(false, header(1, 0), &[part(HEADER, 16, NEXT), part(STATUS, 1, WRITE)]).0, 0);
    assert!(fs_err::read(&bench.path).unwrap() == before);
}

#[test]
fn an_available_ring_out_of_bounds_is_told() {
    let bench = Bench::new();
    let mut blk = Blk::open(&bench.disk(false), "disk", 1, None).unwrap();
    let mock = MockSplitQueue::new(&*bench.ram, 16);
    mock.avail().idx().store(u16::to_le(500));
    let queue = bench.active(mock.create_queue().unwrap());
    queue.kick().write(1).unwrap();
    let (ram, features, interrupt) = (bench.ram.clone(), blk.features(), bench.signals.clone());
    let mut count = bench.signals.count.lock().unwrap();
    blk.activate(Activation { ram, features, queues: vec![queue], interrupt }).unwrap();
    while bench.signals.resets.load(Ordering::SeqCst) == 0 {
        let (next, timeout) =
            bench.signals.raised.wait_timeout(count, std::time::Duration::from_secs(20)).unwrap();
        count = next;
        assert!(!timeout.timed_out() || bench.signals.resets.load(Ordering::SeqCst) > 0);
    }
}

#[test]
fn its_configuration_space_is_as_long_as_it_says() {
    let bench = Bench::new();
    let blk = Blk::open(&bench.disk(false), "disk", 8, None).unwrap();
    let mut config = [0xff; 64];
    blk.read_config(0, &mut config);
    assert_eq!(config[..8], SECTORS.to_le_bytes());
    assert_eq!(config[34..36], 4_u16.to_le_bytes());
    assert_eq!(config[60..], [0xff; 4]);
    blk.read_config(u64::MAX, &mut config);
    blk.read_config(59, &mut config);
    assert_eq!(blk.queues(), [256; 4]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever lies in the rings: no panic, no hang, nothing in flight afterwards, the disk's length as before.
    #[test]
    fn hostile_chains_harm_nobody(
        seed in prop::collection::vec((any::<u16>(), 0_u64..0x11_0000, 0_u32..0x1_1000, 0_u16..8, 0_u16..20), 1..16),
        heads in prop::collection::vec(0_u16..20, 1..8),
        kinds in prop::collection::vec(0_u32..15, 4),
        sectors in prop::collection::vec(prop_oneof![0..SECTORS, any::<u64>()], 4),
    ) {
        let bench = Bench::new();
        for (place, (kind, sector)) in kinds.iter().zip(&sectors).enumerate() {
            bench.ram.write_slice(&header(*kind, *sector), GuestAddress(HEADER + place as u64 * 16)).unwrap();
        }
        let mock = MockSplitQueue::new(&*bench.ram, 16);
        for (index, (choice, address, len, flags, next)) in seed.iter().enumerate() {
            let (address, len) = match choice % 3 {
                0 => (HEADER + u64::from(choice % 4) * 16, 16),
                _ => (*address, *len),
            };
            let descriptor = RawDescriptor::from(Descriptor::new(address, len, *flags, *next));
            mock.desc_table().store(index as u16, descriptor).unwrap();
        }
        for (place, head) in heads.iter().enumerate() {
            mock.avail().ring().ref_at(place).unwrap().store(u16::to_le(*head));
        }
        mock.avail().idx().store(u16::to_le(heads.len() as u16));
        let mut queue: Queue = mock.create_queue().unwrap();
        queue.set_event_idx(heads.len() % 2 == 0);
        fuzz_queue(&bench.ram, &bench.image(false), vec![bench.active(queue)]);
        prop_assert_eq!(fs_err::metadata(&bench.path).unwrap().len(), SECTORS * 512);
    }
}
