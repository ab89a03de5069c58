//! Who has passed a request on already (RFC 9110, section 7.6.3): mirrors that mirror each other must not ask for ever.

use http::{HeaderMap, StatusCode, header};

use crate::ServerError;
use crate::refusal::Refusal;

/// So many may pass a request on.
const MOST: usize = 8;

/// What a mirror calls itself.
#[derive(Debug, Clone)]
pub(super) struct Pseudonym(String);

/// Through whom a request came.
#[derive(Debug, Clone, Default)]
pub(crate) struct Via(Vec<String>);

impl Via {
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let texts = headers.get_all(header::VIA).into_iter().filter_map(|value| value.to_str().ok());
        Self(texts.flat_map(|text| text.split(',')).map(|one| one.trim().to_owned()).collect())
    }

    /// Whether no other mirror asks.
    pub(super) fn is_direct(&self) -> bool {
        !self.0.iter().any(|one| one.contains(" posada-"))
    }

    /// What the request is passed on with, or why it is not.
    pub(super) fn through(&self, own: &Pseudonym) -> Result<String, Refusal> {
        if self.0.iter().any(|one| one.ends_with(&own.0)) || self.0.len() >= MOST {
            return Err(Refusal::new(
                StatusCode::LOOP_DETECTED,
                "this mirror is asked by what it mirrors: mirrors go round in a circle",
            )
            .hint("whoever runs them: `--mirror` must lead to a catalog that has boxes of its own"));
        }
        let own = format!("1.1 {}", own.0);
        Ok(self.0.iter().chain([&own]).cloned().collect::<Vec<_>>().join(", "))
    }
}

impl Pseudonym {
    pub(super) fn new() -> Result<Self, ServerError> {
        let mut bytes = [0; 8];
        // So few bytes come at once (getrandom(2)).
        rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
            .map_err(|error| ServerError::io("read", "/dev/urandom", error.into()))?;
        Ok(Self(format!("posada-{:016x}", u64::from_be_bytes(bytes))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn circles_are_seen_and_others_passed_on() {
        let (own, other) = (Pseudonym::new().unwrap(), Pseudonym::new().unwrap());
        let via = |text: String| {
            let mut headers = HeaderMap::new();
            headers.insert(header::VIA, text.parse().unwrap());
            Via::of(&headers)
        };
        let first = Via::default().through(&own).unwrap();
        assert!(Via::default().is_direct() && via("1.1 proxy.example".to_owned()).is_direct());
        assert!(!via(first.clone()).is_direct());
        let second = via(first.clone()).through(&other).unwrap();
        assert_eq!(second, format!("{first}, 1.1 {}", other.0));
        for own in [&own, &other] {
            assert_eq!(via(second.clone()).through(own).unwrap_err().status(), StatusCode::LOOP_DETECTED);
        }
        assert!(via(["1.1 a"; MOST].join(",")).through(&own).is_err());
    }
}
