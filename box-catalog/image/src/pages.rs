//! Tables read a page at a time, so that a table takes no memory for being long.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::{Result, Storage};

/// Bytes of a page.
const PAGE: u64 = 32 << 10;
/// Pages that are kept: 4 MiB.
const KEPT: usize = 128;

/// The pages that are kept of all files of a disk.
#[derive(Debug, Clone, Default)]
pub struct Cache(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    /// How many files there are.
    files: usize,
    /// By file and page.
    pages: HashMap<(usize, u64), Arc<[u8]>>,
}

impl Cache {
    /// Another file of the disk.
    pub fn pages(&self, storage: Storage) -> Pages {
        let mut kept = self.lock();
        kept.files += 1;
        Pages { storage, file: kept.files, cache: self.clone() }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What tables lie in.
#[derive(Debug)]
pub struct Pages {
    storage: Storage,
    /// Which of the disk's files it is.
    file: usize,
    cache: Cache,
}

impl Pages {
    /// Those of the only file of a disk.
    pub fn new(storage: Storage) -> Self {
        Cache::default().pages(storage)
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
        let mut kept = self.cache.lock();
        if let Some(page) = kept.pages.get(&(self.file, number)) {
            return Ok(page.clone());
        }
        let page: Arc<[u8]> = self.storage.bytes(number * PAGE, PAGE as usize)?.into();
        if kept.pages.len() >= KEPT {
            kept.pages.clear();
        }
        kept.pages.insert((self.file, number), page.clone());
        Ok(page)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_one_disk_keep_no_more_than_one() {
        let cache = Cache::default();
        let files: Vec<_> =
            (1..=40).map(|file| cache.pages(Storage::memory(vec![file; 10 * PAGE as usize]))).collect();
        for page in 0..10 {
            for (file, pages) in (1_u8..).zip(&files) {
                assert_eq!(pages.le32(page * PAGE).unwrap(), u32::from_le_bytes([file; 4]));
                assert!(cache.lock().pages.len() <= KEPT);
            }
        }
    }

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
