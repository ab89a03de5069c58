//! x86_64: a machine without firmware, whose kernel is entered by the Linux 64-bit boot protocol or by PVH.
//!
//! ```text
//!   layout ◄── everything      boot ──► guest memory: kernel, initrd, boot_params ──► Entry
//!                              acpi ──► guest memory: RSDP, tables                      │
//!                              cpu  ◄── CPUID, MSRs, registers that fit the Entry ◄─────┘
//!                              power    the registers that the tables speak of
//! ```

pub mod acpi;
pub mod boot;
pub mod cpu;
pub mod layout;
pub mod power;
