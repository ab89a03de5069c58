//! A queue whose driver is ready: descriptors are taken out, used ones given back, the driver signalled where it
//! wants that (virtio 1.2, section 2.7).

use std::sync::Arc;

use virtio_queue::{DescriptorChain, Queue, QueueOwnedT, QueueT};
use vmm_sys_util::eventfd::EventFd;

use super::Interrupt;
use crate::memory::GuestRam;

/// What a driver can do wrong with a queue's rings. A device that meets one asks for a reset and stays still.
#[derive(Debug, thiserror::Error)]
#[error("the driver's rings make no sense: {0}")]
pub struct QueueError(#[from] virtio_queue::Error);

/// Buffers as the driver has chained them; reading it, device-readable parts come first.
pub type Chain = DescriptorChain<Arc<GuestRam>>;

/// One enabled queue of an active device.
pub struct ActiveQueue {
    index: u16,
    queue: Queue,
    kick: EventFd,
    ram: Arc<GuestRam>,
    interrupt: Arc<dyn Interrupt>,
}

impl ActiveQueue {
    /// A queue with its rings in `ram`, whose driver writes to `kick` when it has made buffers available.
    #[must_use]
    pub fn new(
        index: u16,
        queue: Queue,
        kick: EventFd,
        ram: Arc<GuestRam>,
        interrupt: Arc<dyn Interrupt>,
    ) -> Self {
        Self { index, queue, kick, ram, interrupt }
    }

    /// Its number.
    #[must_use]
    pub fn index(&self) -> u16 {
        self.index
    }

    /// How many descriptors it has.
    #[must_use]
    pub fn size(&self) -> u16 {
        self.queue.size()
    }

    /// What the driver kicks; non-blocking, to be read empty before the queue is looked at.
    #[must_use]
    pub fn kick(&self) -> &EventFd {
        &self.kick
    }

    /// Takes note of the driver's kicks so far.
    pub fn kicked(&self) {
        // It is empty where a kick was noted before; how many there were does not matter.
        let _ = self.kick.read();
    }

    /// Has the worker look at the queue once more after all else that is due: how a device that stops before the
    /// queue is empty, so that nobody is left waiting, goes on.
    pub fn look_again(&self) {
        // It is set already where it cannot take more.
        let _ = self.kick.write(1);
    }

    /// The memory its buffers lie in.
    #[must_use]
    pub fn ram(&self) -> &Arc<GuestRam> {
        &self.ram
    }

    /// Takes the next chain the driver has made available; `None` where there is none.
    ///
    /// # Errors
    /// [`QueueError`] where the available ring is nonsense. Descriptors themselves are checked by whoever walks the
    /// chain.
    pub fn pop(&mut self) -> Result<Option<Chain>, QueueError> {
        // `iter` checks the ring's index against its size; `pop_descriptor_chain` would pass over nonsense in silence.
        Ok(self.queue.iter(self.ram.clone())?.next())
    }

    /// Puts back the chain taken last, so that `pop` gives it again.
    pub fn unpop(&mut self) {
        self.queue.go_to_previous_position();
    }

    /// Gives a chain back as used, with `written` bytes in its device-writable part.
    ///
    /// # Errors
    /// [`QueueError`] where the used ring cannot be written.
    pub fn push(&mut self, head: u16, written: u32) -> Result<(), QueueError> {
        Ok(self.queue.add_used(&*self.ram, head, written)?)
    }

    /// Signals the driver, if what was pushed since the last call is something it wants to hear of.
    ///
    /// # Errors
    /// [`QueueError`] where the driver's event index cannot be read.
    pub fn signal(&mut self) -> Result<(), QueueError> {
        if self.queue.needs_notification(&*self.ram)? {
            self.interrupt.queue(self.index);
        }
        Ok(())
    }

    /// Asks the driver not to kick, while the device looks at the queue anyway.
    ///
    /// # Errors
    /// [`QueueError`] where the ring cannot be written.
    pub fn silence(&mut self) -> Result<(), QueueError> {
        Ok(self.queue.disable_notification(&*self.ram)?)
    }

    /// Asks the driver to kick again; returns whether buffers have become available meanwhile, which will not be
    /// kicked for and must be looked at now.
    ///
    /// # Errors
    /// [`QueueError`] where the ring cannot be written or read.
    pub fn listen(&mut self) -> Result<bool, QueueError> {
        Ok(self.queue.enable_notification(&*self.ram)?)
    }

    /// Says that the driver has broken the rules.
    pub fn needs_reset(&self) {
        self.interrupt.needs_reset();
    }

    /// The device's line to the driver.
    #[must_use]
    pub fn interrupt(&self) -> &Arc<dyn Interrupt> {
        &self.interrupt
    }
}
