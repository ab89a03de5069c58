//! Telling the driver that the configuration has changed, from outside of the device.

use std::sync::{Arc, Mutex, PoisonError};

use super::Interrupt;

/// A line to the driver that is there while its device is active. Signals are sent under the lock, so that none comes
/// after a reset.
#[derive(Default)]
pub(super) struct ConfigSignal(Mutex<Option<Arc<dyn Interrupt>>>);

impl ConfigSignal {
    pub(super) fn connect(&self, interrupt: Arc<dyn Interrupt>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(interrupt);
    }

    pub(super) fn disconnect(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Says that the configuration has changed, if there is a driver to hear it.
    pub(super) fn signal(&self) {
        if let Some(interrupt) = &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            interrupt.config();
        }
    }
}
