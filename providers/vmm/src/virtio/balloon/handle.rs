//! What the host sees of a balloon while the guest has the device.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::pages::PAGE;
use crate::virtio::config_signal::ConfigSignal;

/// What device, worker and handle have in common. Counts are of pages of 4 KiB.
#[derive(Default)]
pub(super) struct Shared {
    /// How many pages the driver is to give away.
    pub(super) target: AtomicU32,
    /// How many it says it has.
    pub(super) actual: AtomicU32,
    /// What it fills free pages with.
    pub(super) poison: AtomicU32,
    pub(super) changed: ConfigSignal,
}

impl Shared {
    /// The driver is gone, and what it has said with it.
    pub(super) fn disconnect(&self) {
        self.changed.disconnect();
        self.actual.store(0, Ordering::Relaxed);
        self.poison.store(0, Ordering::Relaxed);
    }
}

/// Sets how large a balloon is to be, from any thread.
#[derive(Clone)]
pub struct BalloonHandle(Arc<Shared>);

impl BalloonHandle {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self(shared)
    }

    /// Asks the guest to give `bytes` of its memory away (rounded down to 4 KiB), in all; it does so in its own time,
    /// or not at all. A driver that comes later is asked for the same.
    pub fn set_target(&self, bytes: u64) {
        let pages = u32::try_from(bytes / PAGE).unwrap_or(u32::MAX);
        if self.0.target.swap(pages, Ordering::Relaxed) != pages {
            self.0.changed.signal();
        }
    }

    /// How much the guest was asked for, bytes.
    #[must_use]
    pub fn target(&self) -> u64 {
        u64::from(self.0.target.load(Ordering::Relaxed)) * PAGE
    }

    /// How much the guest says it has given away, bytes; free pages it reports are not counted.
    #[must_use]
    pub fn actual(&self) -> u64 {
        u64::from(self.0.actual.load(Ordering::Relaxed)) * PAGE
    }
}
