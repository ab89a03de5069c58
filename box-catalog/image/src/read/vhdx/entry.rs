//! An entry of the log (MS-VHDX 2.3.1): which sectors of the file are to be written, and with what.

use crate::bytes::{Header, crc32c_of};
use crate::overlay::{Changes, SECTOR};

/// What a descriptor takes; the entry's header takes the place of the first two.
const DESCRIPTOR: usize = 32;
const IN_SECTOR: usize = SECTOR / DESCRIPTOR;
const IN_HEADER: usize = 2;

/// The log: sectors, the last of which the first one follows.
pub struct Ring(pub Vec<u8>);

impl Ring {
    /// How many sectors it has; never 0.
    pub fn sectors(&self) -> usize {
        self.0.len() / SECTOR
    }

    pub fn sector(&self, number: usize) -> &[u8; SECTOR] {
        let at = number % self.sectors() * SECTOR;
        self.0[at..].first_chunk().unwrap_or(&[0; SECTOR])
    }
}

/// An entry that is whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// In which sector of the log it begins.
    pub start: usize,
    /// How many sectors it takes.
    pub sectors: usize,
    pub sequence: u64,
    /// In which sector the oldest entry begins whose changes may not have been carried out.
    pub tail: usize,
    /// How long the file was at least, bytes.
    pub flushed: u64,
    /// How long the file has to be made at least, bytes.
    pub last: u64,
    descriptors: usize,
}

/// What a descriptor asks for.
enum Change<'a> {
    Zero { start: u64, end: u64 },
    Data { start: u64, descriptor: Header<'a>, sector: &'a [u8; SECTOR] },
}

impl Entry {
    /// The one that begins in the sector `start`, where one does that holds all it should. `hashed` grows by what its
    /// checksum covers, bytes.
    pub fn at(ring: &Ring, start: usize, guid: &[u8], hashed: &mut u64) -> Option<Self> {
        let first = ring.sector(start);
        let header = Header(first);
        let aligned = |at: usize| Some(header.le32(at) as usize).filter(|value| value.is_multiple_of(SECTOR));
        let entry = Self {
            start,
            sectors: aligned(8)? / SECTOR,
            sequence: header.le64(16),
            tail: aligned(12)? / SECTOR,
            flushed: header.le64(48),
            last: header.le64(56),
            descriptors: header.le32(24) as usize,
        };
        let fits = entry.table() <= entry.sectors && entry.sectors <= ring.sectors();
        if !header.is(0, b"loge") || !header.is(32, guid) || entry.sequence == 0 || !fits {
            return None;
        }
        // Before the checksum: this ends early where it is none.
        entry.changes(ring).try_for_each(|change| change.map(drop))?;
        *hashed += (entry.sectors * SECTOR) as u64;
        let rest = (1..entry.sectors).map(|number| &ring.sector(start + number)[..]);
        let parts = [&first[..4], &[0; 4], &first[8..]].into_iter().chain(rest);
        (crc32c_of(parts) == header.le32(4)).then_some(entry)
    }

    /// How many sectors the header and the descriptors take.
    fn table(&self) -> usize {
        (self.descriptors + IN_HEADER).div_ceil(IN_SECTOR)
    }

    /// What its descriptors ask for; `None` once for one that cannot be.
    fn changes<'a>(&self, ring: &'a Ring) -> impl Iterator<Item = Option<Change<'a>>> {
        let (start, sectors, sequence) = (self.start, self.sectors, self.sequence);
        let mut next = self.table();
        (IN_HEADER..IN_HEADER + self.descriptors).map(move |place| {
            let sector = ring.sector(start + place / IN_SECTOR);
            let descriptor = Header(&sector[place % IN_SECTOR * DESCRIPTOR..][..DESCRIPTOR]);
            let at = Some(descriptor.le64(16)).filter(|at| at.is_multiple_of(SECTOR as u64))?;
            if descriptor.le64(24) != sequence {
                return None;
            }
            if descriptor.is(0, b"zero") {
                let length = Some(descriptor.le64(8)).filter(|long| long.is_multiple_of(SECTOR as u64))?;
                return Some(Change::Zero { start: at, end: at.checked_add(length)? });
            }
            let sector = ring.sector(start + next);
            let data = Header(sector);
            next += 1;
            let whole = u64::from(data.le32(4)) << 32 | u64::from(data.le32(SECTOR - 4)) == sequence;
            at.checked_add(SECTOR as u64)?;
            (descriptor.is(0, b"desc") && next <= sectors && data.is(0, b"data") && whole)
                .then_some(Change::Data { start: at, descriptor, sector })
        })
    }

    /// Adds what it asks for to `changes`.
    pub fn carry_out(&self, ring: &Ring, changes: &mut Changes) {
        for change in self.changes(ring).flatten() {
            match change {
                Change::Zero { start, end } => changes.zero(start, end),
                Change::Data { start, descriptor, sector } => {
                    // What its signature and its number stand in the place of.
                    let mut bytes = *sector;
                    bytes[..8].copy_from_slice(&descriptor.0[8..16]);
                    bytes[SECTOR - 4..].copy_from_slice(&descriptor.0[4..8]);
                    changes.data(start, &bytes);
                }
            }
        }
    }
}
