//! The capabilities that no process of a container ever has, see capabilities(7).
//!
//! All of them are capabilities over the user namespace only, so most are harmless. These are dropped so that
//! software inside sees early what it cannot do, and as a second wall should the kernel check one in the wrong
//! namespace. What stays lets systemd, sudo, apt and containers inside work.

use rustix::thread::{CapabilitySet, capability_is_in_bounding_set, remove_capability_from_bounding_set};

const DROPPED: [CapabilitySet; 11] = [
    // Kernel modules are the host's.
    CapabilitySet::SYS_MODULE,
    // I/O ports and raw memory.
    CapabilitySet::SYS_RAWIO,
    // The clock is the host's.
    CapabilitySet::SYS_TIME,
    // So is the kernel's log,
    CapabilitySet::SYSLOG,
    // and accounting of processes.
    CapabilitySet::SYS_PACCT,
    // Security modules are configured outside.
    CapabilitySet::MAC_ADMIN,
    CapabilitySet::MAC_OVERRIDE,
    // The audit log is not per namespace.
    CapabilitySet::AUDIT_READ,
    // Programs in the kernel, and measuring it.
    CapabilitySet::BPF,
    CapabilitySet::PERFMON,
    // Sleep is the host's.
    CapabilitySet::BLOCK_SUSPEND.union(CapabilitySet::WAKE_ALARM),
];

/// Takes them out of the bounding set: the next exec loses them, and nothing brings them back.
pub fn bound() -> rustix::io::Result<()> {
    for capability in DROPPED.iter().flat_map(CapabilitySet::iter) {
        // A kernel that does not know one cannot grant it either.
        if capability_is_in_bounding_set(capability).unwrap_or(false) {
            remove_capability_from_bounding_set(capability)?;
        }
    }
    rustix::thread::clear_ambient_capability_set()
}
