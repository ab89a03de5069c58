//! Work of the box catalog for a machine: what it tells are events of that machine.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use posada_box_catalog::{BoxError, Cancel, Progress, Store};
use posada_provider_api::MachineName;

use crate::error::Error;
use crate::event::{Event, EventSink};
use crate::orchestrator::{Orchestrator, blocking};

/// How many bytes lie between two events at least.
const STEP: u64 = 4 << 20;

impl Orchestrator {
    /// Does blocking work with the store for `machine`, which ends early when the user wants to stop.
    pub(crate) async fn with_store<T: Send + 'static>(
        &self,
        machine: &MachineName,
        subject: String,
        work: impl FnOnce(&Store, &dyn Progress, &Cancel) -> Result<T, BoxError> + Send + 'static,
    ) -> Result<T, Error> {
        let progress = BoxProgress::new(self.sink.clone(), machine, subject);
        let (store, switch) = (self.store.clone(), Cancel::default());
        let thrown = switch.clone();
        let working = blocking(move || Ok(work(&store, &progress, &switch)?));
        tokio::pin!(working);
        tokio::select! {
            done = &mut working => done,
            () = self.cancel.cancelled() => {
                thrown.cancel();
                working.await.and(Err(Error::Cancelled))
            }
        }
    }
}

/// A progress that makes events.
struct BoxProgress {
    sink: Arc<dyn EventSink>,
    machine: MachineName,
    subject: String,
    total: Mutex<Option<u64>>,
    done: AtomicU64,
}

impl BoxProgress {
    fn new(sink: Arc<dyn EventSink>, machine: &MachineName, subject: String) -> Self {
        Self { sink, machine: machine.clone(), subject, total: Mutex::default(), done: AtomicU64::new(0) }
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
