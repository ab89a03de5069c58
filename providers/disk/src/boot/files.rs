//! Reading what was chosen.

use super::{Choice, Rule, Volumes};
use crate::DiskError;

/// Largest kernel, bytes.
pub const MAX_KERNEL: u64 = 128 << 20;
/// Largest initial RAM file system, all parts together, bytes.
pub const MAX_INITRD: u64 = 512 << 20;
/// Longest command line, bytes: that of Linux on x86 (`COMMAND_LINE_SIZE`).
const MAX_CMDLINE: usize = 2048;

/// What is needed to boot.
#[derive(Clone, PartialEq, Eq)]
pub struct BootFiles {
    /// The kernel: a bzImage, an ELF file or an arm64 image.
    pub kernel: Vec<u8>,
    /// The initial RAM file system, all parts joined.
    pub initrd: Option<Vec<u8>>,
    /// The kernel's command line, with `root=`.
    pub cmdline: String,
    /// The kernel's version, `6.1.0-40-cloud-amd64`; empty where it cannot be seen.
    pub version: String,
    /// Which rule chose it.
    pub chosen_by: Rule,
}

impl std::fmt::Debug for BootFiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BootFiles")
            .field("kernel", &self.kernel.len())
            .field("initrd", &self.initrd.as_ref().map(Vec::len))
            .field("cmdline", &self.cmdline)
            .field("version", &self.version)
            .field("chosen_by", &self.chosen_by)
            .finish()
    }
}

/// Reads the files of `choice`; `None` where the kernel or a part of the rest is not there, or is none.
pub(super) fn load(volumes: &Volumes, choice: Choice) -> Result<Option<BootFiles>, DiskError> {
    let Some(kernel) = volumes.read(&choice.kernel, MAX_KERNEL)? else { return Ok(None) };
    if !is_kernel(&kernel) || choice.cmdline.len() >= MAX_CMDLINE {
        return Ok(None);
    }
    let mut initrd = Vec::new();
    for place in &choice.initrds {
        let left = MAX_INITRD - initrd.len() as u64;
        let Some(part) = volumes.read(place, left)? else { return Ok(None) };
        // The kernel looks for the next archive at a multiple of four (Documentation/driver-api/early-userspace/
        // buffer-format.rst).
        initrd.resize(initrd.len().next_multiple_of(4), 0);
        if initrd.is_empty() {
            initrd = part;
        } else {
            initrd.extend(part);
        }
    }
    let version = choice.version.or_else(|| version_inside(&kernel)).or_else(|| {
        let name = choice.kernel.path.rsplit('/').next()?;
        name.split_once('-').map(|(_, version)| version.to_owned())
    });
    Ok(Some(BootFiles {
        kernel,
        initrd: (!initrd.is_empty()).then_some(initrd),
        cmdline: choice.cmdline,
        version: version.unwrap_or_default(),
        chosen_by: choice.rule,
    }))
}

/// A bzImage (`Documentation/arch/x86/boot.rst`), an ELF file, or an image for arm64
/// (`Documentation/arch/arm64/booting.rst`).
fn is_kernel(bytes: &[u8]) -> bool {
    let is = |at: usize, magic: &[u8]| bytes.get(at..).is_some_and(|rest| rest.starts_with(magic));
    is(0x202, b"HdrS") || is(0, b"\x7fELF") || is(56, b"ARM\x64")
}

/// The version in a bzImage: `kernel_version` points to it.
fn version_inside(kernel: &[u8]) -> Option<String> {
    if kernel.get(0x202..0x206)? != b"HdrS" {
        return None;
    }
    let at = usize::from(u16::from_le_bytes(kernel.get(0x20e..0x210)?.try_into().ok()?)) + 0x200;
    let text = kernel.get(at..)?.iter().take(128).take_while(|byte| byte.is_ascii_graphic());
    let text: String = text.map(|byte| char::from(*byte)).collect();
    (!text.is_empty()).then_some(text)
}
