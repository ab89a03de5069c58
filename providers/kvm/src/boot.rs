//! What is booted: at first what the box's boot loader would start, later what the machine's own would, as a kernel
//! that was installed inside of it is to run after the next reboot.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use posada_disk::{Backing, Drivers, Image, continues};
use posada_provider_api::{BootSource, ProviderError};
use sha2::{Digest as _, Sha256};

use crate::bottom::Bottom;
use crate::failure;
use crate::kernel::unpack_kernel;
use crate::top::{Top, write_whole};

/// What the machine boots now, and a warning where that is not what its own disk asks for.
///
/// # Errors
/// [`ProviderError::Box`] where neither its disk nor its box holds a kernel.
pub(crate) fn source(top: &Top, bottom: &Bottom<'_>) -> Result<(BootSource, Option<String>), ProviderError> {
    if let (false, Some(boot)) = (top.was_booted(), bottom.boot) {
        return Ok((boot.clone(), None));
    }
    let why = match own(top, bottom) {
        Ok(Some(source)) => return Ok((source, None)),
        Ok(None) => "no kernel was found on it".to_owned(),
        Err(error) => error.to_string(),
    };
    match bottom.boot {
        Some(boot) => {
            let what = format!("the machine boots its box's kernel, as its own disk gives none: {why}");
            Ok((boot.clone(), Some(what)))
        }
        None => Err(ProviderError::Box {
            what: format!("there is no kernel to boot: {why}"),
            remedy: "virtual machines boot the kernel that is installed on their disk (in /boot); use a box that has one"
                .to_owned(),
        }),
    }
}

/// Takes kernel, initial RAM file system and command line out of the machine's disk.
fn own(top: &Top, bottom: &Bottom<'_>) -> Result<Option<BootSource>, ProviderError> {
    let image = Image::open(&top.disk(), Backing::Followed).map_err(failure::disk)?;
    let Some(files) = posada_disk::inspect(&image).map_err(failure::disk)?.boot else { return Ok(None) };
    // As the box has it, where it is still the box's; else as it has to be to find the disk.
    let complete = |initrd: &[u8]| {
        let boxed = bottom.boot.and_then(|boot| fs_err::read(boot.initrd.as_ref()?).ok());
        if let Some(boxed) = boxed.filter(|boxed| continues(boxed, initrd)) {
            return Some(boxed);
        }
        match posada_disk::drivers(&image, &files) {
            Ok(Drivers::Added { archive, .. }) => files.clone().with_drivers(&archive).initrd,
            _ => None,
        }
    };
    let (kernel, initrd) = keep(&top.boot(), &files.kernel, files.initrd.as_deref(), unpack_kernel, complete)
        .map_err(|error| failure::io("keep the machine's kernel", &error))?;
    Ok(Some(BootSource { kernel, initrd, cmdline: files.cmdline }))
}

/// What a kernel's file is called up to the SHA-256 of what it was on the disk.
const KERNEL: &str = "kernel-";

/// Lays a kernel, as `unpack` makes it, and an initial RAM file system, as `complete` does, into `directory`, unless they are
/// there from an earlier boot.
fn keep(
    directory: &Path,
    kernel: &[u8],
    initrd: Option<&[u8]>,
    unpack: impl FnOnce(&[u8]) -> Option<Vec<u8>>,
    complete: impl FnOnce(&[u8]) -> Option<Vec<u8>>,
) -> io::Result<(PathBuf, Option<PathBuf>)> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    // The name alone says whether it is still the disk's, so that no crash leaves the two in disagreement.
    let digest: String = Sha256::digest(kernel).iter().map(|byte| format!("{byte:02x}")).collect();
    let kept = directory.join(format!("{KERNEL}{digest}"));
    if !kept.exists() {
        write_whole(&kept, unpack(kernel).as_deref().unwrap_or(kernel))?;
    }
    remove_others(directory, &kept)?;
    let Some(bytes) = initrd else { return Ok((kept, None)) };
    let initrd = directory.join("initrd");
    if !fs_err::read(&initrd).is_ok_and(|there| continues(&there, bytes)) {
        write_whole(&initrd, complete(bytes).as_deref().unwrap_or(bytes))?;
    }
    Ok((kept, Some(initrd)))
}

/// Removes the kernels of earlier boots.
fn remove_others(directory: &Path, kept: &Path) -> io::Result<()> {
    for entry in fs_err::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default();
        if path != kept && name.as_bytes().starts_with(KERNEL.as_bytes()) {
            fs_err::remove_file(path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn a_kernel_is_unpacked_once_for_as_long_as_it_is_the_disks() {
        let temp = tempfile::tempdir().unwrap();
        let directory = temp.path().join("boot");
        let unpack = |file: &[u8]| Some([b"unpacked ", file].concat());
        let (first, initrd) = keep(&directory, b"one", Some(b"files"), unpack, |_| None).unwrap();
        let initrd = initrd.unwrap();
        assert_eq!(fs_err::read(&first).unwrap(), b"unpacked one");
        assert_eq!(fs_err::read(&initrd).unwrap(), b"files");
        let inodes = || [&first, &initrd].map(|path| fs_err::metadata(path).unwrap().ino());

        let before = inodes();
        let again =
            keep(&directory, b"one", Some(b"files"), |_| panic!("unpacked again"), |_| panic!("again"))
                .unwrap();
        assert_eq!((again, inodes()), ((first.clone(), Some(initrd.clone())), before));

        let drivers = |files: &[u8]| Some([files, b"\x00070701 drivers"].concat());
        let (second, _) = keep(&directory, b"two", Some(b"other files"), unpack, drivers).unwrap();
        assert_eq!(fs_err::read(&second).unwrap(), b"unpacked two");
        assert_eq!(fs_err::read(&initrd).unwrap(), b"other files\x00070701 drivers");
        keep(&directory, b"two", Some(b"other files"), unpack, |_| panic!("again")).unwrap();
        assert!(!first.exists(), "the kernel of an earlier boot");

        // Back again, and one that is not packed.
        let (back, none) = keep(&directory, b"one", None, |_| None, |_| None).unwrap();
        assert_eq!((fs_err::read(back).unwrap().as_slice(), none), (&b"one"[..], None));
    }
}
