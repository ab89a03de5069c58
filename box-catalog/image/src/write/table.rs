//! A table that is filled in order, written a page at a time.

use super::output::Output;
use crate::Result;

const PAGE: u64 = 64 << 10;

/// A table in a file.
pub struct Table<'a> {
    out: &'a Output,
    at: u64,
    /// What entries consist of that are not set.
    empty: u8,
    page: Vec<u8>,
    number: u64,
}

impl<'a> Table<'a> {
    /// One that begins at `at`.
    pub fn new(out: &'a Output, at: u64, empty: u8) -> Self {
        Self { out, at, empty, page: vec![empty; PAGE as usize], number: 0 }
    }

    /// Sets what is `place` bytes into the table; places come in order, and none lies across two pages.
    pub fn set(&mut self, place: u64, bytes: &[u8]) -> Result<()> {
        self.turn_to(place / PAGE)?;
        let within = (place % PAGE) as usize;
        self.page[within..within + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    /// Writes the rest of a table of `length` bytes.
    pub fn finish(mut self, length: u64) -> Result<()> {
        self.turn_to(length / PAGE)?;
        self.out.write_at(&self.page[..(length % PAGE) as usize], self.at + self.number * PAGE)
    }

    fn turn_to(&mut self, number: u64) -> Result<()> {
        while self.number < number {
            self.out.write_at(&self.page, self.at + self.number * PAGE)?;
            self.page.fill(self.empty);
            // Where nothing is written there are zeros.
            self.number = if self.empty == 0 { number } else { self.number + 1 };
        }
        Ok(())
    }
}
