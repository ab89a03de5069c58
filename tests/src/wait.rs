//! Waiting for what another process does, where no event can be had for it.

use std::time::{Duration, Instant};

/// Returns as soon as `condition` gives something; looks every few milliseconds.
///
/// # Panics
/// After half a minute, naming `what`.
#[track_caller]
pub fn until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(began.elapsed() < Duration::from_secs(30), "waited half a minute for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Returns as soon as `condition` holds.
///
/// # Panics
/// After half a minute, naming `what`.
#[track_caller]
pub fn until_true(what: &str, mut condition: impl FnMut() -> bool) {
    until(what, || condition().then_some(()));
}
