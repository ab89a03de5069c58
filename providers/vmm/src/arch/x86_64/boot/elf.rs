//! A kernel as an ELF file (System V ABI, "Object Files"), as far as loading it needs.

use std::ops::Range;

use super::{BootError, Source, read_at};

/// Size of the file's and of a program's header, 64-bit class.
const FILE_HEADER: usize = 64;
const PROGRAM_HEADER: usize = 56;
const SECTION_HEADER: u64 = 64;
/// More programs than any kernel has.
const MAX_PROGRAMS: u16 = 64;
/// More bytes of notes than any kernel has.
const MAX_NOTES: u64 = 64 << 10;

const MACHINE_X86_64: u16 = 62;
const MACHINE_386: u16 = 3;
const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
const PT_INTERP: u32 = 3;
const PT_TLS: u32 = 7;
const PT_NOTE: u32 = 4;
/// The note that holds PVH's entry point, of the name "Xen" (Xen, public/elfnote.h).
const XEN_ELFNOTE_PHYS32_ENTRY: u32 = 18;

/// A part of the file that is loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Where it is in the file.
    pub file: Range<u64>,
    /// Where it is linked to be in physical memory; zeros follow what the file has.
    pub memory: Range<u64>,
}

/// A kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Elf {
    /// Physical address of its entry point.
    pub entry: u64,
    /// Physical address of its 32-bit PVH entry point.
    pub pvh_entry: Option<u32>,
    /// What is loaded; never empty.
    pub segments: Vec<Segment>,
    /// The physical memory it is linked to take.
    pub memory: Range<u64>,
    /// Where the last byte lies that the file's headers speak of.
    pub end: u64,
}

/// Whether a file that begins so is an ELF file.
#[must_use]
pub fn is_elf(start: &[u8]) -> bool {
    start.starts_with(b"\x7fELF")
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

impl Elf {
    /// Reads the headers of a file of `length` bytes.
    ///
    /// # Errors
    /// [`BootError`] where it is no 64-bit x86 kernel, or cut off.
    pub fn read(source: &mut impl Source, length: u64) -> Result<Self, BootError> {
        let header = read_at(source, 0, FILE_HEADER)?;
        let machine = u16_at(&header, 18);
        match (header[4], header[5], machine) {
            (2, 1, MACHINE_X86_64) => {}
            (1, _, _) | (_, _, MACHINE_386) => return Err(BootError::Only32Bit),
            _ => return Err(BootError::ForeignMachine(machine)),
        }
        let (at, count) = (u64_at(&header, 32), u16_at(&header, 56));
        if usize::from(u16_at(&header, 54)) != PROGRAM_HEADER || count == 0 || count > MAX_PROGRAMS {
            return Err(BootError::BadElf("it has no program headers of the known form"));
        }
        let programs = read_at(source, at, usize::from(count) * PROGRAM_HEADER)?;
        let mut end = at + programs.len() as u64;
        let (mut segments, mut pvh_entry, mut is_program) = (Vec::new(), None, false);
        for program in programs.chunks_exact(PROGRAM_HEADER) {
            let file = range(u64_at(program, 8), u64_at(program, 32))?;
            if file.end > length {
                return Err(BootError::Truncated);
            }
            end = end.max(file.end);
            match u32_at(program, 0) {
                PT_LOAD => {
                    let memory = range(u64_at(program, 24), u64_at(program, 40))?;
                    if file.end - file.start > memory.end - memory.start {
                        return Err(BootError::BadElf("a segment is larger in the file than in memory"));
                    }
                    if !memory.is_empty() {
                        segments.push(Segment { file, memory });
                    }
                }
                PT_NOTE if pvh_entry.is_none() && file.end - file.start <= MAX_NOTES => {
                    // The length is within the limit just looked at.
                    let notes = read_at(source, file.start, (file.end - file.start) as usize)?;
                    pvh_entry = find_pvh_entry(&notes);
                }
                PT_DYNAMIC | PT_INTERP | PT_TLS => is_program = true,
                _ => {}
            }
        }
        if is_program && pvh_entry.is_none() {
            return Err(BootError::BadElf("it is a program of an operating system, not a kernel"));
        }
        let memory = span(&segments).ok_or(BootError::BadElf("nothing of it is to be loaded"))?;
        let sections = range(u64_at(&header, 40), u64::from(u16_at(&header, 60)) * SECTION_HEADER)?;
        let entry = u64_at(&header, 24);
        if !memory.contains(&entry) && pvh_entry.is_none() {
            return Err(BootError::BadElf("its entry point is not a physical address inside of it"));
        }
        Ok(Self { entry, pvh_entry, segments, memory, end: end.max(sections.end) })
    }
}

fn range(start: u64, length: u64) -> Result<Range<u64>, BootError> {
    let end = start.checked_add(length).ok_or(BootError::BadElf("a part of it ends behind all addresses"))?;
    Ok(start..end)
}

fn span(segments: &[Segment]) -> Option<Range<u64>> {
    let start = segments.iter().map(|segment| segment.memory.start).min()?;
    let end = segments.iter().map(|segment| segment.memory.end).max()?;
    Some(start..end)
}

/// Looks through notes: three words (sizes of name and content, type), name and content padded to four bytes each.
fn find_pvh_entry(mut notes: &[u8]) -> Option<u32> {
    while let Some((header, rest)) = notes.split_at_checked(12) {
        let (name_size, size, kind) =
            (u32_at(header, 0) as usize, u32_at(header, 4) as usize, u32_at(header, 8));
        let (name, rest) = rest.split_at_checked(name_size.next_multiple_of(4))?;
        // The last one need not be padded.
        let content = rest.get(..size)?;
        if kind == XEN_ELFNOTE_PHYS32_ENTRY && name.starts_with(b"Xen\0") {
            return match size {
                4 => Some(u32_at(content, 0)),
                8 => u64_at(content, 0).try_into().ok(),
                _ => None,
            };
        }
        notes = rest.get(size.next_multiple_of(4)..)?;
    }
    None
}
