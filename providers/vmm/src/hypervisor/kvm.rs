//! The device `/dev/kvm`, and one virtual machine in it.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use kvm_bindings::{KVM_PIT_SPEAKER_DUMMY, kvm_pit_config, kvm_userspace_memory_region};
use kvm_ioctls::{Cap, VmFd};
use vm_memory::{Address, GuestMemoryBackend, GuestMemoryRegion};

use super::{HypervisorError, Vcpu};
use crate::arch::current::layout;
use crate::memory::GuestRam;

/// The version of the interface, fixed since Linux 2.6.22 (Documentation/virt/kvm/api.rst, KVM_GET_API_VERSION).
const API_VERSION: i32 = 12;

/// What the monitor builds on, and how it is called where it is missing.
const NEEDED: [(Cap, &str); 7] = [
    (Cap::UserMemory, "user memory"),
    (Cap::Irqchip, "interrupt controllers in the kernel"),
    (Cap::Irqfd, "irqfd"),
    (Cap::Ioeventfd, "ioeventfd"),
    (Cap::SignalMsi, "message-signalled interrupts"),
    (Cap::ImmediateExit, "immediate exit"),
    (Cap::ExtCpuid, "CPUID"),
];

/// An open `/dev/kvm`.
pub struct Kvm {
    kvm: kvm_ioctls::Kvm,
}

impl Kvm {
    /// Opens the device at `path` and looks whether it has what the monitor needs.
    ///
    /// # Errors
    /// [`HypervisorError::Open`], [`HypervisorError::Lacks`].
    pub fn open(path: &Path) -> Result<Self, HypervisorError> {
        let open = |source| HypervisorError::Open { path: path.to_owned(), source };
        let name = CString::new(path.as_os_str().as_bytes()).map_err(|error| open(error.into()))?;
        let kvm = kvm_ioctls::Kvm::new_with_path(name).map_err(|error| open(error.into()))?;
        if kvm.get_api_version() != API_VERSION {
            return Err(HypervisorError::Lacks("the interface of version 12"));
        }
        match NEEDED.iter().find(|(cap, _)| !kvm.check_extension(*cap)) {
            Some((_, name)) => Err(HypervisorError::Lacks(name)),
            None => Ok(Self { kvm }),
        }
    }

    /// The underlying handle, for what an architecture asks of it.
    #[must_use]
    pub fn handle(&self) -> &kvm_ioctls::Kvm {
        &self.kvm
    }

    /// Makes a machine with `ram`, interrupt controllers and timer, and no vCPU yet.
    ///
    /// # Errors
    /// [`HypervisorError::Call`].
    pub fn create(&self, ram: Arc<GuestRam>) -> Result<KvmVm, HypervisorError> {
        let call = HypervisorError::call;
        let vm = self.kvm.create_vm().map_err(call("make a machine"))?;
        vm.set_identity_map_address(layout::KVM_IDENTITY_MAP).map_err(call("place its identity map"))?;
        vm.set_tss_address(layout::KVM_TSS as usize).map_err(call("place its task state"))?;
        vm.create_irq_chip().map_err(call("make interrupt controllers"))?;
        // Kernels before 5.3 calibrate their clock by it; later ones never touch it, and idle it costs nothing.
        let pit = kvm_pit_config { flags: KVM_PIT_SPEAKER_DUMMY, ..kvm_pit_config::default() };
        vm.create_pit2(pit).map_err(call("make a timer"))?;
        for (slot, region) in (0..).zip(ram.iter()) {
            let memory = kvm_userspace_memory_region {
                slot,
                flags: 0,
                guest_phys_addr: region.start_addr().raw_value(),
                memory_size: region.len(),
                userspace_addr: region.as_ptr() as u64,
            };
            // SAFETY: the mapping belongs to `ram`, which lives in the result beside the machine and is dropped
            // after it; regions of guest memory do not overlap.
            unsafe { vm.set_user_memory_region(memory) }.map_err(call("give memory to the machine"))?;
        }
        Ok(KvmVm { vm: Arc::new(vm), ram })
    }
}

/// One virtual machine in KVM.
pub struct KvmVm {
    // The machine goes before the memory it uses.
    vm: Arc<VmFd>,
    ram: Arc<GuestRam>,
}

impl KvmVm {
    /// The underlying handle.
    #[must_use]
    pub fn handle(&self) -> &Arc<VmFd> {
        &self.vm
    }

    /// Its memory.
    #[must_use]
    pub fn ram(&self) -> &Arc<GuestRam> {
        &self.ram
    }

    /// Makes vCPU number `index`.
    ///
    /// # Errors
    /// [`HypervisorError::Call`].
    pub fn vcpu(&self, index: u8) -> Result<Vcpu, HypervisorError> {
        let fd = self.vm.create_vcpu(u64::from(index)).map_err(HypervisorError::call("make a vCPU"))?;
        Ok(Vcpu::new(index, fd, self.ram.clone()))
    }
}
