//! One request: what the driver's chain of buffers says (virtio 1.2, section 5.2.6), checked in all its limits.

use std::io;
use std::sync::Arc;

use vm_memory::{Bytes, GuestAddress};

use crate::block::{Buffers, Image};
use crate::memory::GuestRam;
use crate::virtio::queue::Chain;

/// Bytes of a sector, whatever the disk's own are.
pub(super) const SECTOR: u64 = 512;
/// Bytes of the serial number.
pub(super) const SERIAL: usize = 20;
/// The most ranges of one discard or write-zeroes request, and the most sectors of each (1 GiB).
pub(super) const MAX_RANGES: u32 = 32;
pub(super) const MAX_RANGE_SECTORS: u32 = 1 << 21;

const HEADER: usize = 16;
const RANGE: usize = 16;
const UNMAP: u32 = 1;

const IN: u32 = 0;
const OUT: u32 = 1;
const FLUSH: u32 = 4;
const GET_ID: u32 = 8;
const DISCARD: u32 = 11;
const WRITE_ZEROES: u32 = 13;

/// How a request came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Status {
    Ok = 0,
    IoError = 1,
    Unsupported = 2,
}

/// A part of the disk, in bytes; it lies in the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Range {
    pub start: u64,
    pub len: u64,
    pub unmap: bool,
}

/// What the driver wants.
#[derive(Debug)]
pub(super) enum Command {
    Read(u64, Buffers),
    Write(u64, Buffers),
    Flush,
    GetId(Buffers),
    Discard(Vec<Range>),
    WriteZeroes(Vec<Range>),
    /// It cannot be done, and why.
    Refused(Status),
}

/// A request, ready to be carried out.
#[derive(Debug)]
pub(super) struct Request {
    /// The number of its chain.
    pub head: u16,
    pub command: Command,
    /// Where the status goes; `None` where the driver has left no room for it.
    pub status: Option<GuestAddress>,
}

/// What the device is, as far as requests must know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limits {
    /// Bytes of the disk.
    pub size: u64,
    pub read_only: bool,
}

/// The parts of a chain, those to read and those to write.
struct Parts {
    readable: Vec<(GuestAddress, u32)>,
    writable: Vec<(GuestAddress, u32)>,
}

impl Request {
    /// Reads a chain.
    pub fn parse(ram: &Arc<GuestRam>, chain: Chain, limits: Limits) -> Self {
        let head = chain.head_index();
        let Some(mut parts) = Parts::of(chain) else {
            return Self { head, command: Command::Refused(Status::IoError), status: None };
        };
        let status = take_last(&mut parts.writable);
        let command = Command::parse(ram, &parts, limits).unwrap_or_else(Command::Refused);
        Self { head, command, status }
    }
}

impl Parts {
    /// `None` where the chain breaks off or has its parts in the wrong order.
    fn of(chain: Chain) -> Option<Self> {
        let mut parts = Self { readable: Vec::new(), writable: Vec::new() };
        let mut ended = false;
        for descriptor in chain {
            ended = !descriptor.has_next();
            let part = (descriptor.addr(), descriptor.len());
            if descriptor.is_write_only() {
                parts.writable.push(part);
            } else if parts.writable.is_empty() {
                parts.readable.push(part);
            } else {
                return None;
            }
        }
        ended.then_some(parts)
    }
}

/// Takes the last byte away, which is the status.
fn take_last(parts: &mut Vec<(GuestAddress, u32)>) -> Option<GuestAddress> {
    while let Some((address, len)) = parts.last_mut() {
        if let Some(rest) = len.checked_sub(1) {
            *len = rest;
            let last = GuestAddress(address.0.checked_add(u64::from(rest))?);
            if rest == 0 {
                parts.pop();
            }
            return Some(last);
        }
        parts.pop();
    }
    None
}

impl Command {
    fn parse(ram: &Arc<GuestRam>, parts: &Parts, limits: Limits) -> Result<Self, Status> {
        let readable = Buffers::guest(ram, &parts.readable).ok_or(Status::IoError)?;
        let writable = Buffers::guest(ram, &parts.writable).ok_or(Status::IoError)?;
        if readable.len() < HEADER {
            return Err(Status::IoError);
        }
        let header = readable.slice(0, HEADER).to_vec();
        let (kind, sector) = (le32(&header, 0), le64(&header, 8));
        let out = readable.slice(HEADER, usize::MAX);
        match kind {
            IN => Ok(Self::Read(within(limits, sector, writable.len())?, writable)),
            OUT => {
                let start = within(limits, sector, out.len())?;
                writes(limits)?;
                Ok(Self::Write(start, out))
            }
            FLUSH => Ok(Self::Flush),
            GET_ID if writable.len() >= SERIAL => Ok(Self::GetId(writable.slice(0, SERIAL))),
            GET_ID => Err(Status::IoError),
            DISCARD => Ok(Self::Discard(ranges(&out, limits, 0)?)),
            WRITE_ZEROES => Ok(Self::WriteZeroes(ranges(&out, limits, UNMAP)?)),
            _ => Err(Status::Unsupported),
        }
    }

    /// The bytes that are written to the driver's buffers where all goes well, without the status.
    pub fn written(&self) -> u32 {
        match self {
            Self::Read(_, buffers) | Self::GetId(buffers) => u32::try_from(buffers.len()).unwrap_or(u32::MAX),
            _ => 0,
        }
    }
}

fn writes(limits: Limits) -> Result<(), Status> {
    if limits.read_only { Err(Status::IoError) } else { Ok(()) }
}

/// Where a transfer of `len` bytes from `sector` begins, if it lies in the disk and is of whole sectors.
fn within(limits: Limits, sector: u64, len: usize) -> Result<u64, Status> {
    let len = len as u64;
    let start = sector.checked_mul(SECTOR).ok_or(Status::IoError)?;
    let end = start.checked_add(len).ok_or(Status::IoError)?;
    if len.is_multiple_of(SECTOR) && end <= limits.size { Ok(start) } else { Err(Status::IoError) }
}

/// The ranges of a discard or write-zeroes request (virtio 1.2, section 5.2.6.2), with no flags but `allowed`.
fn ranges(out: &Buffers, limits: Limits, allowed: u32) -> Result<Vec<Range>, Status> {
    if out.is_empty() || !out.len().is_multiple_of(RANGE) || out.len() / RANGE > MAX_RANGES as usize {
        return Err(Status::IoError);
    }
    let mut ranges = Vec::with_capacity(out.len() / RANGE);
    for range in out.to_vec().chunks_exact(RANGE) {
        let (sector, sectors, flags) = (le64(range, 0), le32(range, 8), le32(range, 12));
        if flags & !allowed != 0 {
            return Err(Status::Unsupported);
        }
        if sectors > MAX_RANGE_SECTORS {
            return Err(Status::IoError);
        }
        let len = u64::from(sectors) * SECTOR;
        let start = within(limits, sector, len as usize)?;
        if len > 0 {
            ranges.push(Range { start, len, unmap: flags & UNMAP != 0 });
        }
    }
    writes(limits)?;
    Ok(ranges)
}

fn le32(bytes: &[u8], at: usize) -> u32 {
    bytes[at..].first_chunk().map_or(0, |field| u32::from_le_bytes(*field))
}

fn le64(bytes: &[u8], at: usize) -> u64 {
    bytes[at..].first_chunk().map_or(0, |field| u64::from_le_bytes(*field))
}

/// What has become of a request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Outcome {
    pub head: u16,
    /// Bytes written to the driver's buffers.
    pub written: u32,
}

impl Request {
    /// Carries it out. With `through`, what it writes is durable when it ends.
    pub async fn perform(
        self,
        ram: Arc<GuestRam>,
        image: Arc<Image>,
        serial: [u8; SERIAL],
        through: bool,
    ) -> Outcome {
        let (status, written) = match self.command.perform(&image, serial, through).await {
            Ok(()) => (Status::Ok, self.command.written()),
            Err(status) => (status, 0),
        };
        let told = self.status.is_some_and(|address| ram.write_obj(status as u8, address).is_ok());
        Outcome { head: self.head, written: if told { written.saturating_add(1) } else { 0 } }
    }
}

impl Command {
    async fn perform(&self, image: &Image, serial: [u8; SERIAL], through: bool) -> Result<(), Status> {
        let result = match self {
            Self::Refused(status) => return Err(*status),
            Self::Read(start, buffers) => return done(image.read(*start, buffers).await),
            Self::Flush => return done(image.flush().await),
            Self::GetId(buffers) => {
                buffers.fill(&serial);
                return Ok(());
            }
            Self::Write(start, buffers) => image.write(*start, buffers).await,
            Self::Discard(ranges) => {
                let mut result = Ok(());
                for range in ranges {
                    result = result.and(image.discard(range.start, range.len).await);
                }
                result
            }
            Self::WriteZeroes(ranges) => {
                let mut result = Ok(());
                for range in ranges {
                    result = result.and(image.write_zeroes(range.start, range.len, range.unmap).await);
                }
                result
            }
        };
        done(result)?;
        if through { done(image.flush().await) } else { Ok(()) }
    }
}

fn done(result: io::Result<()>) -> Result<(), Status> {
    result.map_err(|_| Status::IoError)
}
