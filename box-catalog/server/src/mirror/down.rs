//! Whether upstream could not be reached a moment ago: who has what was known does not wait for it again and again.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Failed;

/// What takes longer to fail is not tried again at once, however fresh things are to be.
const SLOW: Duration = Duration::from_secs(1);

/// Until when, and why, upstream is not asked.
#[derive(Debug, Default)]
pub(super) struct Down(Mutex<Option<(Instant, Failed)>>);

impl Down {
    /// It could not be reached, which took since `began`; it is not asked for `fresh`, or for `most` where that took long.
    pub(super) fn failed(&self, began: Instant, failed: &Failed, fresh: Duration, most: Duration) {
        let wait = if began.elapsed() < SLOW { fresh.min(most) } else { most };
        *self.state() = Some((Instant::now() + wait, failed.clone()));
    }

    /// It could.
    pub(super) fn answered(&self) {
        *self.state() = None;
    }

    /// Why it is not to be asked now.
    pub(super) fn why(&self) -> Option<Failed> {
        self.state().as_ref().filter(|(until, _)| Instant::now() < *until).map(|(_, why)| why.clone())
    }

    fn state(&self) -> MutexGuard<'_, Option<(Instant, Failed)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_slowly_is_left_alone_for_longer() {
        let (down, most, failed) = (Down::default(), Duration::from_secs(3600), Failed::passing("gone"));
        let now = Instant::now();
        let long_ago = now.checked_sub(SLOW).unwrap();
        down.failed(now, &failed, Duration::ZERO, most);
        assert!(down.why().is_none(), "it costs nothing to ask again");
        down.failed(long_ago, &failed, Duration::ZERO, most);
        assert!(down.why().is_some());
        down.answered();
        assert!(down.why().is_none());
        down.failed(now, &failed, most * 2, most);
        assert!(down.why().is_some());
    }
}
