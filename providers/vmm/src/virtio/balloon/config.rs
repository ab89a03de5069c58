//! The configuration space (virtio 1.2, section 5.5.4): `num_pages`, `actual`, `free_page_hint_cmd_id`, `poison_val`,
//! each of 32 bits.

use std::sync::atomic::Ordering;

use super::handle::Shared;

const LENGTH: usize = 16;
const ACTUAL: usize = 4;
const POISON: usize = 12;

fn space(shared: &Shared) -> [u8; LENGTH] {
    let mut space = [0; LENGTH];
    space[..4].copy_from_slice(&shared.target.load(Ordering::Relaxed).to_le_bytes());
    space[ACTUAL..][..4].copy_from_slice(&shared.actual.load(Ordering::Relaxed).to_le_bytes());
    space[POISON..][..4].copy_from_slice(&shared.poison.load(Ordering::Relaxed).to_le_bytes());
    space
}

pub(super) fn read(shared: &Shared, offset: u64, data: &mut [u8]) {
    let Ok(offset) = usize::try_from(offset) else { return };
    for (place, byte) in data.iter_mut().zip(space(shared).get(offset..).unwrap_or_default()) {
        *place = *byte;
    }
}

/// The driver writes `actual` and `poison_val`; what it writes elsewhere goes nowhere.
pub(super) fn write(shared: &Shared, offset: u64, data: &[u8]) {
    let mut space = space(shared);
    let place = usize::try_from(offset).ok().and_then(|offset| space.get_mut(offset..));
    for (place, byte) in place.unwrap_or_default().iter_mut().zip(data) {
        *place = *byte;
    }
    let word = |at: usize| u32::from_le_bytes(space[at..at + 4].try_into().expect("four bytes"));
    shared.actual.store(word(ACTUAL), Ordering::Relaxed);
    shared.poison.store(word(POISON), Ordering::Relaxed);
}
