//! Why a machine cannot be built or started.

use std::io;

use crate::arch::current::acpi::AcpiError;
use crate::arch::current::boot::BootError;
use crate::arch::current::cpu::CpuError;
use crate::arch::current::layout::LayoutError;
use crate::bus::BusError;
use crate::hypervisor::HypervisorError;
use crate::pci::PciError;
use crate::virtio::blk::BlkError;

/// What is wrong with a machine's configuration, or with the host for it.
#[derive(Debug, thiserror::Error)]
pub enum VmError {
    /// KVM or the host's memory.
    #[error(transparent)]
    Hypervisor(#[from] HypervisorError),
    /// The amount of memory.
    #[error(transparent)]
    Memory(#[from] LayoutError),
    /// The processors.
    #[error(transparent)]
    Cpu(#[from] CpuError),
    /// The kernel, its initial RAM disk, or its command line.
    #[error(transparent)]
    Boot(#[from] BootError),
    /// The tables that describe the machine to its kernel.
    #[error(transparent)]
    Acpi(#[from] AcpiError),
    /// A device finds no place among the others: there are too many.
    #[error(transparent)]
    Slot(#[from] PciError),
    /// The same, for its registers.
    #[error(transparent)]
    Registers(#[from] BusError),
    /// A disk.
    #[error(transparent)]
    Disk(#[from] BlkError),
    /// A device.
    #[error("the {device} cannot be set up: {source}")]
    Device {
        /// Which one.
        device: String,
        /// Why.
        source: io::Error,
    },
}

impl VmError {
    /// For `map_err` on what a device cannot have.
    pub(crate) fn device(device: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let device = device.into();
        move |source| Self::Device { device, source }
    }
}
