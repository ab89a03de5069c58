//! The guest's memory as devices see it.

use std::io;
use std::ptr::{self, NonNull};

use vm_memory::guest_memory::Result;
use vm_memory::{
    Address, FileOffset, GuestAddress, GuestMemoryError, GuestMemoryRegion, GuestMemoryRegionBytes,
    GuestRegionCollection, GuestUsize, MemoryRegionAddress, VolatileSlice,
};

/// All of the guest's RAM, by guest-physical address. Shared as `Arc<GuestRam>`; it never changes while a machine
/// runs.
pub type GuestRam = GuestRegionCollection<RamRegion>;

/// What a large page of the second-level tables maps.
const LARGE_PAGE: usize = 2 << 20;

/// Memory for `ranges` (guest address and length, bytes), sorted and apart from each other. Pages are taken from the
/// host when they are first touched.
///
/// # Errors
/// What the kernel says; `InvalidInput` where the ranges are not as told.
pub fn allocate(ranges: &[(GuestAddress, usize)]) -> io::Result<GuestRam> {
    let regions = ranges.iter().map(|(start, length)| RamRegion::new(*start, *length));
    let regions = regions.collect::<io::Result<Vec<_>>>()?;
    GuestRam::from_regions(regions).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))
}

/// One stretch of RAM: anonymous memory of the host, unmapped on drop.
///
/// Host and guest addresses are equal modulo the size of a large page. Without that the hypervisor maps the guest's
/// memory by small pages alone, however large the host's are: 512 exits instead of one to touch two MiB.
#[derive(Debug)]
pub struct RamRegion {
    guest: GuestAddress,
    host: NonNull<u8>,
    length: usize,
}

// SAFETY: the region owns its mapping, wherever it is; what lies in there is accessed as volatile bytes alone.
unsafe impl Send for RamRegion {}
// SAFETY: as above.
unsafe impl Sync for RamRegion {}

impl RamRegion {
    fn new(guest: GuestAddress, length: usize) -> io::Result<Self> {
        let invalid = || io::Error::from(io::ErrorKind::InvalidInput);
        let aligned = guest.raw_value().is_multiple_of(rustix::param::page_size() as u64);
        if length == 0 || !aligned || guest.checked_add(length as u64).is_none() {
            return Err(invalid());
        }
        let reserved = length.checked_add(LARGE_PAGE).ok_or_else(invalid)?;
        let (prot, flags) = (
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_ANONYMOUS | libc::MAP_PRIVATE | libc::MAP_NORESERVE,
        );
        // SAFETY: a new mapping, where the kernel wants it.
        let start = unsafe { libc::mmap(ptr::null_mut(), reserved, prot, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = start.cast::<u8>();
        let before = (guest.raw_value() as usize).wrapping_sub(start as usize) % LARGE_PAGE;
        let end = length.next_multiple_of(rustix::param::page_size());
        // SAFETY: both parts lie in the new mapping, which nobody has seen yet, and outside of what is kept of it.
        unsafe {
            unmap(start, before)?;
            unmap(start.add(before + end), reserved - before - end)?;
        }
        // SAFETY: `before` is less than what is reserved beyond `length`.
        let host = NonNull::new(unsafe { start.add(before) }).ok_or_else(invalid)?;
        Ok(Self { guest, host, length })
    }

    /// Where it is in this process.
    #[must_use]
    pub fn as_ptr(&self) -> *mut u8 {
        self.host.as_ptr()
    }
}

/// # Safety
/// Nobody may use the `length` bytes from `start`.
unsafe fn unmap(start: *mut u8, length: usize) -> io::Result<()> {
    if length == 0 {
        return Ok(());
    }
    // SAFETY: as for this function.
    match unsafe { libc::munmap(start.cast(), length) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

impl Drop for RamRegion {
    fn drop(&mut self) {
        // SAFETY: slices of it borrow the region; whoever holds bare pointers into it holds the region as well.
        // It can only fail where the mapping would have to be split, and it is whole.
        let _ = unsafe { unmap(self.as_ptr(), self.length) };
    }
}

impl GuestMemoryRegion for RamRegion {
    type B = ();

    fn len(&self) -> GuestUsize {
        self.length as GuestUsize
    }

    fn start_addr(&self) -> GuestAddress {
        self.guest
    }

    fn bitmap(&self) {}

    fn get_host_address(&self, address: MemoryRegionAddress) -> Result<*mut u8> {
        let address = self.check_address(address).ok_or(GuestMemoryError::InvalidBackendAddress)?;
        Ok(self.as_ptr().wrapping_add(address.raw_value() as usize))
    }

    fn file_offset(&self) -> Option<&FileOffset> {
        None
    }

    fn get_slice(&self, offset: MemoryRegionAddress, count: usize) -> Result<VolatileSlice<'_>> {
        let start =
            usize::try_from(offset.raw_value()).map_err(|_| GuestMemoryError::InvalidBackendAddress)?;
        if start.checked_add(count).is_none_or(|end| end > self.length) {
            return Err(GuestMemoryError::InvalidBackendAddress);
        }
        // SAFETY: the part lies in the mapping, which lives as long as the slice borrows the region.
        Ok(unsafe { VolatileSlice::new(self.as_ptr().add(start), count) })
    }
}

impl GuestMemoryRegionBytes for RamRegion {}

#[cfg(test)]
mod tests {
    use vm_memory::{Bytes, GuestMemoryBackend};

    use super::*;

    #[test]
    fn large_pages_of_host_and_guest_coincide() {
        let ranges = [(0, 3 << 20), (0x40_5000, 1 << 20), (4 << 30, 64 << 20)];
        let ram = allocate(&ranges.map(|(start, length)| (GuestAddress(start), length))).unwrap();
        for (start, _) in ranges {
            let host = ram.get_host_address(GuestAddress(start)).unwrap() as u64;
            assert_eq!(host % LARGE_PAGE as u64, start % LARGE_PAGE as u64, "{start:#x}");
        }
    }

    #[test]
    fn all_of_it_is_there_and_nothing_beyond() {
        let ram = allocate(&[(GuestAddress(0x1000), 0x3000), (GuestAddress(0x4000), 0x1000)]).unwrap();
        let text = [7; 0x4000];
        ram.write_slice(&text, GuestAddress(0x1000)).unwrap();
        let mut read = [0; 0x4000];
        ram.read_slice(&mut read, GuestAddress(0x1000)).unwrap();
        assert_eq!(read, text);
        for outside in [0xfff, 0x5000, u64::MAX] {
            assert!(ram.write_obj(1_u8, GuestAddress(outside)).is_err(), "{outside:#x}");
        }
        assert!(ram.write_obj(1_u64, GuestAddress(0x4ffc)).is_err());
    }

    #[test]
    fn ranges_that_make_no_sense_are_refused() {
        let page = 0x1000;
        for bad in [
            vec![],
            vec![(0, 0)],
            vec![(u64::MAX - 0xfff, 2 * page)],
            vec![(0, usize::MAX)],
            vec![(0, 2 * page), (0x1000, page)],
            vec![(0x1000, page), (0, page)],
        ] {
            let ranges: Vec<_> = bad.iter().map(|(start, length)| (GuestAddress(*start), *length)).collect();
            assert!(allocate(&ranges).is_err(), "{bad:x?}");
        }
    }
}
