//! MSI-X: the table of a function's vectors, their masks and pending bits (PCI Local Bus 3.0, section 6.8.2).
//!
//! A vector is routed when it can first deliver, and again when its message has changed by the time it can deliver
//! next. Masking alone does not touch the hypervisor, as telling it is slow and guests mask often: what is signalled
//! while a vector is masked stays pending here.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::bytes::{merge, read_image};
use super::config::ConfigSpace;
use crate::interrupt::{MsiMessage, Vector, VectorSource};

const CAPABILITY: u8 = 0x11;
const ENABLE: u16 = 1 << 15;
const MASK_ALL: u16 = 1 << 14;
const ENTRY_SIZE: usize = 16;
/// The bit of an entry's vector control that masks it.
const ENTRY_MASK: u32 = 1;
/// What a function can have.
const MAX_VECTORS: u16 = 2048;

/// Where a function's table and pending bits are: offsets into one BAR, multiples of 8.
#[derive(Debug, Clone, Copy)]
pub struct MsixPlaces {
    /// The BAR.
    pub bar: u8,
    /// The table, 16 bytes a vector.
    pub table: u32,
    /// The pending bits, 8 bytes for each 64 vectors begun.
    pub pending: u32,
}

#[derive(Clone)]
struct Entry {
    message: MsiMessage,
    masked: bool,
    pending: bool,
    /// The line, once the function has asked for it.
    line: Option<Arc<dyn Vector>>,
    /// What the line delivers.
    routed: Option<MsiMessage>,
}

impl Entry {
    fn image(&self) -> [u8; ENTRY_SIZE] {
        let mut image = [0; ENTRY_SIZE];
        image[..8].copy_from_slice(&self.message.address.to_le_bytes());
        image[8..12].copy_from_slice(&self.message.data.to_le_bytes());
        image[12..].copy_from_slice(&u32::from(self.masked).to_le_bytes());
        image
    }

    /// Does what is due after anything has changed, where `open` says that the function may deliver.
    fn settle(&mut self, open: bool) {
        let Some(line) = self.line.as_ref().filter(|_| open && !self.masked) else { return };
        if self.routed != Some(self.message) {
            // A hypervisor that refuses leaves the vector as if masked; the guest's next write tries again.
            self.routed = line.route(Some(self.message)).ok().map(|()| self.message);
        }
        if self.routed.is_some() && std::mem::take(&mut self.pending) {
            line.trigger();
        }
    }
}

struct State {
    enabled: bool,
    masked: bool,
    entries: Vec<Entry>,
}

impl State {
    fn open(&self) -> bool {
        self.enabled && !self.masked
    }
}

/// The vectors of a function. Shared with those who signal; no call of it waits for a device.
pub struct Msix {
    source: Arc<dyn VectorSource>,
    state: Mutex<State>,
}

impl Msix {
    /// A table of `vectors`, at least 1 and at most 2048, all masked. Lines come from `source` when first needed.
    #[must_use]
    pub fn new(vectors: u16, source: Arc<dyn VectorSource>) -> Self {
        let message = MsiMessage::default();
        let entry = Entry { message, masked: true, pending: false, line: None, routed: None };
        let entries = vec![entry; usize::from(vectors.clamp(1, MAX_VECTORS))];
        Self { source, state: Mutex::new(State { enabled: false, masked: false, entries }) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows the capability in `config`; returns where its message control is.
    pub fn add_capability(&self, config: &mut ConfigSpace, places: MsixPlaces) -> usize {
        let last = self.state().entries.len() - 1;
        let mut body = (last as u16).to_le_bytes().to_vec();
        body.extend((places.table | u32::from(places.bar)).to_le_bytes());
        body.extend((places.pending | u32::from(places.bar)).to_le_bytes());
        config.add_capability(CAPABILITY, &body, &(ENABLE | MASK_ALL).to_le_bytes()) + 2
    }

    /// Follows the message control register.
    pub fn set_control(&self, control: u16) {
        let mut state = self.state();
        (state.enabled, state.masked) = (control & ENABLE != 0, control & MASK_ALL != 0);
        if !state.enabled {
            state.entries.iter_mut().for_each(|entry| entry.pending = false);
        }
        let open = state.open();
        state.entries.iter_mut().for_each(|entry| entry.settle(open));
    }

    /// Gets a line for `vector`; returns whether there is one.
    #[must_use]
    pub fn claim(&self, vector: u16) -> bool {
        let mut state = self.state();
        let open = state.open();
        let Some(entry) = state.entries.get_mut(usize::from(vector)) else { return false };
        if entry.line.is_none() {
            entry.line = self.source.vector().ok();
            entry.settle(open);
        }
        entry.line.is_some()
    }

    /// Signals `vector`, if there is one of that number: delivered now, or when it is unmasked. Returns whether the
    /// guest has MSI-X enabled; else nothing happens.
    pub fn signal(&self, vector: u16) -> bool {
        let mut state = self.state();
        let (enabled, open) = (state.enabled, state.open());
        let entry = state.entries.get_mut(usize::from(vector));
        if let Some(entry) = entry.filter(|entry| enabled && entry.line.is_some()) {
            entry.pending = true;
            entry.settle(open);
        }
        enabled
    }

    /// The guest reads the table.
    pub fn read_table(&self, offset: usize, data: &mut [u8]) {
        let state = self.state();
        let first = offset / ENTRY_SIZE;
        let mut image = [0; 2 * ENTRY_SIZE];
        for (entry, image) in state.entries.iter().skip(first).zip(image.chunks_exact_mut(ENTRY_SIZE)) {
            image.copy_from_slice(&entry.image());
        }
        read_image(&image, offset % ENTRY_SIZE, data);
    }

    /// The guest writes the table.
    pub fn write_table(&self, offset: usize, data: &[u8]) {
        let mut state = self.state();
        let open = state.open();
        let first = offset / ENTRY_SIZE;
        for (index, entry) in state.entries.iter_mut().enumerate().skip(first).take(2) {
            let mut image = entry.image();
            if merge(&mut image, index * ENTRY_SIZE, offset, data) {
                let word =
                    |at: usize| u32::from_le_bytes([image[at], image[at + 1], image[at + 2], image[at + 3]]);
                let address = u64::from(word(4)) << 32 | u64::from(word(0));
                entry.message = MsiMessage { address, data: word(8) };
                entry.masked = word(12) & ENTRY_MASK != 0;
                entry.settle(open);
            }
        }
    }

    /// The guest reads the pending bits.
    pub fn read_pending(&self, offset: usize, data: &mut [u8]) {
        let state = self.state();
        for (byte, value) in data.iter_mut().enumerate() {
            let bits = state.entries.iter().skip((offset + byte) * 8).take(8).enumerate();
            *value = bits.fold(0, |bits, (bit, entry)| bits | u8::from(entry.pending) << bit);
        }
    }
}
