//! KVM: the machine's memory, vCPUs and interrupt lines in the kernel.

mod error;
mod ioevents;
mod irq;
mod kvm;
mod ram;
mod vcpu;

pub use error::HypervisorError;
pub use ioevents::KvmIoEvents;
pub use irq::{Irqs, Line, Vectors};
pub use kvm::{Kvm, KvmVm};
pub use ram::allocate;
pub use vcpu::{Ended, Kicker, Vcpu};
