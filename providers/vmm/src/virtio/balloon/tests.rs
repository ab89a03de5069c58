//! A balloon under a driver written by hand. What the host has of a page is asked of the kernel (`mincore`).

use proptest::prelude::*;
use vm_memory::{GuestAddress, GuestMemoryBackend};

use super::*;
use crate::virtio::testing::{Guest, MEMORY, Signal};

const REPORT: usize = 2;
const LIST: u64 = 0x8000;

fn device(features: u64) -> (Balloon, BalloonHandle, Guest) {
    let (mut balloon, handle) = Balloon::new();
    let (guest, activation) = Guest::new(&[QUEUE; 3], features);
    balloon.activate(activation).unwrap();
    (balloon, handle, guest)
}

fn all() -> u64 {
    Balloon::new().0.features()
}

/// Writes to a page, so that the host has it.
fn fill(guest: &Guest, page: u64) {
    guest.write(page * 4096, &[0xaa; 4096]);
    assert!(is_there(guest, page));
}

fn is_there(guest: &Guest, page: u64) -> bool {
    let place = guest.ram.get_host_address(GuestAddress(page * 4096)).unwrap();
    let mut there = [0];
    // SAFETY: the page is mapped, and one byte for it is there.
    assert_eq!(unsafe { libc::mincore(place.cast(), 4096, there.as_mut_ptr()) }, 0);
    there[0] & 1 == 1
}

fn list(guest: &Guest, numbers: &[u32]) -> u32 {
    let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
    guest.write(LIST, &bytes);
    bytes.len() as u32
}

#[test]
fn inflating_gives_exactly_the_listed_pages_to_the_host() {
    let (_balloon, _handle, mut guest) = device(all());
    for page in 0x100..0x120 {
        fill(&guest, page);
    }
    // Out of order, twice, and with a gap.
    let length = list(&guest, &[0x103, 0x102, 0x104, 0x103, 0x110]);
    guest.queues[0].add(&[(LIST, 8, false), (LIST + 8, length - 8, false)]);
    guest.queues[0].kick();
    assert_eq!(guest.wait_used(0), (0, 0));
    for page in 0x100..0x120 {
        assert_eq!(is_there(&guest, page), !matches!(page, 0x102..=0x104 | 0x110), "{page:#x}");
    }
    let length = list(&guest, &[0x102]);
    guest.queues[1].add(&[(LIST, length, false)]);
    guest.queues[1].kick();
    assert_eq!(guest.wait_used(1), (0, 0));
    assert_eq!(guest.read(0x10_2000, 8), [0; 8], "a page taken back is there, and empty");
}

#[test]
fn reported_pages_go_whole_ones_only() {
    let (_balloon, _handle, mut guest) = device(all());
    for page in 0x200..0x208 {
        fill(&guest, page);
    }
    guest.queues[REPORT].add(&[
        (0x20_0000, 0x2000, true),
        (0x20_4800, 0x2000, true),
        (0x20_7100, 0x800, true),
    ]);
    guest.queues[REPORT].kick();
    assert_eq!(guest.wait_used(REPORT), (0, 0));
    let left: Vec<u64> = (0x200..0x208).filter(|page| is_there(&guest, *page)).collect();
    assert_eq!(left, [0x202, 0x203, 0x204, 0x206, 0x207]);
    assert_eq!(guest.read(0x20_4800, 4), [0xaa; 4]);
}

#[test]
fn reports_are_heard_at_the_number_of_the_specification_too() {
    let (mut balloon, _handle) = Balloon::new();
    let (mut guest, mut activation) = Guest::new(&[QUEUE; 5], all());
    activation.queues.drain(2..4);
    balloon.activate(activation).unwrap();
    fill(&guest, 0x200);
    guest.queues[4].add(&[(0x20_0000, 0x1000, true)]);
    guest.queues[4].kick();
    guest.wait_used(4);
    assert!(!is_there(&guest, 0x200));
}

#[test]
fn poisoned_pages_keep_their_poison() {
    let (mut balloon, _handle, mut guest) = device(all());
    balloon.write_config(12, &0xaaaa_aaaa_u32.to_le_bytes());
    fill(&guest, 0x200);
    guest.queues[REPORT].add(&[(0x20_0000, 0x1000, true)]);
    guest.queues[REPORT].kick();
    guest.wait_used(REPORT);
    assert_eq!(guest.read(0x20_0000, 4), [0xaa; 4]);
}

#[test]
fn a_target_is_told_to_the_driver() {
    let (mut balloon, handle, guest) = device(all());
    let word = |balloon: &Balloon, at| {
        let mut word = [0; 4];
        balloon.read_config(at, &mut word);
        u32::from_le_bytes(word)
    };
    handle.set_target((64 << 20) + 5);
    assert_eq!(guest.signal(), Signal::Config);
    assert_eq!((word(&balloon, 0), handle.target()), (16_384, 64 << 20));
    handle.set_target(64 << 20);
    assert_eq!(guest.said(), [], "nothing has changed");
    balloon.write_config(4, &77_u32.to_le_bytes());
    assert_eq!((word(&balloon, 4), handle.actual()), (77, 77 * 4096));
    balloon.write_config(0, &[0xff; 4]);
    balloon.write_config(u64::MAX, &[0xff; 8]);
    balloon.write_config(14, &[0xff; 8]);
    assert_eq!((word(&balloon, 0), word(&balloon, 4), word(&balloon, 12)), (16_384, 77, 0xffff_0000));
    balloon.reset();
    handle.set_target(0);
    handle.set_target(u64::MAX);
    assert_eq!(guest.said(), [], "there is no driver to hear it");
    assert_eq!((word(&balloon, 0), handle.actual()), (u32::MAX, 0));
}

#[test]
fn nonsense_asks_for_a_reset() {
    let outside = MEMORY as u64;
    let numbers = [(outside / 4096) as u32, u32::MAX];
    let bad: [(usize, (u64, u32, bool)); 8] = [
        (0, (LIST, 4, false)),
        (0, (LIST + 4, 4, false)),
        (0, (LIST, 6, false)),
        (0, (LIST, 4, true)),
        (0, (LIST, 0x2_0000, false)),
        (REPORT, (outside - 4096, 8192, true)),
        (REPORT, (u64::MAX - 4095, 8192, true)),
        (REPORT, (0x1000, 4096, false)),
    ];
    for (queue, piece) in bad {
        let (_balloon, _handle, mut guest) = device(all());
        list(&guest, &numbers);
        guest.queues[queue].add(&[piece]);
        guest.queues[queue].kick();
        guest.wait_needs_reset();
    }
}

#[test]
fn a_driver_without_queues_is_refused() {
    let (mut balloon, _handle) = Balloon::new();
    let (_guest, activation) = Guest::new(&[QUEUE], all());
    assert!(balloon.activate(activation).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    /// Whatever page numbers and reports a driver sends, only pages named in them are lost.
    #[test]
    fn only_named_pages_are_lost(
        numbers in proptest::collection::vec(0x100..0x140_u32, 0..64),
        reports in proptest::collection::vec((0x10_0000..0x14_0000_u64, 0..0x8000_u32), 0..4),
    ) {
        let (_balloon, _handle, mut guest) = device(all());
        for page in 0x100..0x150 {
            fill(&guest, page);
        }
        let length = list(&guest, &numbers);
        guest.queues[0].add(&[(LIST, length, false)]);
        guest.queues[0].kick();
        guest.wait_used(0);
        for (start, length) in &reports {
            guest.queues[REPORT].add(&[(*start, *length, true)]);
            guest.queues[REPORT].kick();
            guest.wait_used(REPORT);
        }
        for page in 0x100..0x150_u64 {
            let reported = reports.iter().any(|(start, length)| {
                *start <= page * 4096 && page * 4096 + 4096 <= start + u64::from(*length)
            });
            prop_assert_eq!(is_there(&guest, page), !(reported || numbers.contains(&(page as u32))));
        }
    }

    /// Whatever a driver writes into its rings, the device answers or asks for a reset.
    #[test]
    fn survives_any_descriptors(
        descriptors in proptest::collection::vec((any::<u64>(), any::<u32>(), 0..8_u16, 0..150_u16), 1..12),
        heads in proptest::collection::vec(0..150_u16, 1..8),
        queue in 0..3_usize,
    ) {
        let (balloon, _handle, mut guest) = device(all());
        for (index, (address, length, flags, next)) in descriptors.iter().enumerate() {
            let address = if address & 1 == 0 { address % MEMORY as u64 } else { *address };
            guest.queues[queue].describe(index as u16, address, *length >> (length % 32), *flags, *next);
        }
        for head in heads {
            guest.queues[queue].offer(head);
        }
        guest.queues[queue].kick();
        drop(balloon);
    }
}
