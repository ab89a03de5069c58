//! Writing images.

mod output;
mod ova;
mod ovf;
mod qcow2;
mod raw;
mod table;
mod vdi;
mod vhdx;
mod vmdk;

use std::path::Path;

use crate::copy::Told;
use crate::{Format, ImageError, ReadImage, Result};
pub use output::Output;
#[cfg(any(test, feature = "fuzzing"))]
pub use vhdx::structures as vhdx_structures;

/// What a machine in an archive is called and made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// Its name.
    pub name: String,
    /// Processors.
    pub cpus: u32,
    /// Memory, MiB.
    pub memory: u64,
}

/// Formats that can be written.
pub const WRITABLE: [Format; 6] =
    [Format::Qcow2, Format::Vmdk, Format::Vdi, Format::Vhdx, Format::Raw, Format::Ova];

/// How an image is written, where its format leaves a choice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Whether a VMDK is packed as a stream, as other hypervisors import it; else one that machines can run from.
    pub stream_optimized: bool,
    /// The machine around the disk, for an OVA.
    pub machine: Machine,
}

/// Writes `image` to the file `output`, in the place of what is there: it appears as a whole, once it is on the disk. What a killed
/// writer leaves beside it is taken over by the next one.
///
/// # Errors
/// Those of reading; [`ImageError::Unfit`], [`ImageError::Busy`], [`ImageError::Cancelled`], [`ImageError::Full`],
/// [`ImageError::Io`]: the file is then as it was.
pub fn write(
    format: Format,
    image: &dyn ReadImage,
    output: &Path,
    options: &Options,
    told: Told<'_>,
) -> Result<()> {
    let out = Output::create(output)?;
    let name =
        output.file_stem().map_or_else(|| "disk".to_owned(), |name| name.to_string_lossy().into_owned());
    match format {
        Format::Raw => raw::write(image, &out, told),
        Format::Qcow2 => qcow2::write(image, &out, told),
        Format::Vdi => vdi::write(image, &out, told),
        Format::Vhdx => vhdx::write(image, &out, told),
        Format::Vmdk if options.stream_optimized => vmdk::stream(image, &out, 0, &name, told).map(drop),
        Format::Vmdk => vmdk::sparse(image, &out, &name, told),
        Format::Ova => ova::write(image, &out, &options.machine, told),
        Format::Vhd | Format::Parallels | Format::Xva => {
            Err(unfit(format, image, "this format is only read"))
        }
    }?;
    out.finish()
}

fn unfit(format: Format, image: &dyn ReadImage, why: &'static str) -> ImageError {
    ImageError::Unfit { format, size: image.size(), why }
}

/// The disk's size in sectors: all formats but raw have only whole ones.
fn sectors(image: &dyn ReadImage) -> u64 {
    image.size().div_ceil(512)
}
