//! How a driver's kicks reach the device: event descriptors, at the queues' notification addresses in the BAR
//! (virtio 1.2, section 4.1.4.4).

use std::sync::Arc;

use vmm_sys_util::eventfd::EventFd;

use super::IoEvents;
use super::layout::{NOTIFY, NOTIFY_MULTIPLIER};

struct Kick {
    queue: u16,
    event: EventFd,
    /// The address at which the hypervisor has it.
    registered: Option<u64>,
}

/// The kicks of an active device, at a BAR that may move or go away.
pub(super) struct Kicks {
    io_events: Arc<dyn IoEvents>,
    bar: Option<u64>,
    armed: Vec<Kick>,
}

impl Kicks {
    /// None, at no BAR.
    pub fn new(io_events: Arc<dyn IoEvents>) -> Self {
        Self { io_events, bar: None, armed: Vec::new() }
    }

    /// From now on kicks of `queue` write to `event`.
    pub fn arm(&mut self, queue: u16, event: EventFd) {
        let mut kick = Kick { queue, event, registered: None };
        kick.place(&*self.io_events, self.bar);
        self.armed.push(kick);
    }

    /// Ends all kicks.
    pub fn disarm(&mut self) {
        for mut kick in self.armed.drain(..) {
            kick.place(&*self.io_events, None);
        }
    }

    /// The BAR is at `bar` now.
    pub fn place(&mut self, bar: Option<u64>) {
        self.bar = bar;
        for kick in &mut self.armed {
            kick.place(&*self.io_events, bar);
        }
    }

    /// The driver has kicked at `offset` of the region, and the hypervisor has let it pass.
    pub fn ring(&self, offset: usize) {
        let queue = offset / NOTIFY_MULTIPLIER as usize;
        if let Some(kick) = self.armed.iter().find(|kick| usize::from(kick.queue) == queue) {
            // It fails where the counter is full, and then the device has been kicked already.
            let _ = kick.event.write(1);
        }
    }
}

impl Kick {
    fn place(&mut self, io_events: &dyn IoEvents, bar: Option<u64>) {
        let address = bar.map(|bar| bar + NOTIFY + u64::from(self.queue) * u64::from(NOTIFY_MULTIPLIER));
        if self.registered == address {
            return;
        }
        if let Some(old) = self.registered.take() {
            // It only fails where the hypervisor does not have it.
            let _ = io_events.remove(old, &self.event);
        }
        // Where it cannot be had, `ring` does the same.
        self.registered = address.filter(|address| io_events.add(*address, &self.event).is_ok());
    }
}

impl Drop for Kicks {
    fn drop(&mut self) {
        self.disarm();
    }
}
