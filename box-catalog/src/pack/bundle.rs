//! Box files that Vagrant takes, too. The same content gives the same bytes.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use serde_json::Value;
use tar::{Builder, EntryType, Header};

/// What Vagrant's boxes for libvirt call their disk.
pub const DISK: &str = "box.img";
/// What Vagrant's boxes for LXC call their root file system.
pub const ROOTFS: &str = "rootfs.tar.gz";
const GIB: u64 = 1 << 30;

/// Writes a box for libvirt of the qcow2 image at `image`, a disk of `size` bytes.
///
/// # Errors
/// Those of reading and writing.
pub fn disk(image: &Path, size: u64, architecture: Option<&str>, out: impl Write) -> io::Result<()> {
    let description = serde_json::json!({
        "provider": "libvirt", "format": "qcow2", "virtual_size": size.div_ceil(GIB), "architecture": architecture,
    });
    write(&description, DISK, image, out)
}

/// Writes a box for LXC of the archive of a root file system at `archive`.
///
/// # Errors
/// Those of reading and writing.
pub fn rootfs(archive: &Path, architecture: Option<&str>, out: impl Write) -> io::Result<()> {
    // The version is that of the format.
    let description =
        serde_json::json!({ "provider": "lxc", "version": "1.0.0", "architecture": architecture });
    write(&description, ROOTFS, archive, out)
}

fn write(description: &Value, name: &str, content: &Path, out: impl Write) -> io::Result<()> {
    let mut archive = Builder::new(out);
    let mut small = |name: &str, content: &str| {
        archive.append_data(&mut header(content.len() as u64), name, content.as_bytes())
    };
    small("metadata.json", &format!("{description}\n"))?;
    small("Vagrantfile", "Vagrant.configure(\"2\") do |config|\nend\n")?;
    let mut file = File::open(content)?;
    let size = file.metadata()?.len();
    archive.append_data(&mut header(size), name, &mut file)?;
    archive.into_inner()?.flush()
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
