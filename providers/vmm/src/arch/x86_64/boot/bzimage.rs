//! A kernel as a bzImage (Documentation/arch/x86/boot.rst): a real-mode part with the setup header, a decompressor, and
//! in that the kernel proper, compressed.

use super::codec::{Codec, CodecError};
use super::elf;
use super::params::{MAGIC, SETUP_HEADER};

/// The setup header's magic number.
const MAGIC_AT: usize = 0x202;
/// The least of a file that has all fields looked at here.
pub const HEADER_END: usize = 0x268;
/// The field `cmdline_size` came with 2.06, `payload_offset` with 2.08, `xloadflags` with 2.12.
const OLDEST: u16 = 0x206;
const PAYLOAD: u16 = 0x208;
const EXTENDED_FLAGS: u16 = 0x20c;
/// It can be entered in 64-bit mode.
const XLF_KERNEL_64: u16 = 1;
/// The most that a kernel is taken to unpack to.
const MAX_KERNEL: usize = 512 << 20;
/// A 64-bit kernel is entered so far behind its start.
pub const ENTRY_64: u64 = 0x200;

/// What can be wrong with a kernel that is to be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// Neither a bzImage nor an ELF file.
    #[error("it is neither a bzImage nor an ELF kernel")]
    NotAKernel,
    /// It ends early.
    #[error("the file ends before the kernel does")]
    Truncated,
    /// It is older than Linux 2.6.20.
    #[error("its boot protocol {}.{:02} is too old", .0 >> 8, .0 & 0xff)]
    Protocol(u16),
    /// Its payload cannot be unpacked.
    #[error("the kernel inside of it cannot be unpacked")]
    Payload(#[from] CodecError),
}

/// A bzImage's parts.
#[derive(Debug, Clone, Copy)]
pub struct BzImage<'a> {
    /// The setup header, from its place in the zero page on.
    pub header: &'a [u8],
    /// What is loaded and entered: the decompressor and the compressed kernel.
    pub protected: &'a [u8],
    /// The protocol's version.
    version: u16,
    payload: Option<&'a [u8]>,
}

/// Whether a file that begins so is a bzImage.
#[must_use]
pub fn is_bzimage(start: &[u8]) -> bool {
    start.get(MAGIC_AT..MAGIC_AT + 4) == Some(&MAGIC)
}

impl<'a> BzImage<'a> {
    /// Takes a file apart.
    ///
    /// # Errors
    /// [`UnpackError`].
    pub fn parse(file: &'a [u8]) -> Result<Self, UnpackError> {
        if !is_bzimage(file) {
            return Err(UnpackError::NotAKernel);
        }
        if file.len() < HEADER_END {
            return Err(UnpackError::Truncated);
        }
        let version = u16::from_le_bytes([file[0x206], file[0x207]]);
        if version < OLDEST {
            return Err(UnpackError::Protocol(version));
        }
        // Zero stands for four, by the protocol.
        let sectors = if file[SETUP_HEADER] == 0 { 4 } else { usize::from(file[SETUP_HEADER]) };
        let protected = file.get((sectors + 1) * 512..).ok_or(UnpackError::Truncated)?;
        let header_end = (MAGIC_AT + usize::from(file[0x201])).clamp(HEADER_END, 0x290);
        let header = file.get(SETUP_HEADER..header_end).ok_or(UnpackError::Truncated)?;
        let mut image = Self { header, protected, version, payload: None };
        if version >= PAYLOAD {
            let (offset, length) = (image.field_32(0x248) as usize, image.field_32(0x24c) as usize);
            let end = offset.checked_add(length).ok_or(UnpackError::Truncated)?;
            image.payload = Some(protected.get(offset..end).ok_or(UnpackError::Truncated)?);
        }
        Ok(image)
    }

    /// The field at `offset` of the zero page; the header is long enough for all that are asked for here.
    fn field_32(&self, offset: usize) -> u32 {
        let at = offset - SETUP_HEADER;
        self.header[at..at + 4].iter().rev().fold(0, |value, byte| value << 8 | u32::from(*byte))
    }

    /// Whether it can be entered in 64-bit mode.
    #[must_use]
    pub fn is_64_bit(&self) -> bool {
        self.version >= EXTENDED_FLAGS && self.field_32(0x236) as u16 & XLF_KERNEL_64 != 0
    }

    /// The highest address for the last byte of an initial RAM disk.
    #[must_use]
    pub fn initrd_max(&self) -> u64 {
        self.field_32(0x22c).into()
    }

    /// The longest command line, without a closing zero.
    #[must_use]
    pub fn cmdline_size(&self) -> usize {
        self.field_32(0x238) as usize
    }

    /// Where it likes to be loaded, and how much memory it needs from there on until it has unpacked itself.
    #[must_use]
    pub fn memory(&self) -> (u64, u64) {
        let preferred = u64::from(self.field_32(0x258)) | u64::from(self.field_32(0x25c)) << 32;
        (preferred, u64::from(self.field_32(0x260)).max(self.protected.len() as u64))
    }

    /// The kernel proper, unpacked; `None` where its compression is not known here, or what comes out is no ELF file.
    ///
    /// # Errors
    /// [`UnpackError::Payload`].
    pub fn unpack(&self) -> Result<Option<Vec<u8>>, UnpackError> {
        let Some(payload) = self.payload else { return Ok(None) };
        let Some(codec) = Codec::detect(payload) else { return Ok(None) };
        // A payload's last word is its unpacked size; not to be relied on, but a good guess.
        let size = payload.last_chunk::<4>().map_or(0, |size| u32::from_le_bytes(*size) as usize);
        let mut kernel = Vec::with_capacity(if size <= MAX_KERNEL / 4 { size + 1 } else { 0 });
        let mut input = payload;
        codec.decode(&mut input, MAX_KERNEL, &mut kernel)?;
        Ok(elf::is_elf(&kernel).then_some(kernel))
    }
}

/// The kernel proper of a bzImage, as an ELF file with its list of relocations behind it. Booting that saves the guest
/// the unpacking; it never changes, so callers do well to keep it. `None` where there is nothing to gain: an ELF file
/// already, or of a compression that is not known here; then the file itself is to be booted.
///
/// # Errors
/// [`UnpackError`] where it is no kernel, or damaged.
pub fn unpack_kernel(file: &[u8]) -> Result<Option<Vec<u8>>, UnpackError> {
    if elf::is_elf(file) {
        return Ok(None);
    }
    BzImage::parse(file)?.unpack()
}
