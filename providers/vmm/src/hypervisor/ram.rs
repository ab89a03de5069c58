//! Getting the guest's memory from the host.

use std::sync::Arc;

use vm_memory::{GuestAddress, GuestMemoryBackend};

use super::HypervisorError;
use crate::memory::{self, GuestRam};

/// Memory for `regions` (guest address and length, bytes). Pages are taken from the host when the guest first
/// touches them.
///
/// # Errors
/// [`HypervisorError::Memory`].
pub fn allocate(regions: &[(GuestAddress, usize)]) -> Result<Arc<GuestRam>, HypervisorError> {
    let mib = regions.iter().map(|(_, length)| *length as u64).sum::<u64>() >> 20;
    let ram = memory::allocate(regions).map_err(|source| HypervisorError::Memory { mib, source })?;
    for region in ram.iter() {
        // Large pages spare the guest most of its second-level faults; where the host has none, small ones serve.
        let (start, length) = (region.as_ptr(), vm_memory::GuestMemoryRegion::len(region) as usize);
        // SAFETY: the range is a whole mapping of ours; the advice changes no content.
        unsafe {
            libc::madvise(start.cast(), length, libc::MADV_HUGEPAGE);
            // A core dump of the monitor is not the place for the guest's memory.
            libc::madvise(start.cast(), length, libc::MADV_DONTDUMP);
        }
    }
    Ok(Arc::new(ram))
}
