//! The log of a disk that was not shut down cleanly (MS-VHDX 2.3): the changes that were written down, and may not have
//! been carried out, lie over the file as it is, which stays so.

use super::entry::{Entry, Ring};
use super::{MIB, corrupt, unsupported};
use crate::copy::is_zero;
use crate::overlay::{Changes, Overlay};
use crate::{ImageError, MAX_DISK, Result, Storage};

/// Longest log that is read, bytes; Hyper-V's have 1 MiB. It bounds what replaying takes: some three times as much.
const MAX_LOG: u64 = 16 * MIB;
/// Longest file: the largest disk, and its tables.
const MAX_FILE: u64 = 2 * MAX_DISK;
/// How often a byte of the log may be looked at as one of an entry: entries that are whole do not overlap.
const MAX_OVERLAP: u64 = 8;

/// Where the log is, as the current header has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Log {
    /// What its entries have to carry, as it lies in the file.
    pub guid: [u8; 16],
    pub version: u16,
    /// Where it begins, bytes.
    pub at: u64,
    /// How long it is, bytes.
    pub length: u64,
}

/// The file as it is once its log has been replayed.
pub fn replay(storage: Storage, log: &Log) -> Result<Storage> {
    if log.version != 0 {
        return Err(unsupported(format!("version {} of VHDX's log", log.version)));
    }
    if log.length > MAX_LOG {
        return Err(unsupported(format!(
            "a log of {} bytes to be replayed (at most {MAX_LOG} are)",
            log.length
        )));
    }
    if !log.at.is_multiple_of(MIB) || log.at < MIB || !log.length.is_multiple_of(MIB) {
        return Err(corrupt("its log is at an impossible place"));
    }
    let bytes = storage.bytes(log.at, log.length as usize)?;
    if (bytes.len() as u64) < log.length {
        return Err(ImageError::Truncated("its log is not there".to_owned()));
    }
    let ring = Ring(bytes);
    let Some((entries, head)) = active(&ring, &log.guid)? else {
        if is_unused(&ring, &log.guid) {
            return Ok(storage);
        }
        return Err(corrupt("its log holds no changes that are whole"));
    };
    let length = storage.length();
    if length < head.flushed {
        let flushed = head.flushed;
        return Err(ImageError::Truncated(format!(
            "its log tells of {flushed} bytes, of {length} that are there"
        )));
    }
    let mut changes = Changes::default();
    for entry in &entries {
        entry.carry_out(&ring, &mut changes);
    }
    if changes.end().max(head.last) > MAX_FILE {
        return Err(corrupt("its log tells of places that no file has"));
    }
    Ok(Storage::over(Overlay::new(storage, changes, head.last)))
}

/// The newest sequence of entries that is whole, from the oldest that may not have been carried out; and the newest
/// entry, which is its last (2.3.3). What was being written when the host stopped is no entry.
fn active(ring: &Ring, guid: &[u8; 16]) -> Result<Option<(Vec<Entry>, Entry)>> {
    let mut found: Vec<Entry> = Vec::new();
    let mut hashed = 0;
    let mut start = 0;
    while start < ring.sectors() {
        let sequence = sequence_at(ring, start, guid, &mut hashed);
        if hashed > MAX_OVERLAP * ring.0.len() as u64 {
            return Err(corrupt("the entries of its log overlap"));
        }
        let Some(head) = sequence.last() else {
            start += 1;
            continue;
        };
        // If the tail is not in it, it is in none that begins with a later one of these entries.
        start += sequence.iter().map(|entry| entry.sectors).sum::<usize>();
        let tail = sequence.iter().position(|entry| entry.start == head.tail);
        if let Some(tail) = tail
            && found.last().is_none_or(|newest| head.sequence > newest.sequence)
        {
            found = sequence[tail..].to_vec();
        }
    }
    let head = found.last().copied();
    Ok(head.map(|head| (found, head)))
}

/// Whether nothing was ever written into the log under its identity: all of it is zeros, or entries with others that are whole.
/// qemu gives a log its identity before it writes the first entry, and may end between the two; what has been damaged is neither.
fn is_unused(ring: &Ring, guid: &[u8; 16]) -> bool {
    let mut known = vec![false; ring.sectors()];
    let mut hashed = 0;
    for start in 0..ring.sectors() {
        let other = &ring.sector(start)[32..48];
        if known[start] || other == guid || hashed > MAX_OVERLAP * ring.0.len() as u64 {
            continue;
        }
        let sectors = Entry::at(ring, start, other, &mut hashed).map_or(0, |entry| entry.sectors);
        for number in start..start + sectors {
            known[number % ring.sectors()] = true;
        }
    }
    known.iter().enumerate().all(|(number, known)| *known || is_zero(ring.sector(number)))
}

/// Entries behind each other whose numbers go up by one, from the sector `start` on.
fn sequence_at(ring: &Ring, start: usize, guid: &[u8; 16], hashed: &mut u64) -> Vec<Entry> {
    let mut sequence: Vec<Entry> = Vec::new();
    let (mut at, mut taken) = (start, 0);
    while let Some(entry) = Entry::at(ring, at % ring.sectors(), guid, hashed) {
        let follows = sequence.last().is_none_or(|last| last.sequence.checked_add(1) == Some(entry.sequence));
        taken += entry.sectors;
        if !follows || taken > ring.sectors() {
            break;
        }
        at += entry.sectors;
        sequence.push(entry);
    }
    sequence
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::overlay::SECTOR;
    use crate::read::log_entry;

    const GUID: [u8; 16] = [3; 16];
    const SECTORS: usize = 24;

    /// The steps of 2.3.3 as they stand there: where the sequence begins, and the number of its newest entry.
    fn as_specified(ring: &Ring) -> Option<(usize, u64)> {
        let mut candidate: Vec<Entry> = Vec::new();
        let (mut tail, mut old_tail) = (0, 0);
        loop {
            let mut current: Vec<Entry> = Vec::new();
            let mut head = tail;
            while let Some(entry) = Entry::at(ring, head % SECTORS, &GUID, &mut 0) {
                if current.last().is_some_and(|last| last.sequence + 1 != entry.sequence) {
                    break;
                }
                head += entry.sectors;
                current.push(entry);
            }
            let newest = current.last().map_or(0, |last| last.sequence);
            let valid =
                current.last().is_some_and(|last| current.iter().any(|entry| entry.start == last.tail));
            if valid && newest > candidate.last().map_or(0, |last| last.sequence) {
                candidate.clone_from(&current);
            }
            tail = if valid { head } else { tail + 1 } % SECTORS;
            if tail < old_tail || (tail == old_tail && valid) {
                return candidate.last().map(|last| (last.tail, last.sequence));
            }
            old_tail = tail;
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]

        #[test]
        fn the_sequence_is_that_of_the_specification(
            runs in proptest::collection::vec((0..SECTORS, 1_u64..9, 1_usize..6, 0..SECTORS, 0_usize..3, any::<bool>()), 1..5),
        ) {
            let mut ring = Ring(vec![0; SECTORS * SECTOR]);
            for (start, first, count, tail, padding, whole) in runs {
                let mut at = start;
                for number in first..first + count as u64 {
                    let tail = if whole { start } else { tail };
                    let entry = log_entry::Entry {
                        guid: GUID,
                        sequence: number,
                        tail: (tail * SECTOR) as u32,
                        padding: if number == first { padding } else { 0 },
                        ..Default::default()
                    };
                    let bytes = entry.bytes(&[]);
                    log_entry::put(&mut ring.0, at, &bytes);
                    at += bytes.len() / SECTOR;
                }
            }
            let found = active(&ring, &GUID).ok().flatten().map(|(entries, head)| (entries[0].start, head.sequence));
            prop_assert_eq!(found, as_specified(&ring));
        }
    }
}
