//! Which files are being read just now: they are not removed under their reader.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::digest::Sha256;

/// The files being read.
#[derive(Debug, Clone, Default)]
pub(super) struct Leases(Arc<Mutex<HashMap<Sha256, usize>>>);

/// A file is being read as long as this is there.
#[derive(Debug)]
pub(crate) struct Lease {
    leases: Leases,
    sha256: Sha256,
}

impl Leases {
    pub(super) fn take(&self, sha256: Sha256) -> Lease {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(sha256).or_default() += 1;
        Lease { leases: self.clone(), sha256 }
    }

    pub(super) fn is_held(&self, sha256: &Sha256) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains_key(sha256)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut held = self.leases.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = held.get_mut(&self.sha256) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.sha256);
            }
        }
    }
}
