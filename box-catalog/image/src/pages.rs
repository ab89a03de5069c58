//! Tables read a page at a time, so that a table takes no memory for being long.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::{Result, Storage};

/// Bytes of a page.
const PAGE: u64 = 32 << 10;
/// Pages that are kept: 4 MiB.
const KEPT: usize = 128;

/// What tables lie in.
#[derive(Debug)]
pub struct Pages {
    storage: Storage,
    kept: Mutex<HashMap<u64, Arc<[u8]>>>,
}

impl Pages {
    pub fn new(storage: Storage) -> Self {
        Self { storage, kept: Mutex::default() }
    }

    pub fn storage(&self) -> &Storage {
        &self.storage
    }

    pub fn le32(&self, at: u64) -> Result<u32> {
        self.array(at).map(u32::from_le_bytes)
    }

    pub fn be32(&self, at: u64) -> Result<u32> {
        self.array(at).map(u32::from_be_bytes)
    }

    pub fn le64(&self, at: u64) -> Result<u64> {
        self.array(at).map(u64::from_le_bytes)
    }

    pub fn be64(&self, at: u64) -> Result<u64> {
        self.array(at).map(u64::from_be_bytes)
    }

    fn array<const N: usize>(&self, at: u64) -> Result<[u8; N]> {
        let (page, within) = (at / PAGE, (at % PAGE) as usize);
        if let Some(found) = self.page(page)?.get(within..within + N) {
            return Ok(found.try_into().unwrap_or([0; N]));
        }
        // Over the end of a page, or of the file.
        let mut bytes = [0; N];
        self.storage.read_at(&mut bytes, at)?;
        Ok(bytes)
    }

    fn page(&self, number: u64) -> Result<Arc<[u8]>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(page) = kept.get(&number) {
            return Ok(page.clone());
        }
        let page: Arc<[u8]> = self.storage.bytes(number * PAGE, PAGE as usize)?.into();
        if kept.len() >= KEPT {
            kept.clear();
        }
        kept.insert(number, page.clone());
        Ok(page)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_wherever_they_lie() {
        let mut bytes = vec![0; 70_000];
        let at = PAGE as usize - 3;
        bytes[at..at + 8].copy_from_slice(&0x0102_0304_0506_0708_u64.to_be_bytes());
        let pages = Pages::new(Storage::memory(bytes));
        assert_eq!(pages.be64(at as u64).unwrap(), 0x0102_0304_0506_0708);
        assert_eq!(pages.le32(at as u64).unwrap(), 0x0403_0201);
        assert!(pages.le64(69_996).is_err() && pages.le32(69_996).is_ok() && pages.le32(1 << 60).is_err());
    }
}
