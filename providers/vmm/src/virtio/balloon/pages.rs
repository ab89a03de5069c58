//! Giving pages back to the host.

use std::io;

use rustix::param::page_size;
use vm_memory::{GuestAddress, GuestMemoryBackend};

use crate::memory::GuestRam;
use crate::virtio::DeviceError;
use crate::virtio::buffers::ChainError;

/// What the driver counts in, bytes, whatever pages it or the host has (virtio 1.2, section 5.5.6).
pub(super) const PAGE: u64 = 4096;

/// Gives back the whole pages of the host in the `length` bytes at `start`; they read as zeroes from now on.
pub(super) fn discard(ram: &GuestRam, start: u64, length: u64) -> Result<(), DeviceError> {
    let host = page_size() as u64;
    let end = start.checked_add(length).ok_or(ChainError::Outside)?;
    if !ram.check_range(GuestAddress(start), length as usize) {
        return Err(ChainError::Outside.into());
    }
    // A region begins at the start of a page, in the guest as in the host.
    let (Some(start), end) = (start.checked_next_multiple_of(host), end / host * host) else { return Ok(()) };
    if start >= end {
        return Ok(());
    }
    for slice in ram.get_slices(GuestAddress(start), (end - start) as usize) {
        let slice = slice.map_err(|_| ChainError::Outside)?;
        let place = slice.ptr_guard_mut().as_ptr();
        // SAFETY: the pages are the guest's memory, mapped as long as `ram` is borrowed; nobody on the host relies on
        // what is in it, and the mapping stays.
        if unsafe { libc::madvise(place.cast(), slice.len(), libc::MADV_DONTNEED) } < 0 {
            return Err(io::Error::last_os_error().into());
        }
    }
    Ok(())
}

/// Gives back the pages with these numbers. Neighbours go together: one call instead of hundreds.
pub(super) fn discard_all(ram: &GuestRam, numbers: &mut Vec<u32>) -> Result<(), DeviceError> {
    numbers.sort_unstable();
    numbers.dedup();
    let neighbours = numbers.chunk_by(|one, next| one + 1 == *next);
    for run in neighbours {
        discard(ram, u64::from(run[0]) * PAGE, run.len() as u64 * PAGE)?;
    }
    Ok(())
}
