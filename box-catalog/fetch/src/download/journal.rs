//! What is known of a part of a file: which blocks came, and of which version of it they are.

use std::io::Write as _;
use std::ops::Range;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::FetchError;

/// Bytes of a block.
pub(super) const BLOCK: u64 = 1 << 20;
const FORMAT: u32 = 1;
/// So many blocks may come before those that did are put on the disk.
const UNSYNCED: usize = 64;

/// By what a server tells versions of a file apart (RFC 9110, section 8.8).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Version {
    /// Bytes of the whole.
    pub size: u64,
    /// A strong entity tag, or a date of its last change.
    pub validator: Option<String>,
}

/// The journal of one part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Journal {
    format: u32,
    pub version: Version,
    /// The boot in which it was written.
    boot: String,
    /// Blocks that came, as runs: first, count.
    came: Vec<(u64, u64)>,
    /// Those of them that were on the disk when it was written.
    synced: Vec<(u64, u64)>,
    #[serde(skip)]
    blocks: Vec<bool>,
    #[serde(skip)]
    fresh: usize,
}

impl Journal {
    /// Of a part of which nothing has come.
    pub fn new(version: Version, boot: String) -> Self {
        let count = usize::try_from(version.size.div_ceil(BLOCK)).unwrap_or(usize::MAX);
        let blocks = vec![false; count];
        Self { format: FORMAT, version, boot, came: Vec::new(), synced: Vec::new(), blocks, fresh: 0 }
    }

    /// Takes one that was written; `None` where it makes no sense, which costs no more than fetching again.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let mut journal: Self = serde_json::from_slice(bytes).ok()?;
        // As large as disks get; the list of blocks takes a megabyte for each TiB.
        if journal.format != FORMAT || journal.version.size > 1 << 44 {
            return None;
        }
        let count = journal.version.size.div_ceil(BLOCK);
        let sound = |runs: &[(u64, u64)]| {
            runs.iter().all(|(first, length)| first.checked_add(*length).is_some_and(|end| end <= count))
        };
        if !sound(&journal.came) || !sound(&journal.synced) {
            return None;
        }
        journal.blocks = vec![false; usize::try_from(count).ok()?];
        Some(journal)
    }

    /// Reads that of a part, in the boot `boot`.
    pub fn read(path: &Path, boot: String) -> Option<Self> {
        let mut journal = Self::parse(&fs_err::read(path).ok()?)?;
        let trusted = if journal.boot == boot { &journal.came } else { &journal.synced };
        for &(first, length) in trusted {
            // They were looked at when it was read.
            journal.blocks[first as usize..(first + length) as usize].fill(true);
        }
        journal.boot = boot;
        Some(journal)
    }

    /// A block came. Where it is time to put what came on the disk, that is what comes back.
    pub fn mark(&mut self, block: u64) -> Option<Vec<(u64, u64)>> {
        self.blocks[block as usize] = true;
        self.fresh += 1;
        if self.fresh < UNSYNCED {
            return None;
        }
        self.fresh = 0;
        Some(runs(&self.blocks))
    }

    /// The blocks of these runs are on the disk now.
    pub fn synced(&mut self, runs: Vec<(u64, u64)>) {
        self.synced = runs;
    }

    /// Writes it, whole.
    pub fn write(&mut self, path: &Path) -> Result<(), FetchError> {
        self.came = runs(&self.blocks);
        let failed = |error| FetchError::io("write", path, error);
        let bytes = serde_json::to_vec(self).map_err(|error| failed(error.into()))?;
        let mut file =
            tempfile::NamedTempFile::new_in(path.parent().unwrap_or(Path::new("/"))).map_err(failed)?;
        file.write_all(&bytes).map_err(failed)?;
        file.persist(path).map_err(|error| failed(error.error))?;
        Ok(())
    }

    /// Whether everything came.
    pub fn is_complete(&self) -> bool {
        self.blocks.iter().all(|came| *came)
    }

    /// How many blocks, from the start on, came without a gap.
    pub fn prefix(&self) -> u64 {
        self.blocks.iter().take_while(|came| **came).count() as u64
    }

    /// Bytes that came.
    pub fn bytes(&self) -> u64 {
        let came = self.blocks.iter().enumerate().filter(|(_, came)| **came);
        came.map(|(block, _)| self.length(block as u64)).sum()
    }

    /// The bytes that came.
    pub fn ranges(&self) -> impl Iterator<Item = Range<u64>> + use<> {
        let size = self.version.size;
        let bytes = move |(first, count): (u64, u64)| first * BLOCK..((first + count) * BLOCK).min(size);
        runs(&self.blocks).into_iter().map(bytes)
    }

    /// Bytes of a block: the last one may be shorter.
    pub fn length(&self, block: u64) -> u64 {
        BLOCK.min(self.version.size - block * BLOCK)
    }

    /// The first blocks, `most` at most, that have not come and that nobody has `taken`.
    pub fn missing(&self, taken: &[(u64, u64)], most: u64) -> Option<(u64, u64)> {
        let free = |block: u64| {
            !self.blocks[block as usize] && !taken.iter().any(|(first, end)| (*first..*end).contains(&block))
        };
        let count = self.blocks.len() as u64;
        let first = (0..count).find(|block| free(*block))?;
        let end = (first..count).take(most as usize).take_while(|block| free(*block)).last()? + 1;
        Some((first, end))
    }
}

fn runs(blocks: &[bool]) -> Vec<(u64, u64)> {
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for (at, _) in blocks.iter().enumerate().filter(|(_, came)| **came) {
        match runs.last_mut() {
            Some((first, length)) if *first + *length == at as u64 => *length += 1,
            _ => runs.push((at as u64, 1)),
        }
    }
    runs
}

/// The boot this is: what was written in another one is on the disk only where it was put there.
pub(super) fn this_boot() -> String {
    // Without it, nothing but what was put on the disk counts.
    let boot = fs_err::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    boot.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn journal(size: u64) -> Journal {
        Journal::new(Version { size, validator: None }, "one".to_owned())
    }

    #[test]
    fn what_came_is_kept_and_after_a_reboot_what_was_on_the_disk() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("journal.json");
        let mut written = journal(10 * BLOCK - 1);
        for block in [0, 1, 5] {
            assert_eq!(written.mark(block), None);
        }
        written.synced(vec![(0, 2), (5, 1)]);
        written.mark(9);
        written.write(&path).unwrap();
        let same = Journal::read(&path, "one".to_owned()).unwrap();
        assert_eq!((same.bytes(), same.prefix()), (4 * BLOCK - 1, 2));
        let other = Journal::read(&path, "two".to_owned()).unwrap();
        assert_eq!((other.bytes(), other.prefix()), (3 * BLOCK, 2));
        assert_eq!(other.missing(&[], 100), Some((2, 5)));
        assert_eq!(other.missing(&[(2, 4)], 100), Some((4, 5)));
        assert_eq!(other.missing(&[(2, 5), (6, 7)], 2), Some((7, 9)));
        assert_eq!(other.missing(&[(2, 5), (6, 10)], 2), None);
        fs_err::write(&path, "{").unwrap();
        assert_eq!(Journal::read(&path, "one".to_owned()), None);
    }

    #[test]
    fn it_is_time_to_sync_now_and_then() {
        let mut journal = journal(1000 * BLOCK);
        let times = (0..1000).filter(|block| journal.mark(*block).is_some()).count();
        assert_eq!(times, 1000 / UNSYNCED);
        assert!(journal.is_complete());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..100), size: u64, run: (u64, u64)) {
            crate::fuzzing::journal(&bytes);
            let text = format!(
                r#"{{"format":1,"version":{{"size":{},"validator":null}},"boot":"","came":[[{},{}]],"synced":[]}}"#,
                size % (1 << 50), run.0, run.1
            );
            crate::fuzzing::journal(text.as_bytes());
        }
    }
}
