//! How a device signals its driver: ISR status and MSI-X (virtio 1.2, section 4.1.5).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU16, Ordering::SeqCst};

use crate::pci::Msix;
use crate::virtio::Interrupt;

/// No vector (virtio 1.2, section 4.1.5.1.2); beyond what any table has.
pub(super) const NO_VECTOR: u16 = 0xffff;

const ISR_QUEUE: u8 = 1;
const ISR_CONFIG: u8 = 2;

/// The device's side of interrupts. It knows nothing of the rest of the transport, so that a worker that signals never
/// waits for a vCPU that waits for the worker.
pub(super) struct Signals {
    msix: Arc<Msix>,
    isr: AtomicU8,
    needs_reset: AtomicBool,
    /// Between `DRIVER_OK` and reset, when alone the driver may be signalled.
    live: AtomicBool,
    config_vector: AtomicU16,
    queue_vectors: Box<[AtomicU16]>,
}

impl Signals {
    /// For a device with `queues` queues, no vector set.
    pub fn new(queues: usize, msix: Arc<Msix>) -> Self {
        Self {
            msix,
            isr: AtomicU8::new(0),
            needs_reset: AtomicBool::new(false),
            live: AtomicBool::new(false),
            config_vector: AtomicU16::new(NO_VECTOR),
            queue_vectors: (0..queues).map(|_| AtomicU16::new(NO_VECTOR)).collect(),
        }
    }

    /// Back to what it was at first.
    pub fn reset(&self) {
        self.live.store(false, SeqCst);
        self.needs_reset.store(false, SeqCst);
        self.isr.store(0, SeqCst);
        self.config_vector.store(NO_VECTOR, SeqCst);
        self.queue_vectors.iter().for_each(|vector| vector.store(NO_VECTOR, SeqCst));
    }

    /// The driver is ready to be signalled.
    pub fn go_live(&self) {
        self.live.store(true, SeqCst);
    }

    /// Whether `DEVICE_NEEDS_RESET` is set.
    pub fn is_reset_needed(&self) -> bool {
        self.needs_reset.load(SeqCst)
    }

    /// Reads ISR status, which clears it (virtio 1.2, section 4.1.4.5).
    pub fn take_isr(&self) -> u8 {
        self.isr.swap(0, SeqCst)
    }

    /// The vector of configuration changes, or [`NO_VECTOR`].
    pub fn config_vector(&self) -> u16 {
        self.config_vector.load(SeqCst)
    }

    /// Sets it; reads back as [`NO_VECTOR`] where there is no such vector or none to be had.
    pub fn set_config_vector(&self, vector: u16) {
        self.config_vector.store(self.claimed(vector), SeqCst);
    }

    /// The vector of queue `index`, or [`NO_VECTOR`].
    pub fn queue_vector(&self, index: u16) -> u16 {
        self.queue_vectors.get(usize::from(index)).map_or(NO_VECTOR, |vector| vector.load(SeqCst))
    }

    /// Sets it, as [`set_config_vector`](Self::set_config_vector).
    pub fn set_queue_vector(&self, index: u16, vector: u16) {
        if let Some(place) = self.queue_vectors.get(usize::from(index)) {
            place.store(self.claimed(vector), SeqCst);
        }
    }

    fn claimed(&self, vector: u16) -> u16 {
        if vector != NO_VECTOR && self.msix.claim(vector) { vector } else { NO_VECTOR }
    }
}

impl Interrupt for Signals {
    fn queue(&self, index: u16) {
        // The bit is set where MSI-X is not in use alone (virtio 1.2, section 4.1.4.5.1).
        if self.live.load(SeqCst) && !self.msix.signal(self.queue_vector(index)) {
            self.isr.fetch_or(ISR_QUEUE, SeqCst);
        }
    }

    fn config(&self) {
        if self.live.load(SeqCst) {
            self.isr.fetch_or(ISR_CONFIG, SeqCst);
            self.msix.signal(self.config_vector());
        }
    }

    fn needs_reset(&self) {
        if !self.needs_reset.swap(true, SeqCst) {
            self.config();
        }
    }
}
