//! VirtualBox's VDI 1.1, growing.

use super::output::Output;
use super::table::Table;
use super::{sectors, unfit};
use crate::copy::{Told, data_runs, in_order};
use crate::{Format, ReadImage, Result};

const BLOCK: u64 = 1 << 20;
/// Where the table is, and what the data is aligned to.
const ALIGN: u64 = 1 << 20;
const VERSION: u32 = 0x0001_0001;
const SIGNATURE: u32 = 0xbeda_107f;
const GROWING: u32 = 1;
/// Length of the header behind the signature.
const HEADER: u32 = 400;

pub fn write(image: &dyn ReadImage, out: &Output, told: Told<'_>) -> Result<()> {
    let size = sectors(image) * 512;
    let blocks = size.div_ceil(BLOCK);
    let data = ALIGN + (blocks * 4).next_multiple_of(ALIGN);
    if u32::try_from(data).is_err() || blocks > 0xffff_fff0 {
        return Err(unfit(Format::Vdi, image, "its table has no room for so many blocks"));
    }
    let mut table = Table::new(out, ALIGN, 0xff);
    let mut used = 0_u32;
    let work = |_: u64, bytes: &[u8]| {
        let blocks = data_runs(bytes, BLOCK as usize);
        Ok(blocks.map(|(at, run)| (at as u64, run.to_vec())).collect::<Vec<_>>())
    };
    in_order(image, told, work, |offset, runs| {
        for (at, run) in runs {
            let first = (offset + at) / BLOCK;
            for (number, block) in run.chunks(BLOCK as usize).enumerate() {
                table.set((first + number as u64) * 4, &used.to_le_bytes())?;
                // Zeros within a block need no place on the host.
                for (within, part) in data_runs(block, 4096) {
                    out.write_at(part, data + u64::from(used) * BLOCK + within as u64)?;
                }
                used += 1;
            }
        }
        Ok(())
    })?;
    table.finish(blocks * 4)?;
    out.set_length(data + u64::from(used) * BLOCK)?;
    let mut header = [0; 512];
    let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"<<< Oracle VM VirtualBox Disk Image >>>\n");
    put(0x40, &SIGNATURE.to_le_bytes());
    put(0x44, &VERSION.to_le_bytes());
    put(0x48, &HEADER.to_le_bytes());
    put(0x4c, &GROWING.to_le_bytes());
    put(0x154, &(ALIGN as u32).to_le_bytes());
    put(0x158, &(data as u32).to_le_bytes());
    put(0x168, &512_u32.to_le_bytes());
    put(0x170, &size.to_le_bytes());
    put(0x178, &(BLOCK as u32).to_le_bytes());
    put(0x180, &(blocks as u32).to_le_bytes());
    put(0x184, &used.to_le_bytes());
    put(0x188, &uuid::Uuid::new_v4().to_bytes_le());
    put(0x198, &uuid::Uuid::new_v4().to_bytes_le());
    out.write_at(&header, 0)
}
