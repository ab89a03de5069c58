//! Guest writes that the kernel turns into events (KVM_IOEVENTFD).

use std::io;
use std::sync::Arc;

use kvm_ioctls::{IoEventAddress, NoDatamatch, VmFd};
use vmm_sys_util::eventfd::EventFd;

use crate::virtio::transport::IoEvents;

/// Events of one machine.
pub struct KvmIoEvents(Arc<VmFd>);

impl KvmIoEvents {
    /// Events of `vm`.
    #[must_use]
    pub fn new(vm: Arc<VmFd>) -> Self {
        Self(vm)
    }
}

impl IoEvents for KvmIoEvents {
    fn add(&self, address: u64, event: &EventFd) -> io::Result<()> {
        Ok(self.0.register_ioevent(event, &IoEventAddress::Mmio(address), NoDatamatch)?)
    }

    fn remove(&self, address: u64, event: &EventFd) -> io::Result<()> {
        Ok(self.0.unregister_ioevent(event, &IoEventAddress::Mmio(address), NoDatamatch)?)
    }
}
