//! Writing a box's disk for other hypervisors.

use std::path::PathBuf;

use posada_image::{Backing, Format, Machine, Options, Told};

use crate::{BoxError, Cancel, Form, Progress, StoredBox};

/// Memory of a machine whose box does not say what it needs, MiB.
const MEMORY: u64 = 1024;

/// What a disk is written as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Export {
    /// The format: one of [`posada_image::WRITABLE`].
    pub format: Format,
    /// Whether a VMDK is packed as a stream, as other hypervisors import it.
    pub stream_optimized: bool,
    /// The file.
    pub output: PathBuf,
    /// Whether it takes the place of a file that is there.
    pub replace: bool,
}

impl StoredBox {
    /// Writes the box's disk into a file, which appears as a whole; holes stay holes.
    ///
    /// # Errors
    /// [`BoxError::MissingForm`], [`BoxError::FileThere`], [`BoxError::Image`], [`BoxError::Cancelled`].
    pub fn export(&self, wanted: &Export, progress: &dyn Progress, cancel: &Cancel) -> Result<(), BoxError> {
        self.write_disk(wanted, "exporting", progress, cancel)
    }

    /// The same, told as `phase`.
    pub(crate) fn write_disk(
        &self,
        wanted: &Export,
        phase: &str,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<(), BoxError> {
        self.layer(Form::Disk)?;
        let Some(disk) = self.disk() else { return Ok(()) };
        if !wanted.replace && std::fs::symlink_metadata(&wanted.output).is_ok() {
            return Err(BoxError::FileThere(wanted.output.clone()));
        }
        let image = posada_image::open(&disk.path, Backing::Refused);
        let (_, image) = image.map_err(|error| BoxError::image(&disk.path, error))?;
        let name = self.name.replace('/', "-");
        let options = Options {
            stream_optimized: wanted.stream_optimized,
            machine: Machine { name, cpus: 1, memory: MEMORY },
        };
        progress.phase(phase, Some(image.size()));
        let told = Told { progress: &|bytes| progress.advance(bytes), cancelled: &|| cancel.is_cancelled() };
        posada_image::write(wanted.format, image.as_ref(), &wanted.output, &options, told)
            .map_err(|error| BoxError::image(&wanted.output, error))
    }
}
