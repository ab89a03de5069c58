//! Files with holes.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use rustix::fs::SeekFrom;
use rustix::io::Errno;

/// How much is read at once, bytes.
const PORTION: usize = 1 << 20;

/// What is found in a file, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found<'a> {
    /// Bytes.
    Data(&'a [u8]),
    /// So many zeros that the file system does not keep.
    Hole(u64),
}

/// Hands over what is in `file` from start to end; its holes are not read.
///
/// # Errors
/// The file's, as an [`io::Error`] that `failed` makes an `E` of, and those of `each`.
pub fn feed_file<E>(
    file: &File,
    failed: impl Fn(io::Error) -> E,
    mut each: impl FnMut(Found<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let size = file.metadata().map_err(&failed)?.len();
    let mut portion = vec![0; PORTION];
    let mut offset = 0;
    while offset < size {
        let data = match rustix::fs::seek(file, SeekFrom::Data(offset)) {
            Ok(data) => data.min(size),
            // There is none behind here.
            Err(Errno::NXIO) => size,
            Err(errno) => return Err(failed(errno.into())),
        };
        if data > offset {
            each(Found::Hole(data - offset))?;
        }
        offset = data;
        if offset == size {
            break;
        }
        let end = rustix::fs::seek(file, SeekFrom::Hole(offset)).map_err(|errno| failed(errno.into()))?;
        let end = end.min(size);
        while offset < end {
            let length = (end - offset).min(PORTION as u64) as usize;
            file.read_exact_at(&mut portion[..length], offset).map_err(&failed)?;
            each(Found::Data(&portion[..length]))?;
            offset += length as u64;
        }
    }
    Ok(())
}
