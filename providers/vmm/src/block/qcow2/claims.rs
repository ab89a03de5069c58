//! Which clusters are being given a place just now: others who want to do so wait.

use std::collections::HashMap;
use std::future::poll_fn;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

/// The claim that stands for a flush rather than a cluster.
pub(super) const FLUSH: u64 = u64::MAX - 1;

#[derive(Default)]
pub(super) struct Claims(Mutex<HashMap<u64, Vec<Waker>>>);

/// Clusters claimed, until it is dropped.
pub(super) struct Claim<'a> {
    claims: &'a Claims,
    range: Range<u64>,
}

impl Claims {
    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Vec<Waker>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Claims all clusters of `range` at once, as soon as none of them is.
    pub async fn claim(&self, range: Range<u64>) -> Claim<'_> {
        poll_fn(|context| {
            let mut taken = self.lock();
            for key in range.clone() {
                if let Some(waiting) = taken.get_mut(&key) {
                    waiting.push(context.waker().clone());
                    return Poll::Pending;
                }
            }
            taken.extend(range.clone().map(|key| (key, Vec::new())));
            Poll::Ready(())
        })
        .await;
        Claim { claims: self, range }
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        let mut taken = self.claims.lock();
        let waiting: Vec<Waker> = self.range.clone().filter_map(|key| taken.remove(&key)).flatten().collect();
        drop(taken);
        waiting.into_iter().for_each(Waker::wake);
    }
}
