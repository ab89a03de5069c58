//! Hyper-V's VHDX (MS-VHDX), growing.

use uuid::Uuid;

use super::output::Output;
use super::table::Table;
use super::{sectors, unfit};
use crate::bytes::crc32c;
use crate::copy::{Told, data_runs, in_order};
use crate::read::vhdx_guid as guid;
use crate::{Format, MAX_DISK, ReadImage, Result};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const BLOCK: u64 = 2 * MIB;
const SECTOR: u64 = 512;
/// Data blocks between two entries for bitmaps (2.5).
const RATIO: u64 = (SECTOR << 23) / BLOCK;
const LOG: u64 = MIB;
const METADATA: u64 = 2 * MIB;
const BAT: u64 = 3 * MIB;
/// State of a block that is fully there.
const PRESENT: u64 = 6;

pub fn write(image: &dyn ReadImage, out: &Output, told: Told<'_>) -> Result<()> {
    let size = sectors(image) * SECTOR;
    if size > MAX_DISK || size == 0 {
        return Err(unfit(Format::Vhdx, image, "between 512 bytes and 64 TiB is what it can have"));
    }
    let blocks = size.div_ceil(BLOCK);
    let entries = blocks + (blocks - 1) / RATIO;
    let bat_length = (entries * 8).next_multiple_of(MIB);
    let mut table = Table::new(out, BAT, 0);
    let mut next = BAT + bat_length;
    let work = |_: u64, bytes: &[u8]| {
        Ok(data_runs(bytes, 4096).map(|(at, run)| (at as u64, run.to_vec())).collect::<Vec<_>>())
    };
    in_order(image, told, work, |offset, runs| {
        if runs.is_empty() {
            return Ok(());
        }
        // A piece is a block.
        let block = offset / BLOCK;
        table.set((block + block / RATIO) * 8, &(next | PRESENT).to_le_bytes())?;
        for (at, run) in runs {
            out.write_at(&run, next + at)?;
        }
        next += BLOCK;
        Ok(())
    })?;
    table.finish(entries * 8)?;
    out.set_length(next)?;
    let mut identifier = b"vhdxfile".to_vec();
    identifier.extend("Posada".encode_utf16().flat_map(u16::to_le_bytes));
    out.write_at(&identifier, 0)?;
    for (at, bytes) in structures(size, bat_length, Uuid::nil()) {
        out.write_at(&bytes, at)?;
    }
    Ok(())
}

/// All but the table of blocks and what it leads to, with their places in the file; `log` is what the entries of the log carry.
pub fn structures(size: u64, bat_length: u64, log: Uuid) -> [(u64, Vec<u8>); 5] {
    let regions = regions(bat_length);
    let ids = [Uuid::new_v4(), Uuid::new_v4(), log];
    [
        (192 * KIB, regions.clone()),
        (256 * KIB, regions),
        (METADATA, metadata(size)),
        (64 * KIB, header(1, ids)),
        (128 * KIB, header(2, ids)),
    ]
}

/// 2.2.2.
fn header(sequence: u64, ids: [Uuid; 3]) -> Vec<u8> {
    let mut bytes = vec![0; 4096];
    let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
    put(0, b"head");
    put(8, &sequence.to_le_bytes());
    for (number, id) in ids.iter().enumerate() {
        put(16 + number * 16, &id.to_bytes_le());
    }
    put(66, &1_u16.to_le_bytes());
    put(68, &(MIB as u32).to_le_bytes());
    put(72, &LOG.to_le_bytes());
    summed(bytes)
}

/// 2.2.3.
fn regions(bat_length: u64) -> Vec<u8> {
    let mut bytes = vec![0; 64 << 10];
    let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
    put(0, b"regi");
    put(8, &2_u32.to_le_bytes());
    for (at, id, place, length) in [(16, guid::BAT, BAT, bat_length), (48, guid::METADATA, METADATA, MIB)] {
        put(at, &Uuid::from_u128(id).to_bytes_le());
        put(at + 16, &place.to_le_bytes());
        put(at + 24, &(length as u32).to_le_bytes());
        put(at + 28, &1_u32.to_le_bytes());
    }
    summed(bytes)
}

/// 2.6.
fn metadata(size: u64) -> Vec<u8> {
    /// Of the disk, and required.
    const DISK: u32 = 2 | 4;
    const REQUIRED: u32 = 4;
    let items: [(u128, Vec<u8>, u32); 5] = [
        (guid::FILE_PARAMETERS, (BLOCK).to_le_bytes().to_vec(), REQUIRED),
        (guid::VIRTUAL_DISK_SIZE, size.to_le_bytes().to_vec(), DISK),
        (guid::LOGICAL_SECTOR_SIZE, (SECTOR as u32).to_le_bytes().to_vec(), DISK),
        (guid::PHYSICAL_SECTOR_SIZE, 4096_u32.to_le_bytes().to_vec(), DISK),
        (guid::VIRTUAL_DISK_ID, Uuid::new_v4().to_bytes_le().to_vec(), DISK),
    ];
    let mut bytes = vec![0; 65 << 10];
    let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
    put(0, b"metadata");
    put(10, &(items.len() as u16).to_le_bytes());
    let mut place = 64 << 10_u32;
    for (number, (id, value, flags)) in items.iter().enumerate() {
        let at = 32 + number * 32;
        put(at, &Uuid::from_u128(*id).to_bytes_le());
        put(at + 16, &u32::to_le_bytes(place));
        put(at + 20, &(value.len() as u32).to_le_bytes());
        put(at + 24, &flags.to_le_bytes());
        put(place as usize, value);
        place += value.len() as u32;
    }
    bytes
}

fn summed(mut bytes: Vec<u8>) -> Vec<u8> {
    let sum = crc32c(&bytes);
    bytes[4..8].copy_from_slice(&sum.to_le_bytes());
    bytes
}
