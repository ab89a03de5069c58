//! VMware's VMDK in one file ("Virtual Disk Format 5.0", VMware): one that machines run from, and one packed as a stream.

use flate2::{Compress, Compression, FlushCompress};

use super::output::Output;
use super::table::Table;
use super::{sectors, unfit};
use crate::copy::{Told, data_runs, in_order};
use crate::{Format, ImageError, ReadImage, Result};

const SECTOR: u64 = 512;
const GRAIN: u64 = 64 << 10;
/// Entries of a table, and its length.
const ENTRIES: u64 = 512;
const TABLE: u64 = ENTRIES * 4;
/// Where the descriptor is, and how long it may be, in sectors.
const DESCRIPTOR: (u64, u64) = (1, 20);
/// Places in the file are sectors of 32 bits.
const MAX_FILE: u64 = (1 << 41) - (1 << 30);
const AT_END: u64 = u64::MAX;

/// Of the header: how its places are, and what is where.
struct Layout {
    version: u32,
    flags: u32,
    redundant: u64,
    directory: u64,
    overhead: u64,
    packed: u16,
}

fn header(capacity: u64, layout: &Layout) -> [u8; 512] {
    let mut bytes = [0; 512];
    let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
    put(0, b"KDMV");
    put(4, &layout.version.to_le_bytes());
    put(8, &layout.flags.to_le_bytes());
    put(12, &capacity.to_le_bytes());
    put(20, &(GRAIN / SECTOR).to_le_bytes());
    put(28, &DESCRIPTOR.0.to_le_bytes());
    put(36, &DESCRIPTOR.1.to_le_bytes());
    put(44, &(ENTRIES as u32).to_le_bytes());
    put(48, &layout.redundant.to_le_bytes());
    put(56, &layout.directory.to_le_bytes());
    put(64, &layout.overhead.to_le_bytes());
    put(73, b"\n \r\n");
    put(77, &layout.packed.to_le_bytes());
    bytes
}

fn descriptor(capacity: u64, kind: &str, name: &str) -> String {
    let id = (uuid::Uuid::new_v4().as_u128() as u32) & 0x7fff_ffff;
    // A quote or an end of line would end the name.
    let name: String =
        name.chars().map(|c| if c == '"' || c.is_control() { '_' } else { c }).take(200).collect();
    let cylinders = (capacity / (255 * 63)).clamp(1, 65535);
    format!(
        "# Disk DescriptorFile\nversion=1\nCID={id:08x}\nparentCID=ffffffff\ncreateType=\"{kind}\"\n\n\
         # Extent description\nRW {capacity} SPARSE \"{name}.vmdk\"\n\n\
         # The Disk Data Base\n#DDB\n\nddb.virtualHWVersion = \"4\"\nddb.geometry.cylinders = \"{cylinders}\"\n\
         ddb.geometry.heads = \"255\"\nddb.geometry.sectors = \"63\"\nddb.adapterType = \"lsilogic\"\n"
    )
}

fn fits(image: &dyn ReadImage, used: u64) -> Result<()> {
    if used > MAX_FILE { Err(unfit(Format::Vmdk, image, "a VMDK holds 2 TiB at most")) } else { Ok(()) }
}

/// Grains in their places of the file, and all tables twice.
pub fn sparse(image: &dyn ReadImage, out: &Output, name: &str, told: Told<'_>) -> Result<()> {
    let capacity = sectors(image);
    let tables = (capacity * SECTOR).div_ceil(GRAIN * ENTRIES);
    let directory = (tables * 4).next_multiple_of(SECTOR);
    let first = (DESCRIPTOR.0 + DESCRIPTOR.1) * SECTOR;
    let second = first + directory + tables * TABLE;
    let data = (second + directory + tables * TABLE).next_multiple_of(GRAIN);
    fits(image, data)?;
    let mut maps = Vec::new();
    for at in [first, second] {
        let mut places = Table::new(out, at, 0);
        for table in 0..tables {
            places.set(table * 4, &(((at + directory + table * TABLE) / SECTOR) as u32).to_le_bytes())?;
        }
        places.finish(directory)?;
        maps.push(Table::new(out, at + directory, 0));
    }
    let mut next = data;
    let work = |_: u64, bytes: &[u8]| {
        Ok(data_runs(bytes, GRAIN as usize).map(|(at, run)| (at as u64, run.to_vec())).collect::<Vec<_>>())
    };
    in_order(image, told, work, |offset, runs| {
        for (at, run) in runs {
            out.write_at(&run, next)?;
            for grain in 0..(run.len() as u64).div_ceil(GRAIN) {
                let sector = ((next + grain * GRAIN) / SECTOR) as u32;
                for map in &mut maps {
                    map.set(((offset + at) / GRAIN + grain) * 4, &sector.to_le_bytes())?;
                }
            }
            next += (run.len() as u64).next_multiple_of(GRAIN);
            fits(image, next)?;
        }
        Ok(())
    })?;
    for map in maps {
        map.finish(tables * TABLE)?;
    }
    out.set_length(next)?;
    out.write_at(descriptor(capacity, "monolithicSparse", name).as_bytes(), DESCRIPTOR.0 * SECTOR)?;
    let layout = Layout {
        version: 1,
        flags: 0b11,
        redundant: first / SECTOR,
        directory: second / SECTOR,
        overhead: data / SECTOR,
        packed: 0,
    };
    out.write_at(&header(capacity, &layout), 0)
}

/// What stands before a part of a stream that is no grain.
#[derive(Clone, Copy)]
enum Marker {
    End = 0,
    Table = 1,
    Directory = 2,
    Footer = 3,
}

/// Each grain packed, the tables behind their grains, and the directory at the end; begins at `base` in the file.
/// Gives how long it is, bytes.
pub fn stream(image: &dyn ReadImage, out: &Output, base: u64, name: &str, told: Told<'_>) -> Result<u64> {
    let capacity = sectors(image);
    let mut layout =
        Layout { version: 3, flags: 0x3_0001, redundant: 0, directory: AT_END, overhead: 128, packed: 1 };
    let start = |layout: &Layout| header(capacity, layout);
    out.write_at(&start(&layout), base)?;
    let text = descriptor(capacity, "streamOptimized", name);
    out.write_at(text.as_bytes(), base + DESCRIPTOR.0 * SECTOR)?;
    let tables = (capacity * SECTOR).div_ceil(GRAIN * ENTRIES);
    let mut stream = Stream {
        out,
        base,
        next: layout.overhead * SECTOR,
        directory: vec![0; tables as usize],
        table: vec![0; ENTRIES as usize],
        number: 0,
    };
    in_order(image, told, pack, |_, grains| {
        grains.into_iter().try_for_each(|(grain, bytes)| stream.grain(grain, &bytes))?;
        fits(image, stream.next)
    })?;
    stream.end_table()?;
    stream.marker(Marker::Directory, (tables * 4).div_ceil(SECTOR))?;
    layout.directory = stream.next / SECTOR;
    let directory = le(&stream.directory);
    stream.append(&directory)?;
    stream.marker(Marker::Footer, 1)?;
    stream.append(&start(&layout))?;
    stream.marker(Marker::End, 0)?;
    out.set_length(base + stream.next)?;
    Ok(stream.next)
}

/// The grains of a piece that are not zeros, packed, each with its number.
fn pack(offset: u64, bytes: &[u8]) -> Result<Vec<(u64, Vec<u8>)>> {
    let mut packed = Vec::new();
    let mut deflate = Compress::new(Compression::new(6), true);
    for (at, run) in data_runs(bytes, GRAIN as usize) {
        for (number, grain) in run.chunks(GRAIN as usize).enumerate() {
            // The disk may end within it.
            let mut whole = grain.to_vec();
            whole.resize(GRAIN as usize, 0);
            let mut out = Vec::with_capacity(GRAIN as usize + 1024);
            deflate.reset();
            let done = deflate.compress_vec(&whole, &mut out, FlushCompress::Finish);
            match done {
                Ok(flate2::Status::StreamEnd) => {}
                _ => return Err(ImageError::Corrupt("a grain cannot be packed".to_owned())),
            }
            packed.push(((offset + at as u64) / GRAIN + number as u64, out));
        }
    }
    Ok(packed)
}

struct Stream<'a> {
    out: &'a Output,
    base: u64,
    /// Where what comes next goes.
    next: u64,
    directory: Vec<u32>,
    /// The table for the grains that come now.
    table: Vec<u32>,
    number: usize,
}

impl Stream<'_> {
    fn grain(&mut self, grain: u64, packed: &[u8]) -> Result<()> {
        let number = (grain / ENTRIES) as usize;
        if number != self.number {
            self.end_table()?;
            self.number = number;
        }
        self.table[(grain % ENTRIES) as usize] = (self.next / SECTOR) as u32;
        let mut bytes = (grain * (GRAIN / SECTOR)).to_le_bytes().to_vec();
        bytes.extend((packed.len() as u32).to_le_bytes());
        bytes.extend(packed);
        self.append(&bytes)
    }

    fn end_table(&mut self) -> Result<()> {
        if self.table.iter().any(|entry| *entry != 0) {
            self.marker(Marker::Table, TABLE / SECTOR)?;
            self.directory[self.number] = (self.next / SECTOR) as u32;
            let table = le(&self.table);
            self.append(&table)?;
            self.table.fill(0);
        }
        Ok(())
    }

    fn marker(&mut self, kind: Marker, sectors: u64) -> Result<()> {
        let mut bytes = sectors.to_le_bytes().to_vec();
        bytes.extend([0; 4]);
        bytes.extend((kind as u32).to_le_bytes());
        bytes.resize(SECTOR as usize, 0);
        self.append(&bytes)
    }

    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_at(bytes, self.base + self.next)?;
        self.next += (bytes.len() as u64).next_multiple_of(SECTOR);
        Ok(())
    }
}

fn le(entries: &[u32]) -> Vec<u8> {
    entries.iter().flat_map(|entry| entry.to_le_bytes()).collect()
}
