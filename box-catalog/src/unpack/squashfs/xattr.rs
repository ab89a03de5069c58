//! Extended attributes.

use super::Source;
use super::blocks::{Blocks, Cursor};
use super::corrupt;
use super::superblock::{NONE, Superblock};
use crate::unpack::refusal::Refusal;

/// Most attributes of one file, and most bytes of them: what Linux lets a file have of each.
const MAX_COUNT: u32 = 1000;
const MAX_VALUE: u32 = 64 << 10;
const MAX_BYTES: usize = 1 << 20;
/// What names begin with, by the numbers that stand for it.
const PREFIXES: [&[u8]; 3] = [b"user.", b"trusted.", b"security."];
/// In a kind: the value is elsewhere.
const ELSEWHERE: u16 = 0x100;

/// Names and values.
pub type Attributes = Vec<(Vec<u8>, Vec<u8>)>;

/// The attributes under `index`, of the file at `path`.
pub fn read<S: Source>(
    blocks: &Blocks<S>,
    superblock: &Superblock,
    index: u32,
    path: &[u8],
) -> Result<Attributes, Refusal> {
    let table = superblock.xattr_table;
    if table == NONE {
        return Err(Refusal::absurd(path, "extended attributes in a table that is not there"));
    }
    let head: [u8; 16] = blocks.bytes(table)?;
    let values = u64::from_le_bytes([head[0], head[1], head[2], head[3], head[4], head[5], head[6], head[7]]);
    let known = u32::from_le_bytes([head[8], head[9], head[10], head[11]]);
    if index >= known {
        return Err(Refusal::absurd(path, "extended attributes that are in no table"));
    }
    let mut entry = blocks.entry(table + head.len() as u64, index, 16)?;
    let (reference, count) = (entry.u64()?, entry.u32()?);
    if count > MAX_COUNT {
        return Err(Refusal::absurd(path, format!("{count} extended attributes")));
    }
    let mut from = Cursor::of(blocks, values, reference)?;
    let (mut found, mut bytes) = (Vec::new(), 0);
    for _ in 0..count {
        let (kind, length) = (from.u16()?, from.u16()?);
        let prefix = PREFIXES.get(usize::from(kind & 0xff));
        let prefix =
            prefix.ok_or_else(|| corrupt(format!("an extended attribute of the unknown kind {kind}")))?;
        let name = [prefix, &from.vec(length.into())?[..]].concat();
        let size = from.u32()?;
        let value = match kind & ELSEWHERE {
            0 => value(&mut from, size)?,
            _ => {
                let mut there = Cursor::of(blocks, values, from.u64()?)?;
                let size = there.u32()?;
                value(&mut there, size)?
            }
        };
        bytes += name.len() + value.len();
        if bytes > MAX_BYTES {
            return Err(Refusal::absurd(path, "extended attributes that are too large"));
        }
        found.push((name, value));
    }
    Ok(found)
}

fn value<S: Source>(from: &mut Cursor<'_, S>, size: u32) -> Result<Vec<u8>, Refusal> {
    if size > MAX_VALUE {
        return Err(corrupt(format!("an extended attribute of {size} bytes")));
    }
    from.vec(size as usize)
}
