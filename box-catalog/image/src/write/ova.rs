//! A machine in an archive (DMTF DSP0243, "Open Virtualization Format"): its description, its disk as a packed VMDK, and
//! the digests of both.

use std::io::Read;
use std::os::unix::fs::FileExt;

use sha2::{Digest, Sha256};
use tar::{EntryType, Header};

use super::output::Output;
use super::{Machine, ovf, sectors, vmdk};
use crate::copy::Told;
use crate::{ImageError, ReadImage, Result};

const BLOCK: u64 = 512;
/// Room for the description, which comes first and names the length of what comes after it.
const ROOM: u64 = 16 << 10;

pub fn write(image: &dyn ReadImage, out: &Output, machine: &Machine, told: Told<'_>) -> Result<()> {
    let name = plain(&machine.name);
    let disk = format!("{name}-disk1.vmdk");
    // Header, description, header, disk.
    let disk_at = BLOCK + ROOM + BLOCK;
    let length = vmdk::stream(image, out, disk_at, &format!("{name}-disk1"), told)?;
    let description = ovf::describe(&name, machine, &disk, length, sectors(image) * 512);
    // Spaces behind the last tag are allowed, and keep the disk in its place.
    let description = format!("{description:<width$}", width = ROOM as usize);
    if description.len() as u64 != ROOM {
        return Err(ImageError::Unsupported("a name that is too long".to_owned()));
    }
    out.write_at(&header(&format!("{name}.ovf"), ROOM)?, 0)?;
    out.write_at(description.as_bytes(), BLOCK)?;
    out.write_at(&header(&disk, length)?, BLOCK + ROOM)?;
    let manifest = format!(
        "SHA256({name}.ovf)= {}\nSHA256({disk})= {}\n",
        hex(&Sha256::digest(description.as_bytes())),
        digest(out, disk_at, length)?
    );
    let at = disk_at + length.next_multiple_of(BLOCK);
    out.write_at(&header(&format!("{name}.mf"), manifest.len() as u64)?, at)?;
    out.write_at(manifest.as_bytes(), at + BLOCK)?;
    // Two blocks of zeros end an archive.
    let end = at + BLOCK + (manifest.len() as u64).next_multiple_of(BLOCK) + 2 * BLOCK;
    out.set_length(end)
}

fn header(name: &str, size: u64) -> Result<[u8; 512]> {
    let mut header = Header::new_gnu();
    let too_long = |_| ImageError::Unsupported("a name that is too long".to_owned());
    header.set_path(name).map_err(too_long)?;
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header.set_entry_type(EntryType::Regular);
    header.set_cksum();
    Ok(*header.as_bytes())
}

fn digest(out: &Output, at: u64, length: u64) -> Result<String> {
    struct Part<'a>(&'a std::fs::File, u64);
    impl Read for Part<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let count = self.0.read_at(buffer, self.1)?;
            self.1 += count as u64;
            Ok(count)
        }
    }
    let mut hasher = Sha256::new();
    let mut rest = Part(out.file(), at).take(length);
    let mut buffer = vec![0; 1 << 20];
    loop {
        match rest.read(&mut buffer) {
            Ok(0) => return Ok(hex(&hasher.finalize())),
            Ok(count) => hasher.update(&buffer[..count]),
            Err(error) => return Err(ImageError::io("read", out.path(), error)),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A name that is good for files.
fn plain(name: &str) -> String {
    let kept = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' };
    let name: String = name.chars().map(kept).take(60).collect();
    if name.trim_matches(['.', '-']).is_empty() { "machine".to_owned() } else { name }
}
