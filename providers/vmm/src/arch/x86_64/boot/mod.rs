//! Starting a kernel: where it, its initial RAM disk and its command line go, and what it is told.
//!
//! A bzImage is unpacked here, as that takes a guest much longer, and the kernel proper is entered directly:
//! ```text
//!   bzImage ──unpack──► ELF + relocations ──► 64-bit entry, randomized here unless the command line says `nokaslr`
//!      └── of unknown compression ──────────► its own decompressor, by the 64-bit boot protocol
//!   ELF     ── with relocations ────────────► as above
//!      ├── with a PVH note ─────────────────► PVH entry
//!      └── else ────────────────────────────► 64-bit entry
//! ```

mod bzimage;
mod codec;
mod elf;
mod initramfs;
mod kaslr;
mod lz4;
mod params;
mod pvh;

use std::io::{self, Cursor, Read, Seek, SeekFrom};
use std::ops::Range;

use fs_err::File;
use rustix::rand::{GetRandomFlags, getrandom};
use vm_memory::{Bytes, GuestAddress, GuestMemoryError, ReadVolatile};

pub use bzimage::{UnpackError, unpack_kernel};
pub use codec::CodecError;
pub use initramfs::{MAX_INITRD, unpack_initrd};

use super::layout::{self, Layout};
use crate::config;
use crate::memory::GuestRam;
use bzimage::BzImage;
use elf::Elf;
use kaslr::{Placement, Relocations};

/// Where the first processor begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// In 64-bit mode, by Linux's boot protocol.
    Linux64 {
        /// The entry point.
        rip: u64,
        /// Where the `boot_params` are.
        boot_params: u64,
    },
    /// In 32-bit protected mode, by PVH.
    Pvh {
        /// The entry point.
        rip: u32,
        /// Where the `hvm_start_info` is.
        start_info: u64,
    },
}

/// What was loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// Where to begin.
    pub entry: Entry,
    /// The memory that the kernel takes, at first.
    pub kernel: Range<u64>,
    /// Where the initial RAM disk is.
    pub initrd: Option<Range<u64>>,
}

/// Why a kernel cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// A file cannot be opened or read.
    #[error("a file cannot be read")]
    Read(#[from] io::Error),
    /// The kernel is none, or cannot be unpacked.
    #[error("the kernel cannot be used")]
    Unpack(#[from] UnpackError),
    /// The kernel ends early.
    #[error("the kernel's file ends before the kernel does; it may not have been copied completely")]
    Truncated,
    /// The kernel is for 32 bits.
    #[error("the kernel is one for 32-bit processors; a 64-bit one is needed")]
    Only32Bit,
    /// The kernel is for another processor.
    #[error("the kernel is for other processors than x86_64 (ELF machine {0})")]
    ForeignMachine(u16),
    /// The kernel's ELF headers make no sense.
    #[error("the kernel's ELF file is malformed: {0}")]
    BadElf(&'static str),
    /// The kernel's file is larger than any kernel's.
    #[error("the kernel's file has {0} bytes, more than any kernel")]
    FileTooLarge(u64),
    /// The kernel does not fit.
    #[error(
        "the kernel needs the memory from {:#x} to {:#x}, but there is room up to {room:#x} only; give the machine more memory",
        .needed.start, .needed.end
    )]
    KernelTooLarge {
        /// What it needs, physical addresses.
        needed: Range<u64>,
        /// Where its room ends.
        room: u64,
    },
    /// The initial RAM disk does not fit.
    #[error(
        "the initial RAM disk of {size} bytes does not fit below {room:#x}; give the machine more memory"
    )]
    InitrdTooLarge {
        /// Its size.
        size: u64,
        /// Where its room ends.
        room: u64,
    },
    /// The command line is too long.
    #[error("the kernel's command line has {length} bytes, and the kernel takes {most}")]
    CmdlineTooLong {
        /// Its length.
        length: usize,
        /// The kernel's limit.
        most: usize,
    },
    /// The command line has a zero byte, at which a kernel would stop reading.
    #[error("the kernel's command line has a zero byte in it")]
    CmdlineZero,
    /// Something has no place in the machine's memory.
    #[error("the machine's memory cannot be written")]
    Memory(#[from] GuestMemoryError),
}

/// A file to load from.
pub trait Source: Read + Seek + ReadVolatile {}

impl<T: Read + Seek + ReadVolatile> Source for T {}

/// What is to be started.
#[derive(Debug)]
pub struct Payload<'a, S> {
    /// A bzImage, or an ELF kernel (as [`unpack_kernel`] makes one).
    pub kernel: S,
    /// The initial RAM disk, as it is ([`unpack_initrd`] makes one that is faster).
    pub initrd: Option<S>,
    /// The command line.
    pub cmdline: &'a str,
}

/// The command line that Linux takes on x86, without its closing zero (`COMMAND_LINE_SIZE`).
const LINUX_CMDLINE: usize = 2047;
/// The highest address of an initial RAM disk for kernels that do not tell: what Linux tells.
const INITRD_MAX: u64 = 0x7fff_ffff;
/// The largest file that is taken for a kernel.
const MAX_FILE: u64 = 1 << 30;
const PAGE: u64 = 4096;

/// Loads what `boot` names; see [`load`].
///
/// # Errors
/// [`BootError`].
pub fn load_files(
    ram: &GuestRam,
    layout: &Layout,
    rsdp: u64,
    boot: &config::Boot,
) -> Result<Loaded, BootError> {
    let kernel = File::open(&boot.kernel)?.into_parts().0;
    let initrd =
        boot.initrd.as_ref().map(|path| io::Result::Ok(File::open(path)?.into_parts().0)).transpose()?;
    load(ram, layout, rsdp, Payload { kernel, initrd, cmdline: &boot.cmdline })
}

/// Loads a kernel and what belongs to it, and writes what it is told: the memory map and where the RSDP is.
///
/// # Errors
/// [`BootError`].
pub fn load<S: Source>(
    ram: &GuestRam,
    layout: &Layout,
    rsdp: u64,
    mut payload: Payload<'_, S>,
) -> Result<Loaded, BootError> {
    let length = length_of(&mut payload.kernel)?;
    if length > MAX_FILE {
        return Err(BootError::FileTooLarge(length));
    }
    let loader = Loader { ram, layout, rsdp, cmdline: payload.cmdline };
    let start = read_at(&mut payload.kernel, 0, bzimage::HEADER_END.min(length as usize))?;
    if elf::is_elf(&start) {
        return loader.elf(&mut payload.kernel, length, payload.initrd, INITRD_MAX);
    }
    if !bzimage::is_bzimage(&start) {
        return Err(UnpackError::NotAKernel.into());
    }
    let file = read_at(&mut payload.kernel, 0, length as usize)?;
    let image = BzImage::parse(&file)?;
    match image.unpack()? {
        Some(kernel) => {
            let length = kernel.len() as u64;
            loader.elf(&mut Cursor::new(kernel), length, payload.initrd, image.initrd_max())
        }
        None => loader.bzimage(&image, payload.initrd),
    }
}

struct Loader<'a> {
    ram: &'a GuestRam,
    layout: &'a Layout,
    rsdp: u64,
    cmdline: &'a str,
}

impl Loader<'_> {
    fn elf(
        &self,
        kernel: &mut impl Source,
        length: u64,
        initrd: Option<impl Source>,
        initrd_max: u64,
    ) -> Result<Loaded, BootError> {
        let elf = Elf::read(kernel, length)?;
        self.write_cmdline(LINUX_CMDLINE)?;
        let initrd = self.load_initrd(initrd, initrd_max)?;
        let room = initrd.as_ref().map_or(self.layout.low_ram_end(), |initrd| initrd.start);
        self.check_room(&elf.memory, room)?;
        let relocations = relocations(kernel, length, &elf)?;
        let wanted = !self.cmdline.split_ascii_whitespace().any(|word| word == "nokaslr");
        let mut place = Placement { physical: elf.memory.start, virtual_delta: 0 };
        if let (Some(_), true) = (&relocations, wanted) {
            // It fits where it was linked to, so there is at least that place.
            place = Placement::choose(&elf.memory, room, random()?).unwrap_or(place);
        }
        let shift = place.physical - elf.memory.start;
        for segment in &elf.segments {
            kernel.seek(SeekFrom::Start(segment.file.start))?;
            let (address, count) = (segment.memory.start + shift, segment.file.end - segment.file.start);
            self.ram.read_exact_volatile_from(GuestAddress(address), kernel, count as usize)?;
            self.clear(address + count..segment.memory.end + shift)?;
        }
        let memory = elf.memory.start + shift..elf.memory.end + shift;
        if let Some(relocations) = relocations.as_ref().filter(|_| wanted) {
            relocations.apply(self.ram, memory.start, memory.end - memory.start, place.virtual_delta)?;
        }
        match elf.pvh_entry.filter(|_| relocations.is_none()) {
            Some(rip) => {
                let entry = Entry::Pvh { rip, start_info: layout::PVH_INFO };
                let loaded = Loaded { entry, kernel: memory, initrd };
                pvh::write(self.ram, &loaded, &self.layout.areas(), self.rsdp)?;
                Ok(loaded)
            }
            None => {
                let randomized = relocations.is_some() && wanted;
                self.linux(elf.entry + shift, memory, initrd, None, randomized)
            }
        }
    }

    fn bzimage(&self, image: &BzImage<'_>, initrd: Option<impl Source>) -> Result<Loaded, BootError> {
        if !image.is_64_bit() {
            return Err(BootError::Only32Bit);
        }
        self.write_cmdline(image.cmdline_size())?;
        let initrd = self.load_initrd(initrd, image.initrd_max())?;
        let room = initrd.as_ref().map_or(self.layout.low_ram_end(), |initrd| initrd.start);
        let (start, size) = image.memory();
        let memory = start..start.saturating_add(size);
        self.check_room(&memory, room)?;
        self.ram.write_slice(image.protected, GuestAddress(start))?;
        // Its own decompressor randomizes.
        self.linux(start + bzimage::ENTRY_64, memory, initrd, Some(image.header), false)
    }

    fn linux(
        &self,
        rip: u64,
        kernel: Range<u64>,
        initrd: Option<Range<u64>>,
        header: Option<&[u8]>,
        randomized: bool,
    ) -> Result<Loaded, BootError> {
        let entry = Entry::Linux64 { rip, boot_params: layout::ZERO_PAGE };
        let loaded = Loaded { entry, kernel, initrd };
        let told = params::Told { header, randomized, areas: &self.layout.areas(), rsdp: self.rsdp };
        params::write(self.ram, &loaded, &told)?;
        Ok(loaded)
    }

    fn check_room(&self, needed: &Range<u64>, room: u64) -> Result<(), BootError> {
        if needed.start < layout::HIGH_MEMORY || needed.end > room {
            return Err(BootError::KernelTooLarge { needed: needed.clone(), room });
        }
        Ok(())
    }

    fn write_cmdline(&self, most: usize) -> Result<(), BootError> {
        let most = most.min(layout::CMDLINE_MAX - 1);
        let length = self.cmdline.len();
        if length > most {
            return Err(BootError::CmdlineTooLong { length, most });
        }
        if self.cmdline.contains('\0') {
            return Err(BootError::CmdlineZero);
        }
        self.ram.write_slice(self.cmdline.as_bytes(), GuestAddress(layout::CMDLINE))?;
        self.ram.write_obj(0u8, GuestAddress(layout::CMDLINE + length as u64))?;
        Ok(())
    }

    /// Puts it as high as it may be, out of the kernel's way.
    fn load_initrd(&self, initrd: Option<impl Source>, last: u64) -> Result<Option<Range<u64>>, BootError> {
        let Some(mut initrd) = initrd else { return Ok(None) };
        let size = length_of(&mut initrd)?;
        if size == 0 {
            return Ok(None);
        }
        let room = self.layout.low_ram_end().min(last.saturating_add(1));
        let start = room
            .checked_sub(size)
            .map(|start| start / PAGE * PAGE)
            .filter(|start| *start >= layout::HIGH_MEMORY)
            .ok_or(BootError::InitrdTooLarge { size, room })?;
        initrd.seek(SeekFrom::Start(0))?;
        self.ram.read_exact_volatile_from(GuestAddress(start), &mut initrd, size as usize)?;
        Ok(Some(start..start + size))
    }

    /// Zeroes memory. A machine's memory is zero at first; where it has been used before, it is not.
    fn clear(&self, range: Range<u64>) -> Result<(), BootError> {
        const ZEROS: [u8; 4096] = [0; 4096];
        let mut at = range.start;
        while at < range.end {
            let count = (range.end - at).min(PAGE) as usize;
            self.ram.write_slice(&ZEROS[..count], GuestAddress(at))?;
            at += count as u64;
        }
        Ok(())
    }
}

fn relocations(kernel: &mut impl Source, length: u64, elf: &Elf) -> Result<Option<Relocations>, BootError> {
    let size = length.saturating_sub(elf.end);
    if size == 0 || size > kaslr::MAX_TABLE {
        return Ok(None);
    }
    Ok(Relocations::parse(&read_at(kernel, elf.end, size as usize)?, elf))
}

fn random() -> io::Result<[u64; 2]> {
    let mut bytes = [0u8; 16];
    // So few bytes come whole or not at all.
    getrandom(&mut bytes, GetRandomFlags::empty())?;
    let number = u128::from_le_bytes(bytes);
    Ok([number as u64, (number >> 64) as u64])
}

fn length_of(source: &mut impl Source) -> io::Result<u64> {
    source.seek(SeekFrom::End(0))
}

fn read_at(source: &mut impl Source, at: u64, count: usize) -> Result<Vec<u8>, BootError> {
    let mut bytes = Vec::new();
    source.seek(SeekFrom::Start(at))?;
    // Grown as the file gives, so that a false size costs no memory.
    source.take(count as u64).read_to_end(&mut bytes)?;
    if bytes.len() < count {
        return Err(BootError::Truncated);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests;
