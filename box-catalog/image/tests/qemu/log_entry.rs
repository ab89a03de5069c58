//! Entries of a VHDX's log, written after MS-VHDX 2.3.1.

/// Bytes of a sector of the log.
pub const SECTOR: usize = 4096;

/// What is to be done to the file.
#[derive(Debug, Clone)]
pub enum Change {
    Zero { at: u64, length: u64 },
    Data { at: u64, bytes: Box<[u8; SECTOR]> },
}

/// An entry, but for what it asks for.
#[derive(Debug, Clone, Copy, Default)]
pub struct Entry {
    pub guid: [u8; 16],
    pub sequence: u64,
    /// Bytes from the log's start.
    pub tail: u32,
    pub flushed: u64,
    pub last: u64,
    /// Sectors behind it that belong to it and hold nothing.
    pub padding: usize,
}

impl Entry {
    pub fn bytes(&self, changes: &[Change]) -> Vec<u8> {
        let mut bytes = vec![0; ((64 + changes.len() * 32).div_ceil(SECTOR)) * SECTOR];
        let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
        let mut sectors = Vec::new();
        put(0, b"loge");
        put(12, &self.tail.to_le_bytes());
        put(16, &self.sequence.to_le_bytes());
        put(24, &(changes.len() as u32).to_le_bytes());
        put(32, &self.guid);
        put(48, &self.flushed.to_le_bytes());
        put(56, &self.last.to_le_bytes());
        for (number, change) in changes.iter().enumerate() {
            let place = 64 + number * 32;
            put(place + 24, &self.sequence.to_le_bytes());
            match change {
                Change::Zero { at, length } => {
                    put(place, b"zero");
                    put(place + 8, &length.to_le_bytes());
                    put(place + 16, &at.to_le_bytes());
                }
                Change::Data { at, bytes } => {
                    put(place, b"desc");
                    put(place + 4, &bytes[SECTOR - 4..]);
                    put(place + 8, &bytes[..8]);
                    put(place + 16, &at.to_le_bytes());
                    let (high, low) = ((self.sequence >> 32) as u32, self.sequence as u32);
                    sectors.extend(*b"data");
                    sectors.extend(high.to_le_bytes());
                    sectors.extend(&bytes[8..SECTOR - 4]);
                    sectors.extend(low.to_le_bytes());
                }
            }
        }
        bytes.extend(sectors);
        bytes.resize(bytes.len() + self.padding * SECTOR, 0);
        let length = (bytes.len() as u32).to_le_bytes();
        bytes[8..12].copy_from_slice(&length);
        seal(&mut bytes);
        bytes
    }
}

/// Writes the checksum into the bytes 4 to 7, as all structures of VHDX have it.
pub fn seal(bytes: &mut [u8]) {
    bytes[4..8].fill(0);
    let mut crc = !0_u32;
    for byte in &*bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
        }
    }
    bytes[4..8].copy_from_slice(&(!crc).to_le_bytes());
}

/// Puts entries behind each other into a log, the last sector of which the first one follows; `from` is the first one's sector.
pub fn put(log: &mut [u8], from: usize, entries: &[u8]) {
    let sectors = log.len() / SECTOR;
    for (number, sector) in entries.chunks(SECTOR).enumerate() {
        log[(from + number) % sectors * SECTOR..][..SECTOR].copy_from_slice(sector);
    }
}
