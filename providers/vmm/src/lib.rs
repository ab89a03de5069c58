//! The virtual machine monitor: boots a stock Linux distribution on `/dev/kvm`.
//!
//! It knows nothing of Vmfiles, boxes or Posada's state directory: it is handed a [`config::VmConfig`] and open
//! descriptors, and runs one machine in the threads of the calling process.
//!
//! ```text
//!   config ──► machine ──assembles──► hypervisor (KVM: memory, vCPUs, interrupts)
//!                  │                   arch       (boot protocol, CPUID, ACPI: what is particular to x86_64)
//!                  ├──────────────────► pci        (host bridge, BARs, MSI-X)
//!                  ├──────────────────► virtio     (transport over PCI, and a folder a device)
//!                  └──────────────────► legacy     (16550, reset and power registers)
//!   vCPU thread ──exit──► bus ──► a device's registers      driver's kick ──ioeventfd──► a device's worker thread
//! ```
//! Arrows point to what is known: devices know neither of the machine nor of KVM. They see guest memory
//! ([`memory::GuestRam`]), queues, and an [`virtio::Interrupt`] to signal with.

pub mod arch;
pub mod block;
pub mod bus;
pub mod config;
pub mod fuse;
pub mod hypervisor;
pub mod interrupt;
pub mod jail;
pub mod legacy;
pub mod machine;
pub mod memory;
pub mod pci;
pub mod virtio;
pub mod worker;
