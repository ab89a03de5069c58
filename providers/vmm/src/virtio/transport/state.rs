//! The device's life as its driver directs it: status, features, queues (virtio 1.2, sections 2.1, 2.2 and 3.1).
//!
//! ```text
//!   reset ──ACKNOWLEDGE, DRIVER──► known ──FEATURES_OK──► agreed ──queues──DRIVER_OK──► active
//!     ▲                                (refused: not set)                                 │
//!     └──────────────── 0 written, from anywhere; the device has stopped ─────────────────┘
//! ```
//! `DEVICE_NEEDS_RESET` comes on top, from the device or from here, and goes by a reset alone.

use std::io;
use std::sync::Arc;

use virtio_bindings::virtio_config::{
    VIRTIO_CONFIG_S_ACKNOWLEDGE, VIRTIO_CONFIG_S_DRIVER, VIRTIO_CONFIG_S_DRIVER_OK, VIRTIO_CONFIG_S_FAILED,
    VIRTIO_CONFIG_S_FEATURES_OK, VIRTIO_CONFIG_S_NEEDS_RESET, VIRTIO_F_VERSION_1,
};
use virtio_bindings::virtio_ring::VIRTIO_RING_F_EVENT_IDX;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::notify::Kicks;
use super::queue_setup::QueueSetup;
use super::signals::Signals;
use crate::memory::GuestRam;
use crate::virtio::{Activation, ActiveQueue, Interrupt, VirtioDevice};

const ACKNOWLEDGE: u8 = VIRTIO_CONFIG_S_ACKNOWLEDGE as u8;
const DRIVER: u8 = VIRTIO_CONFIG_S_DRIVER as u8;
const DRIVER_OK: u8 = VIRTIO_CONFIG_S_DRIVER_OK as u8;
const FEATURES_OK: u8 = VIRTIO_CONFIG_S_FEATURES_OK as u8;
const NEEDS_RESET: u8 = VIRTIO_CONFIG_S_NEEDS_RESET as u8;
const FAILED: u8 = VIRTIO_CONFIG_S_FAILED as u8;
const VERSION_1: u64 = 1 << VIRTIO_F_VERSION_1;
const EVENT_IDX: u64 = 1 << VIRTIO_RING_F_EVENT_IDX;

/// How much of a device's configuration space is watched for changes; all of it, for every type there is.
const WATCHED: usize = 256;

/// A device together with what its driver has said.
pub(super) struct DeviceState {
    // Dropped before the device, so that no kick comes to one that ends.
    pub kicks: Kicks,
    pub device: Box<dyn VirtioDevice>,
    pub signals: Arc<Signals>,
    /// The queues, those that are not enabled as well.
    pub queues: Vec<QueueSetup>,
    ram: Arc<GuestRam>,
    status: u8,
    driver_features: u64,
    /// The driver wants features of pages where none is offered.
    overreaches: bool,
    generation: u8,
    seen: Option<[u8; WATCHED]>,
}

impl DeviceState {
    /// A device as after a reset.
    pub fn new(
        device: Box<dyn VirtioDevice>,
        ram: Arc<GuestRam>,
        signals: Arc<Signals>,
        kicks: Kicks,
    ) -> Self {
        let queues = device.queues().iter().map(|max| QueueSetup::new(*max)).collect();
        let (status, driver_features, overreaches, generation) = (0, 0, false, 0);
        Self {
            kicks,
            device,
            signals,
            queues,
            ram,
            status,
            driver_features,
            overreaches,
            generation,
            seen: None,
        }
    }

    /// Device status.
    pub fn status(&self) -> u8 {
        self.status | if self.signals.is_reset_needed() { NEEDS_RESET } else { 0 }
    }

    /// The driver writes device status. It can only add bits, in their order, or reset by writing none.
    pub fn set_status(&mut self, value: u8) {
        if value == 0 {
            self.reset();
            return;
        }
        self.status |= value & (ACKNOWLEDGE | DRIVER | FAILED);
        let new = value & !self.status;
        if new & FEATURES_OK != 0 && self.has(ACKNOWLEDGE | DRIVER) && self.agrees() {
            self.status |= FEATURES_OK;
        }
        if new & DRIVER_OK != 0 && self.has(FEATURES_OK) {
            self.status |= DRIVER_OK;
            self.signals.go_live();
            if self.signals.is_reset_needed() {
                self.signals.config();
            } else if self.activate().is_err() {
                self.kicks.disarm();
                self.signals.needs_reset();
            }
        }
    }

    fn has(&self, bits: u8) -> bool {
        self.status & bits == bits
    }

    /// The features offered.
    fn offered(&self) -> u64 {
        self.device.features() | VERSION_1
    }

    /// Page `page` of the features offered.
    pub fn device_feature(&self, page: u32) -> u32 {
        select(self.offered(), page)
    }

    /// Page `page` of the features the driver wants.
    pub fn driver_feature(&self, page: u32) -> u32 {
        select(self.driver_features, page)
    }

    /// The driver sets page `page` of the features it wants; after `FEATURES_OK` it is too late.
    pub fn set_driver_feature(&mut self, page: u32, value: u32) {
        if self.has(FEATURES_OK) {
            return;
        }
        match page {
            0 => self.driver_features = self.driver_features & !0xffff_ffff | u64::from(value),
            1 => self.driver_features = self.driver_features & 0xffff_ffff | u64::from(value) << 32,
            _ => self.overreaches |= value != 0,
        }
    }

    fn agrees(&self) -> bool {
        let wanted = self.driver_features;
        !self.overreaches && wanted & VERSION_1 != 0 && wanted & !self.offered() == 0
    }

    /// The driver enables queue `index`, whose description is final from now on. One that makes no sense is not
    /// enabled, and the device needs a reset.
    pub fn enable_queue(&mut self, index: u16) {
        let event_idx = self.driver_features & EVENT_IDX != 0;
        let Some(queue) = self.queues.get_mut(usize::from(index)).filter(|_| self.status & DRIVER_OK == 0)
        else {
            return;
        };
        if queue.build(&self.ram, event_idx).is_some() {
            queue.enabled = true;
        } else {
            self.signals.needs_reset();
        }
    }

    fn activate(&mut self) -> io::Result<()> {
        let interrupt: Arc<dyn Interrupt> = self.signals.clone();
        let event_idx = self.driver_features & EVENT_IDX != 0;
        let mut queues = Vec::new();
        for (index, setup) in (0..).zip(&self.queues).filter(|(_, setup)| setup.enabled) {
            let queue = setup.build(&self.ram, event_idx).ok_or(io::ErrorKind::InvalidInput)?;
            let kick = EventFd::new(EFD_NONBLOCK)?;
            self.kicks.arm(index, kick.try_clone()?);
            queues.push(ActiveQueue::new(index, queue, kick, self.ram.clone(), interrupt.clone()));
        }
        let (ram, features) = (self.ram.clone(), self.driver_features);
        self.device.activate(Activation { ram, features, queues, interrupt })
    }

    /// Stops the device and forgets what the driver has said.
    fn reset(&mut self) {
        self.kicks.disarm();
        self.device.reset();
        self.signals.reset();
        self.queues.iter_mut().for_each(QueueSetup::reset);
        (self.status, self.driver_features, self.overreaches) = (0, 0, false);
    }

    /// Changes whenever the device's configuration has changed since it was last asked for, so that a driver that
    /// gets the same before and after reading several fields has read what belongs together (virtio 1.2, section
    /// 2.5.1).
    pub fn config_generation(&mut self) -> u8 {
        let mut now = [0; WATCHED];
        self.device.read_config(0, &mut now);
        if self.seen.replace(now).is_some_and(|seen| seen != now) {
            self.generation = self.generation.wrapping_add(1);
        }
        self.generation
    }
}

/// 32 features of the 64.
fn select(features: u64, page: u32) -> u32 {
    match page {
        0 => features as u32,
        1 => (features >> 32) as u32,
        _ => 0,
    }
}
