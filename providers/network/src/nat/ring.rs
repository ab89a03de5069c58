//! A queue of bytes that grows with what it holds, up to a limit.

use std::io::{self, IoSlice, IoSliceMut};

const SMALLEST: usize = 16 * 1024;

/// Bytes in order, the oldest first.
#[derive(Debug)]
pub(super) struct Ring {
    /// Empty, or as long as a power of two.
    buffer: Vec<u8>,
    head: usize,
    len: usize,
    limit: usize,
}

impl Ring {
    /// An empty ring that holds at most `limit` bytes, a power of two of at least 16 KiB. It allocates nothing yet.
    pub(super) fn new(limit: usize) -> Self {
        debug_assert!(limit.is_power_of_two() && limit >= SMALLEST);
        Self { buffer: Vec::new(), head: 0, len: 0, limit }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many bytes can be added before the limit.
    pub(super) fn room(&self) -> usize {
        self.limit - self.len
    }

    /// Lets `read` fill what is free, in order, and takes as many bytes as it says it has written.
    pub(super) fn fill(
        &mut self,
        read: impl FnOnce(&mut [IoSliceMut<'_>; 2]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        if self.len * 2 >= self.buffer.len() && self.buffer.len() < self.limit {
            self.grow(self.buffer.len() * 4);
        }
        let capacity = self.buffer.len();
        let (start, free) = ((self.head + self.len) & (capacity - 1), capacity - self.len);
        let (before, after) = self.buffer.split_at_mut(start);
        let first = free.min(after.len());
        let mut slices = [IoSliceMut::new(&mut after[..first]), IoSliceMut::new(&mut before[..free - first])];
        let read = read(&mut slices)?.min(free);
        self.len += read;
        Ok(read)
    }

    /// Adds `bytes` at the end.
    ///
    /// # Panics
    /// Where there is no [`room`](Self::room) for them.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        assert!(bytes.len() <= self.room(), "{} bytes into room for {}", bytes.len(), self.room());
        if bytes.len() > self.buffer.len() - self.len {
            self.grow(self.len + bytes.len());
        }
        let capacity = self.buffer.len();
        if capacity == 0 {
            return;
        }
        let start = (self.head + self.len) & (capacity - 1);
        let (now, wrapped) = bytes.split_at(bytes.len().min(capacity - start));
        self.buffer[start..start + now.len()].copy_from_slice(now);
        self.buffer[..wrapped.len()].copy_from_slice(wrapped);
        self.len += bytes.len();
    }

    /// `len` bytes from `offset` on, as one or two parts.
    pub(super) fn range(&self, offset: usize, len: usize) -> [&[u8]; 2] {
        if len == 0 {
            return [&[], &[]];
        }
        debug_assert!(offset + len <= self.len);
        let start = (self.head + offset) & (self.buffer.len() - 1);
        let first = len.min(self.buffer.len() - start);
        [&self.buffer[start..start + first], &self.buffer[..len - first]]
    }

    /// All bytes, for a vectored write.
    pub(super) fn slices(&self) -> [IoSlice<'_>; 2] {
        self.range(0, self.len).map(IoSlice::new)
    }

    /// Forgets the `count` oldest bytes.
    pub(super) fn consume(&mut self, count: usize) {
        debug_assert!(count <= self.len);
        self.len -= count;
        self.head = if self.len == 0 { 0 } else { (self.head + count) & (self.buffer.len() - 1) };
    }

    /// Gives the memory back if nothing is held.
    pub(super) fn release(&mut self) {
        if self.len == 0 {
            self.buffer = Vec::new();
            self.head = 0;
        }
    }

    fn grow(&mut self, to: usize) {
        let capacity = to.next_power_of_two().clamp(SMALLEST, self.limit);
        let mut buffer = Vec::with_capacity(capacity);
        for part in self.range(0, self.len) {
            buffer.extend_from_slice(part);
        }
        buffer.resize(capacity, 0);
        self.buffer = buffer;
        self.head = 0;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    const LIMIT: usize = 64 * 1024;

    #[derive(Debug, Clone)]
    enum Step {
        Push(usize),
        Fill(usize),
        Consume(usize),
        Release,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0..40_000_usize).prop_map(Step::Push),
            (0..40_000_usize).prop_map(Step::Fill),
            (0..60_000_usize).prop_map(Step::Consume),
            Just(Step::Release),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]
        #[test]
        fn is_a_queue(steps in proptest::collection::vec(step(), 1..30)) {
            let mut ring = Ring::new(LIMIT);
            let mut model: VecDeque<u8> = VecDeque::new();
            let mut counter = 0_u8;
            for step in steps {
                match step {
                    Step::Push(count) => {
                        let bytes: Vec<u8> = (0..count.min(ring.room())).map(|_| { counter = counter.wrapping_add(7); counter }).collect();
                        ring.push(&bytes);
                        model.extend(&bytes);
                    }
                    Step::Fill(count) => {
                        let mut left = count;
                        let mut written = Vec::new();
                        ring.fill(|slices| {
                            for slice in slices {
                                for byte in slice.iter_mut().take(left) {
                                    counter = counter.wrapping_add(7);
                                    *byte = counter;
                                    written.push(counter);
                                }
                                left = count - written.len();
                            }
                            Ok(written.len())
                        }).unwrap();
                        model.extend(&written);
                    }
                    Step::Consume(count) => {
                        let count = count.min(ring.len());
                        ring.consume(count);
                        model.drain(..count);
                    }
                    Step::Release => ring.release(),
                }
                prop_assert_eq!(ring.len(), model.len());
                prop_assert!(ring.len() <= LIMIT);
                let half = ring.len() / 2;
                let tail: Vec<u8> = ring.range(half, ring.len() - half).concat();
                prop_assert!(tail.iter().eq(model.iter().skip(half)));
            }
        }
    }
}
