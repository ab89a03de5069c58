//! Disks of other hypervisors: made into one that machines run from.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use posada_image::{Bundle, Format, ImageError, ReadImage, Storage, Told};
use posada_provider_api::{DiskFormat, Fault as _};

use super::disk::{self, PART};
use super::refusal::Refusal;
use super::sparse::Extent;

/// The files of a machine, one behind the other, until its disk is made.
const PARTS: &str = "disk.parts";

/// The files of a machine that an archive holds.
#[derive(Default)]
pub struct Parts {
    file: Option<File>,
    /// Name, place and length of each.
    found: Vec<(String, u64, u64)>,
    end: u64,
}

impl Parts {
    /// Takes a file of the archive; `limit` is the most bytes that all of them may take.
    pub fn take(
        &mut self,
        path: &[u8],
        data: &mut impl Read,
        size: u64,
        extents: &[Extent],
        limit: u64,
    ) -> Result<(), Refusal> {
        let start = self.end;
        let end = start.checked_add(size).filter(|end| *end <= limit);
        self.end = end.ok_or_else(|| Refusal::TooLarge(format!("{} GiB", limit >> 30)))?;
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(disk::create(PARTS)?),
        };
        disk::append(file, start, data, extents, limit)?;
        self.found.push((String::from_utf8_lossy(path).into_owned(), start, size));
        if self.found.len() > Bundle::MAX_PIECES {
            return Err(Refusal::TooLarge(format!("{} files", Bundle::MAX_PIECES)));
        }
        Ok(())
    }

    /// Writes the system's disk, if there is a machine, as the image.
    pub fn into_disk(self, limit: u64) -> Result<(), Refusal> {
        let Some(file) = self.file else { return Ok(()) };
        file.set_len(self.end).map_err(|error| disk::host(PARTS, error))?;
        let all = Storage::of(file, Path::new(PARTS)).map_err(|error| refused(&error))?;
        let mut bundle = Bundle::default();
        for (name, at, length) in self.found {
            bundle.add(name, all.part(at, length)).map_err(|error| refused(&error))?;
        }
        let (_, image) = bundle.disk().map_err(|error| refused(&error))?;
        write_raw(image.as_ref(), limit)?;
        fs::remove_file(PARTS).map_err(|error| disk::host(PARTS, error))
    }
}

/// Makes of the image that was written one that machines run from, and tells its format.
pub fn make_native(limit: u64) -> Result<DiskFormat, Refusal> {
    /// The image as it came, while it is made into another one.
    const SOURCE: &str = "disk.source";
    let storage = Storage::open(Path::new(PART)).map_err(|error| refused(&error))?;
    let start = storage.bytes(0, posada_image::ENOUGH).map_err(|error| refused(&error))?;
    if posada_image::probe(&start) == Some(Format::Qcow2) && !posada_image::is_special(&start) {
        return Ok(DiskFormat::Qcow2);
    }
    let (format, image) = posada_image::open_storage(storage).map_err(|error| refused(&error))?;
    if format == Format::Raw {
        return Ok(DiskFormat::Raw);
    }
    fs::rename(PART, SOURCE).map_err(|error| disk::host(PART, error))?;
    write_raw(image.as_ref(), limit)?;
    fs::remove_file(SOURCE).map_err(|error| disk::host(SOURCE, error))?;
    Ok(DiskFormat::Raw)
}

/// Writes the disk in `file`, of whatever format, as the image.
pub fn write_raw_of(file: &File, limit: u64) -> Result<(), Refusal> {
    let file = file.try_clone().map_err(|error| disk::host(PART, error))?;
    let storage = Storage::of(file, Path::new(PART)).map_err(|error| refused(&error))?;
    let (_, image) = posada_image::open_storage(storage).map_err(|error| refused(&error))?;
    write_raw(image.as_ref(), limit)
}

fn write_raw(image: &dyn ReadImage, limit: u64) -> Result<(), Refusal> {
    // Whoever asked for it kills this process to end it.
    image.check(&|| false).map_err(|error| refused(&error))?;
    let file = disk::create(PART)?;
    let told = Told { progress: &|_| {}, cancelled: &|| false };
    posada_image::copy_to(image, &file, Path::new(PART), limit, told).map_err(|error| refused(&error))?;
    Ok(())
}

fn refused(error: &ImageError) -> Refusal {
    match error {
        ImageError::Full(_) => Refusal::DiskFull,
        ImageError::TooLarge(limit) => Refusal::TooLarge(format!("{} GiB", limit >> 30)),
        ImageError::Io { path, source, .. } => {
            Refusal::Host { entry: path.display().to_string(), detail: source.to_string() }
        }
        other => Refusal::Disk { what: other.to_string(), hint: other.hint() },
    }
}
