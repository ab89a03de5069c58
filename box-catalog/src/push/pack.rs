//! A box of the store as a file that Vagrant takes, too. The same box gives the same bytes.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use posada_image::Format;
use posada_provider_api::DiskFormat;
use tar::{Builder, EntryType, Header};

use crate::{BoxError, Cancel, Export, Progress, StoredBox};

/// What Vagrant's boxes for libvirt call their disk.
const DISK: &str = "box.img";
const GIB: u64 = 1 << 30;

/// Packs the disk of `stored` into a file in `directory`, as Vagrant's boxes for libvirt are: `metadata.json`, `Vagrantfile`,
/// `box.img` (qcow2). It is not compressed: what travels is, chunk by chunk.
pub(super) fn disk(
    stored: &StoredBox,
    directory: &Path,
    progress: &dyn Progress,
    cancel: &Cancel,
) -> Result<PathBuf, BoxError> {
    let Some(disk) = stored.disk() else { return Err(BoxError::FileMissing(directory.to_owned())) };
    let image = match disk.format {
        DiskFormat::Qcow2 => disk.path.clone(),
        DiskFormat::Raw => {
            let made = directory.join(DISK);
            let wanted = Export {
                format: Format::Qcow2,
                stream_optimized: false,
                output: made.clone(),
                replace: false,
            };
            stored.write_disk(&wanted, "packing", progress, cancel)?;
            made
        }
    };
    let output = directory.join("vagrant.box");
    let failed = |error| BoxError::io("write", &output, error);
    let mut archive = Builder::new(File::create(&output).map_err(failed)?);
    let description = serde_json::json!({
        "provider": "libvirt", "format": "qcow2", "virtual_size": disk.size.div_ceil(GIB),
        "architecture": stored.metadata.architecture,
    });
    let mut small = |name: &str, content: &str| {
        let mut header = header(content.len() as u64);
        archive.append_data(&mut header, name, content.as_bytes()).map_err(failed)
    };
    small("metadata.json", &format!("{description}\n"))?;
    small("Vagrantfile", "Vagrant.configure(\"2\") do |config|\nend\n")?;
    let mut file = File::open(&image).map_err(|error| BoxError::io("read", &image, error))?;
    let size = file.metadata().map_err(|error| BoxError::io("read", &image, error))?.len();
    archive.append_data(&mut header(size), DISK, &mut file).map_err(failed)?;
    archive.into_inner().and_then(|mut file| file.flush()).map_err(failed)?;
    Ok(output)
}

/// Of a file that is of no time and of nobody.
fn header(size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_size(size);
    header.set_mode(0o644);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}
