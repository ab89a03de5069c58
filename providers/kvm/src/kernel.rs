//! Kernels as the monitor starts them soonest.

/// The kernel proper of a bzImage, which the monitor would else unpack at each start; `None` where the monitor is best
/// given the file as it is, which is also what it complains about where it is no kernel.
#[cfg(target_arch = "x86_64")]
#[must_use]
pub fn unpack_kernel(file: &[u8]) -> Option<Vec<u8>> {
    posada_vmm::arch::current::boot::unpack_kernel(file).ok().flatten()
}

/// `None`: there is no monitor for this host's processors.
#[cfg(not(target_arch = "x86_64"))]
#[must_use]
pub fn unpack_kernel(_: &[u8]) -> Option<Vec<u8>> {
    None
}
