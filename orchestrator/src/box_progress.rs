//! What the box catalog tells, as events of the machine the box is for.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use posada_box_catalog::{BoxRef, Progress};
use posada_provider_api::MachineName;

use crate::event::{Event, EventSink};

/// How many bytes lie between two events at least.
const STEP: u64 = 4 << 20;

/// A progress that makes events.
pub(crate) struct BoxProgress {
    sink: Arc<dyn EventSink>,
    machine: MachineName,
    subject: String,
    total: Mutex<Option<u64>>,
    done: AtomicU64,
}

impl BoxProgress {
    pub(crate) fn new(sink: Arc<dyn EventSink>, machine: &MachineName, subject: &BoxRef) -> Self {
        let (machine, subject) = (machine.clone(), subject.to_string());
        Self { sink, machine, subject, total: Mutex::default(), done: AtomicU64::new(0) }
    }
}

impl Progress for BoxProgress {
    fn phase(&self, text: &str, total: Option<u64>) {
        *self.total.lock().unwrap_or_else(PoisonError::into_inner) = total;
        self.done.store(0, Ordering::Relaxed);
        self.sink
            .event(Event::Phase { machine: self.machine.clone(), phase: format!("{text} {}", self.subject) });
    }

    fn advance(&self, bytes: u64) {
        let before = self.done.fetch_add(bytes, Ordering::Relaxed);
        let done = before + bytes;
        if before / STEP != done / STEP {
            let total = *self.total.lock().unwrap_or_else(PoisonError::into_inner);
            let (machine, subject) = (Some(self.machine.clone()), self.subject.clone());
            self.sink.event(Event::Progress { machine, subject, done, total });
        }
    }

    fn warn(&self, text: &str) {
        self.sink.event(Event::Warning { machine: Some(self.machine.clone()), message: text.to_owned() });
    }
}
