//! The KVM provider: virtual machines that boot a distribution's own disk image.

pub mod seed;
