//! Hyper-V's VHDX (MS-VHDX). Numbers are little-endian.

mod entry;
mod log;

use super::blocks::{Blocks, Table, Width};
use super::mapped::Place;
use crate::bytes::{Header, crc32c};
use crate::error::{corrupt, unsupported};
use crate::pages::Pages;
use crate::{ImageError, Result, Storage};
use log::Log;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
/// Where the two headers are, and how long each is; and the two tables of regions (2.2).
const HEADERS: [u64; 2] = [64 * KIB, 128 * KIB];
const HEADER: usize = 4096;
const REGIONS: [u64; 2] = [192 * KIB, 256 * KIB];
const REGION_TABLE: usize = 64 << 10;
/// Most entries of either table (2.2.3, 2.6.1).
const MAX_ENTRIES: usize = 2047;

/// What regions and items of metadata are known by (2.2.3.2, 2.6.2), as they lie in the file.
pub mod guid {
    pub const BAT: u128 = 0x2dc27766_f623_4200_9d64_115e9bfd4a08;
    pub const METADATA: u128 = 0x8b7ca206_4790_4b9a_b8fe_575f050f886e;
    pub const FILE_PARAMETERS: u128 = 0xcaa16737_fa36_4d43_b3b6_33f0aa44e76b;
    pub const VIRTUAL_DISK_SIZE: u128 = 0x2fa54224_cd1b_4876_b211_5dbed83bf4b8;
    pub const VIRTUAL_DISK_ID: u128 = 0xbeca12ab_b2e6_4523_93ef_c309e000c746;
    pub const LOGICAL_SECTOR_SIZE: u128 = 0x8141bf1d_a96f_4709_ba47_f233a8faab5f;
    pub const PHYSICAL_SECTOR_SIZE: u128 = 0xcda348c7_445d_4471_9cc9_e9885251c556;
    pub const PARENT_LOCATOR: u128 = 0xa8d35f2d_b30b_454d_abf7_d3d84834ab0c;
}

pub fn open(storage: Storage) -> Result<Blocks> {
    let storage = match current_log(&storage)? {
        Some(log) => log::replay(storage, &log)?,
        None => storage,
    };
    let (bat, metadata) = regions(&storage)?;
    let facts = metadata_of(&storage, metadata)?;
    if facts.differencing {
        return Err(ImageError::Differences(String::new()));
    }
    let table = Table {
        size: facts.size,
        block: facts.block,
        at: bat.at,
        entries: bat.length / 8,
        width: Width::Le64,
        ratio: (facts.sector << 23) / facts.block,
    };
    // 2.5.1.1: not there, undefined, zero, unmapped; fully there.
    let meaning = |entry: u64| {
        Ok(match entry & 7 {
            0..=3 => Place::Zero,
            6 => Place::Plain { file: 0, at: entry & !(MIB - 1) },
            other => return Err(corrupt(format!("a block has the impossible state {other}"))),
        })
    };
    Blocks::new(Pages::new(storage), &table, Box::new(meaning))
}

#[derive(Debug, Clone, Copy)]
struct Region {
    at: u64,
    length: u64,
}

/// The log that the newer one of the headers that are sound tells of, if it is not empty.
fn current_log(storage: &Storage) -> Result<Option<Log>> {
    let mut newest: Option<(u64, Log)> = None;
    for at in HEADERS {
        let mut bytes = storage.bytes(at, HEADER)?;
        if bytes.len() < HEADER {
            return Err(ImageError::Truncated("its headers are not there".to_owned()));
        }
        if !bytes.starts_with(b"head") || !checksum_holds(&mut bytes) {
            continue;
        }
        let header = Header(&bytes);
        if header.le16(66) != 1 {
            return Err(unsupported(format!("version {} of VHDX", header.le16(66))));
        }
        let guid = bytes[48..].first_chunk().copied().unwrap_or_default();
        let (version, length, at) = (header.le16(64), u64::from(header.le32(68)), header.le64(72));
        if newest.is_none_or(|(sequence, _)| header.le64(8) > sequence) {
            newest = Some((header.le64(8), Log { guid, version, at, length }));
        }
    }
    let (_, log) = newest.ok_or_else(|| corrupt("neither of its headers is sound"))?;
    Ok(Some(log).filter(|log| log.guid != [0; 16] && log.length != 0))
}

fn checksum_holds(bytes: &mut [u8]) -> bool {
    let said = Header(bytes).le32(4);
    bytes[4..8].fill(0);
    crc32c(bytes) == said
}

fn regions(storage: &Storage) -> Result<(Region, Region)> {
    for at in REGIONS {
        let mut bytes = storage.bytes(at, REGION_TABLE)?;
        if bytes.len() < REGION_TABLE || !bytes.starts_with(b"regi") || !checksum_holds(&mut bytes) {
            continue;
        }
        let table = Header(&bytes);
        let (mut bat, mut metadata) = (None, None);
        for number in 0..(table.le32(8) as usize).min(MAX_ENTRIES) {
            let entry = 16 + number * 32;
            let region = Region { at: table.le64(entry + 16), length: u64::from(table.le32(entry + 24)) };
            match guid_at(table, entry) {
                guid::BAT => bat = Some(region),
                guid::METADATA => metadata = Some(region),
                _ if table.le32(entry + 28) & 1 == 1 => {
                    return Err(unsupported("a region that is not known"));
                }
                _ => {}
            }
        }
        let missing = || corrupt("its table of regions lacks one that is required");
        return Ok((bat.ok_or_else(missing)?, metadata.ok_or_else(missing)?));
    }
    Err(corrupt("neither of its tables of regions is sound"))
}

/// A GUID's first three fields are little-endian, the rest is in order.
fn guid_at(header: Header<'_>, at: usize) -> u128 {
    let bytes = header.0.get(at..at + 16).and_then(|bytes| bytes.try_into().ok()).unwrap_or([0; 16]);
    uuid::Uuid::from_bytes_le(bytes).as_u128()
}

struct Facts {
    size: u64,
    block: u64,
    sector: u64,
    differencing: bool,
}

fn metadata_of(storage: &Storage, region: Region) -> Result<Facts> {
    let bytes = storage.bytes(region.at, REGION_TABLE)?;
    let table = Header(&bytes);
    if !table.is(0, b"metadata") {
        return Err(corrupt("its metadata cannot be read"));
    }
    let (mut block, mut size, mut sector, mut differencing) = (None, None, None, false);
    for number in 0..usize::from(table.le16(10)).min(MAX_ENTRIES) {
        let entry = 32 + number * 32;
        let at = u64::from(table.le32(entry + 16));
        let item = storage.bytes(region.at.saturating_add(at), 8)?;
        let item = Header(&item);
        match guid_at(table, entry) {
            guid::FILE_PARAMETERS => {
                block = Some(u64::from(item.le32(0)));
                differencing |= item.le32(4) & 2 != 0;
            }
            guid::VIRTUAL_DISK_SIZE => size = Some(item.le64(0)),
            guid::LOGICAL_SECTOR_SIZE => sector = Some(u64::from(item.le32(0))),
            guid::PARENT_LOCATOR => differencing = true,
            guid::VIRTUAL_DISK_ID | guid::PHYSICAL_SECTOR_SIZE => {}
            _ if table.le32(entry + 24) & 4 != 0 => {
                return Err(unsupported("an item of metadata that is not known"));
            }
            _ => {}
        }
    }
    let missing = || corrupt("its metadata lacks what is required");
    let facts = Facts {
        size: size.ok_or_else(missing)?,
        block: block.ok_or_else(missing)?,
        sector: sector.ok_or_else(missing)?,
        differencing,
    };
    if !facts.block.is_power_of_two() || !(MIB..=256 * MIB).contains(&facts.block) {
        return Err(corrupt(format!("its blocks have the impossible size of {} bytes", facts.block)));
    }
    if ![512, 4096].contains(&facts.sector) {
        return Err(corrupt(format!("its sectors have the impossible size of {} bytes", facts.sector)));
    }
    Ok(facts)
}
