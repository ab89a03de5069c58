//! Telling formats by their first bytes.

use posada_provider_api::DiskFormat;

/// How many bytes of a file [`probe`] wants to see.
pub const ENOUGH: usize = 4096;

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// A disk image that can be read.
    Disk(DiskFormat),
    /// A disk image that cannot, by the name of its format.
    Foreign(&'static str),
}

/// Tells what a file is by its first [`ENOUGH`] bytes; `None` where they are those of no disk image. A raw image is
/// known by a partition table or by an ext4 file system that begins with it.
#[must_use]
pub fn probe(start: &[u8]) -> Option<Found> {
    const FOREIGN: [(usize, &[u8], &str); 7] = [
        (0, b"KDMV", "VMDK"),
        (0, b"# Disk DescriptorFile", "VMDK"),
        (0, b"vhdxfile", "VHDX"),
        (0, b"conectix", "VHD"),
        (0x40, &[0x7f, 0x10, 0xda, 0xbe], "VDI"),
        (0, b"QED\0", "QED"),
        (0, b"WithoutFreeSpace", "Parallels"),
    ];
    let is = |at: usize, magic: &[u8]| start.get(at..).is_some_and(|rest| rest.starts_with(magic));
    if is(0, b"QFI\xfb") {
        return Some(Found::Disk(DiskFormat::Qcow2));
    }
    if let Some((.., format)) = FOREIGN.iter().find(|(at, magic, _)| is(*at, magic)) {
        return Some(Found::Foreign(format));
    }
    let (boot_sector, gpt, ext4) =
        (is(510, &[0x55, 0xaa]), is(512, b"EFI PART"), is(1024 + 56, &[0x53, 0xef]));
    (boot_sector || gpt || ext4).then_some(Found::Disk(DiskFormat::Raw))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_told_apart() {
        let at = |at: usize, magic: &[u8]| {
            let mut start = vec![0; ENOUGH];
            start[at..at + magic.len()].copy_from_slice(magic);
            probe(&start)
        };
        assert_eq!(at(0, b"QFI\xfb"), Some(Found::Disk(DiskFormat::Qcow2)));
        for (place, magic) in [(510, &b"\x55\xaa"[..]), (512, b"EFI PART"), (1080, b"\x53\xef")] {
            assert_eq!(at(place, magic), Some(Found::Disk(DiskFormat::Raw)));
        }
        assert_eq!(at(0, b"KDMV"), Some(Found::Foreign("VMDK")));
        assert_eq!(at(0x40, &[0x7f, 0x10, 0xda, 0xbe]), Some(Found::Foreign("VDI")));
        for nothing in [&b""[..], b"QFI", &[0; ENOUGH], b"PK\x03\x04"] {
            assert_eq!(probe(nothing), None);
        }
    }
}
