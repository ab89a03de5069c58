//! What the virtual processors are: their CPUID, model-specific registers, and the state that a kernel is entered in.

mod cpuid;
mod registers;

use kvm_bindings::{CpuId, KVM_MAX_CPUID_ENTRIES, Msrs, kvm_fpu, kvm_msr_entry};
use kvm_ioctls::{Cap, Kvm, VcpuFd};
use vm_memory::GuestMemoryError;

pub use cpuid::{CpuProfile, address_bits};
pub use registers::write_boot_tables;

use super::boot::Entry;

/// The most processors of a machine.
pub const MAX_CPUS: u8 = 32;

/// What can go wrong while a processor is set up.
#[derive(Debug, thiserror::Error)]
pub enum CpuError {
    /// KVM refused something.
    #[error("KVM does not let {what} be {verb}")]
    Kvm {
        /// What.
        what: &'static str,
        /// "read" or "set".
        verb: &'static str,
        /// What it said.
        #[source]
        source: kvm_ioctls::Error,
    },
    /// A model-specific register that every x86_64 processor has is not there.
    #[error("KVM does not let the model-specific register {0:#x} be set")]
    Msr(u32),
    /// KVM says more of the processor than it takes back.
    #[error("KVM describes the processor in {0} CPUID entries, more than it takes")]
    CpuidEntries(usize),
    /// Descriptor or page tables have no place in memory.
    #[error("the first descriptor and page tables cannot be written")]
    Memory(#[from] GuestMemoryError),
    /// A number of processors that no machine has.
    #[error("a machine has 1 to {MAX_CPUS} processors, not {0}")]
    Count(u8),
}

fn failed(what: &'static str, verb: &'static str) -> impl FnOnce(kvm_ioctls::Error) -> CpuError {
    move |source| CpuError::Kvm { what, verb, source }
}

impl CpuProfile {
    /// The processors of a machine with `count` of them, as able as the host's but for nested virtualization.
    ///
    /// # Errors
    /// [`CpuError`].
    pub fn of_host(kvm: &Kvm, count: u8) -> Result<Self, CpuError> {
        if !(1..=MAX_CPUS).contains(&count) {
            return Err(CpuError::Count(count));
        }
        let supported = kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES).map_err(failed("CPUID", "read"))?;
        let deadline = kvm.check_extension(Cap::TscDeadlineTimer);
        Ok(Self::new(supported.as_slice(), count, deadline))
    }
}

/// `IA32_MISC_ENABLE` (Intel SDM, volume 4, section 2.1) and its bit for fast string operations.
const MISC_ENABLE: (u32, u64) = (0x1a0, 1);
/// `IA32_MTRR_DEF_TYPE` (Intel SDM, volume 3, section 12.11.2.1): enabled, write-back by default.
const MTRR_DEF_TYPE: (u32, u64) = (0x2ff, 1 << 11 | 6);

/// Sets up processor `index`. The first one is put at `entry`; the others wait in the state that KVM resets them to
/// until the kernel starts them.
///
/// # Errors
/// [`CpuError`].
pub fn configure(vcpu: &VcpuFd, index: u8, profile: &CpuProfile, entry: &Entry) -> Result<(), CpuError> {
    let leaves = profile.leaves(index);
    let cpuid = CpuId::from_entries(&leaves).map_err(|_| CpuError::CpuidEntries(leaves.len()))?;
    vcpu.set_cpuid2(&cpuid).map_err(failed("CPUID", "set"))?;
    let msrs = [MISC_ENABLE, MTRR_DEF_TYPE].map(|(index, data)| kvm_msr_entry {
        index,
        data,
        ..kvm_msr_entry::default()
    });
    // Two entries are far from KVM's limit.
    let list = Msrs::from_entries(&msrs).map_err(|_| CpuError::Msr(msrs[0].index))?;
    let set = vcpu.set_msrs(&list).map_err(failed("model-specific registers", "set"))?;
    if let Some(refused) = msrs.get(set) {
        return Err(CpuError::Msr(refused.index));
    }
    if index > 0 {
        return Ok(());
    }
    let fpu = kvm_fpu { fcw: 0x37f, mxcsr: 0x1f80, ..kvm_fpu::default() };
    vcpu.set_fpu(&fpu).map_err(failed("the floating-point unit", "set"))?;
    let mut sregs = vcpu.get_sregs().map_err(failed("segment and control registers", "read"))?;
    registers::enter(&mut sregs, entry);
    vcpu.set_sregs(&sregs).map_err(failed("segment and control registers", "set"))?;
    vcpu.set_regs(&registers::general(entry)).map_err(failed("general registers", "set"))?;
    let mut lapic = vcpu.get_lapic().map_err(failed("the local interrupt controller", "read"))?;
    registers::wire_local_interrupts(&mut lapic);
    vcpu.set_lapic(&lapic).map_err(failed("the local interrupt controller", "set"))
}
