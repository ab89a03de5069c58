//! Data of the guest that came before its time.

use std::collections::VecDeque;

use super::segment::before;

/// Segments beyond one that is missing, by their place in sequence space.
#[derive(Debug, Default)]
pub(super) struct Reorder {
    /// Sorted by where they begin. They may overlap.
    segments: VecDeque<(u32, Vec<u8>)>,
    bytes: usize,
    /// Where the guest's FIN is.
    end: Option<u32>,
}

impl Reorder {
    /// Keeps `payload`, which begins at `sequence`, beyond `expected`. What lies outside of the `window` that begins
    /// there is not kept.
    pub(super) fn keep(&mut self, sequence: u32, payload: &[u8], fin: bool, expected: u32, window: usize) {
        let distance = sequence.wrapping_sub(expected) as usize;
        let payload = &payload[..payload.len().min(window.saturating_sub(distance))];
        if fin && distance < window {
            self.end = Some(sequence.wrapping_add(payload.len() as u32));
        }
        // Repeated segments can be there twice; honest guests do not repeat without end.
        if payload.is_empty() || self.bytes + payload.len() > 2 * window {
            return;
        }
        let place = self.segments.partition_point(|(other, _)| before(*other, sequence));
        let known = self
            .segments
            .get(place)
            .is_some_and(|(other, bytes)| *other == sequence && bytes.len() >= payload.len());
        if !known {
            self.bytes += payload.len();
            self.segments.insert(place, (sequence, payload.to_vec()));
        }
    }

    /// Takes out what continues at `expected`.
    pub(super) fn next(&mut self, expected: u32) -> Option<Vec<u8>> {
        while let Some((sequence, _)) = self.segments.front()
            && !before(expected, *sequence)
        {
            let (sequence, mut bytes) = self.segments.pop_front()?;
            self.bytes -= bytes.len();
            let seen = expected.wrapping_sub(sequence) as usize;
            if seen < bytes.len() {
                bytes.drain(..seen);
                return Some(bytes);
            }
        }
        None
    }

    /// Whether the guest's FIN is at `expected`.
    pub(super) fn ends_at(&self, expected: u32) -> bool {
        self.end == Some(expected)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_order_gives_the_stream(
            start in any::<u32>(),
            stream in proptest::collection::vec(any::<u8>(), 1..3000),
            cuts in proptest::collection::vec((0_usize..3000, 1_usize..500), 0..60),
        ) {
            let mut reorder = Reorder::default();
            // Everything but the first byte, in whatever pieces, and once more in order so that nothing is missing.
            let whole = (1..stream.len()).step_by(100).map(|at| (at, 100));
            for (at, len) in cuts.into_iter().filter(|(at, _)| (1..stream.len()).contains(at)).chain(whole) {
                let end = (at + len).min(stream.len());
                let sequence = start.wrapping_add(at as u32);
                reorder.keep(sequence, &stream[at..end], end == stream.len(), start, 1 << 20);
            }
            let mut got = vec![stream[0]];
            while let Some(bytes) = reorder.next(start.wrapping_add(got.len() as u32)) {
                got.extend(bytes);
            }
            prop_assert!(got == stream);
            prop_assert_eq!(reorder.bytes, 0);
            prop_assert_eq!(reorder.ends_at(start.wrapping_add(got.len() as u32)), stream.len() > 1);
        }

        #[test]
        fn it_keeps_no_more_than_twice_the_window(
            pieces in proptest::collection::vec((0_u32..2000, 0_usize..400), 0..200), window in 0_usize..1500,
        ) {
            let mut reorder = Reorder::default();
            for (at, len) in pieces {
                reorder.keep(at + 1, &vec![0; len], false, 0, window);
                prop_assert!(reorder.bytes <= 2 * window);
                prop_assert!(reorder.segments.iter().all(|(at, bytes)| *at as usize + bytes.len() <= window));
            }
        }
    }
}
