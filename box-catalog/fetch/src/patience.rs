//! How often, and how soon, what failed is tried again.

use std::time::Duration;

use crate::FetchError;

/// How many failures in a row are the end where nothing else is said.
pub(crate) const TRIES: u32 = 7;
const FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(30);
/// A server that wants to be left alone for longer is not waited for.
const OBEYED: Duration = Duration::from_secs(120);

/// Counts failures. It is shared by all that work on one file.
#[derive(Debug)]
pub(crate) struct Patience {
    failures: u32,
    tries: u32,
}

impl Patience {
    /// One that ends with `tries` failures in a row.
    pub const fn new(tries: u32) -> Self {
        Self { failures: 0, tries }
    }

    /// Something came.
    pub fn restore(&mut self) {
        self.failures = 0;
    }

    /// How long to wait before another try; the error comes back where there is to be none. `chance` in 0 to 1 keeps those who
    /// failed together from trying together (as in Brooker, “Exponential Backoff And Jitter”, 2015).
    fn after(&mut self, error: FetchError, chance: f64) -> Result<Duration, FetchError> {
        self.failures += 1;
        if !error.is_passing() || self.failures >= self.tries {
            return Err(error);
        }
        if let FetchError::Status { again: Some(again), .. } = &error {
            return if *again <= OBEYED { Ok(*again) } else { Err(error) };
        }
        let most = LONGEST.min(FIRST.saturating_mul(2_u32.saturating_pow(self.failures - 1)));
        Ok(most.mul_f64(0.5 + chance / 2.0))
    }

    /// Waits before another try and says so, or gives the error back.
    pub async fn wait(&mut self, error: FetchError, note: &dyn Fn(&str)) -> Result<(), FetchError> {
        let told = error.to_string();
        let wait = self.after(error, chance())?;
        note(&format!("{told}; again in {:.1} s", wait.as_secs_f64()));
        tokio::time::sleep(wait).await;
        Ok(())
    }
}

/// A number between 0 and 1.
fn chance() -> f64 {
    let mut byte = [0];
    // Without chance, it is in the middle.
    match rustix::rand::getrandom(&mut byte, rustix::rand::GetRandomFlags::empty()) {
        Ok(_) => f64::from(byte[0]) / 255.0,
        Err(_) => 0.5,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(status: u16, again: Option<u64>) -> FetchError {
        FetchError::Status { url: String::new(), status, again: again.map(Duration::from_secs) }
    }

    #[test]
    fn waits_grow_and_end() {
        let mut patience = Patience::new(TRIES);
        let waits: Vec<u128> =
            std::iter::from_fn(|| patience.after(status(503, None), 1.0).ok().map(|wait| wait.as_millis()))
                .collect();
        assert_eq!(waits, [500, 1000, 2000, 4000, 8000, 16000]);
        patience.restore();
        assert_eq!(patience.after(status(503, None), 0.0).unwrap().as_millis(), 250);
    }

    #[test]
    fn servers_are_obeyed_within_reason_and_what_will_not_pass_is_not_tried_again() {
        let mut patience = Patience::new(TRIES);
        assert_eq!(patience.after(status(429, Some(7)), 0.0).unwrap().as_secs(), 7);
        assert!(patience.after(status(429, Some(3600)), 0.0).is_err());
        assert!(patience.after(status(400, None), 0.0).is_err());
    }
}
