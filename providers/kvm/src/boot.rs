//! What is booted: at first what the box's boot loader would start, later what the machine's own would, as a kernel
//! that was installed inside of it is to run after the next reboot.

use std::os::unix::fs::DirBuilderExt;

use posada_disk::{Backing, Image};
use posada_provider_api::{BootSource, ProviderError};

use crate::bottom::Bottom;
use crate::failure;
use crate::top::{Top, write_whole};

/// What the machine boots now, and a warning where that is not what its own disk asks for.
///
/// # Errors
/// [`ProviderError::Box`] where neither its disk nor its box holds a kernel.
pub(crate) fn source(top: &Top, bottom: &Bottom<'_>) -> Result<(BootSource, Option<String>), ProviderError> {
    if let (false, Some(boot)) = (top.was_booted(), bottom.boot) {
        return Ok((boot.clone(), None));
    }
    let why = match own(top) {
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
fn own(top: &Top) -> Result<Option<BootSource>, ProviderError> {
    let image = Image::open(&top.disk(), Backing::Followed).map_err(failure::disk)?;
    let Some(files) = posada_disk::inspect(&image).map_err(failure::disk)?.boot else { return Ok(None) };
    let directory = top.boot();
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory);
    let (kernel, initrd) = (directory.join("kernel"), directory.join("initrd"));
    made.and_then(|()| write_whole(&kernel, &files.kernel))
        .and_then(|()| files.initrd.as_ref().map_or(Ok(()), |bytes| write_whole(&initrd, bytes)))
        .map_err(|error| failure::io("keep the machine's kernel", &error))?;
    Ok(Some(BootSource { kernel, initrd: files.initrd.is_some().then_some(initrd), cmdline: files.cmdline }))
}
