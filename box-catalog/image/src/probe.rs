//! Telling formats by their content.

use std::fmt;

use crate::{Result, Storage};

/// How many bytes of the start of a file [`probe`] wants to see.
pub const ENOUGH: usize = 4096;

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// The disk's bytes as they are.
    Raw,
    /// QEMU's copy-on-write format, versions 2 and 3.
    Qcow2,
    /// VMware's, in one or several files.
    Vmdk,
    /// VirtualBox's.
    Vdi,
    /// Virtual PC's and older Hyper-V's.
    Vhd,
    /// Hyper-V's.
    Vhdx,
    /// Parallels'.
    Parallels,
    /// A machine in an archive, as the Open Virtualization Format has it.
    Ova,
    /// A machine in an archive, as XenServer and XCP-ng export it.
    Xva,
}

impl Format {
    /// As it is written and read on command lines.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
            Self::Vmdk => "vmdk",
            Self::Vdi => "vdi",
            Self::Vhd => "vhd",
            Self::Vhdx => "vhdx",
            Self::Parallels => "parallels",
            Self::Ova => "ova",
            Self::Xva => "xva",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Tells which format a file has by its first [`ENOUGH`] bytes: `None` for raw images, archives, and VHDs of
/// fixed size, which only their end tells.
#[must_use]
pub fn probe(start: &[u8]) -> Option<Format> {
    const KNOWN: [(usize, &[u8], Format); 9] = [
        (0, b"QFI\xfb", Format::Qcow2),
        (0, b"KDMV", Format::Vmdk),
        // Those of ESX, which are named when they are opened.
        (0, b"COWD", Format::Vmdk),
        (0, b"\xbe\xba\xfe\xca\x00\x00\x00\x00", Format::Vmdk),
        (0, b"vhdxfile", Format::Vhdx),
        (0, b"conectix", Format::Vhd),
        (0x40, &[0x7f, 0x10, 0xda, 0xbe], Format::Vdi),
        (0, b"WithoutFreeSpace", Format::Parallels),
        (0, b"WithouFreSpacExt", Format::Parallels),
    ];
    let is = |at: usize, magic: &[u8]| start.get(at..).is_some_and(|rest| rest.starts_with(magic));
    let known = KNOWN.iter().find(|(at, magic, _)| is(*at, magic)).map(|(.., format)| *format);
    known.or_else(|| is_descriptor(start).then_some(Format::Vmdk))
}

/// Whether it is a VMDK's descriptor, which is text; its first line may be written in several ways.
fn is_descriptor(start: &[u8]) -> bool {
    const LINE: &[u8] = b"# disk descriptorfile";
    let text = start.trim_ascii_start();
    text.get(..LINE.len()).is_some_and(|line| line.eq_ignore_ascii_case(LINE))
}

/// The same with all of the file at hand; what is of no other format is raw.
pub(crate) fn probe_storage(storage: &Storage) -> Result<Format> {
    let start = storage.bytes(0, ENOUGH)?;
    if let Some(format) = probe(&start) {
        return Ok(format);
    }
    let end = storage.bytes(storage.length().saturating_sub(512), 512)?;
    Ok(if end.starts_with(b"conectix") { Format::Vhd } else { Format::Raw })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_told_apart_by_content() {
        let at = |at: usize, magic: &[u8]| {
            let mut start = vec![0; ENOUGH];
            start[at..at + magic.len()].copy_from_slice(magic);
            probe(&start)
        };
        assert_eq!(at(0, b"QFI\xfb"), Some(Format::Qcow2));
        assert_eq!(at(0, b"# Disk DescriptorFile\n"), Some(Format::Vmdk));
        assert_eq!(at(0, b"\n# Disk Descriptorfile\r\n"), Some(Format::Vmdk));
        assert_eq!(at(0x40, &[0x7f, 0x10, 0xda, 0xbe]), Some(Format::Vdi));
        assert_eq!(at(510, &[0x55, 0xaa]), None);
        assert_eq!(probe(b""), None);
        let mut vhd = vec![0; 4096];
        vhd[4096 - 512..][..8].copy_from_slice(b"conectix");
        assert_eq!(probe_storage(&Storage::memory(vhd)).unwrap(), Format::Vhd);
        assert_eq!(probe_storage(&Storage::memory(vec![])).unwrap(), Format::Raw);
    }
}
