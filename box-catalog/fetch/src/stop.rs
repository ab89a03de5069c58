//! Ending a call early.

use std::sync::Arc;

use tokio::sync::watch;

/// A switch that ends the calls it was handed to. Clones are the same switch.
#[derive(Debug, Clone)]
pub struct Stop(Arc<watch::Sender<bool>>);

impl Default for Stop {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }
}

impl Stop {
    /// Ends them.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }

    /// Done once it was switched.
    pub async fn stopped(&self) {
        // Cannot fail: the sender is here.
        let _ = self.0.subscribe().wait_for(|stopped| *stopped).await;
    }
}
