//! Making a content again.

use std::fs::File;
use std::os::unix::fs::FileExt;

use super::{ChunkStore, pool};
use crate::{Error, Manifest};

/// Zeros of this many bytes are left out of the file.
const BLOCK: usize = 4096;

impl ChunkStore {
    /// Writes the content into `file`, which is empty: on all cores, each chunk verified, with holes where there are
    /// zeros. Takes two chunks of memory a core. What is written is not synced. `progress` is told of bytes written.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Damaged`], [`Error::Cancelled`], [`Error::DiskFull`], [`Error::Io`]; what is in
    /// `file` is then of no use.
    pub fn assemble(
        &self,
        manifest: &Manifest,
        file: &File,
        progress: &(dyn Fn(u64) + Sync),
        cancelled: &(dyn Fn() -> bool + Sync),
    ) -> Result<(), Error> {
        let failed = |error| Error::io("assemble an image from", self.root(), error);
        file.set_len(manifest.size()).map_err(failed)?;
        let chunks: Vec<_> = manifest.chunks().collect();
        pool::for_each(chunks.len(), |index| {
            if cancelled() {
                return Err(Error::Cancelled);
            }
            let (offset, digest, length) = chunks[index];
            let bytes = self.get(&digest)?;
            if bytes.len() != length as usize {
                let what = format!("it has {} bytes, not the {length} of the list", bytes.len());
                return Err(Error::Mismatch { wanted: digest, what });
            }
            write_sparse(file, &bytes, offset).map_err(failed)?;
            progress(bytes.len() as u64);
            Ok(())
        })
    }
}

/// Writes runs of blocks that are not zeros.
fn write_sparse(file: &File, bytes: &[u8], offset: u64) -> std::io::Result<()> {
    let lead = (BLOCK - offset as usize % BLOCK) % BLOCK;
    let mut cuts = vec![0];
    cuts.extend((lead..bytes.len()).step_by(BLOCK).filter(|at| *at > 0));
    cuts.push(bytes.len());
    let mut run = 0..0;
    for pair in cuts.windows(2) {
        if bytes[pair[0]..pair[1]].iter().all(|byte| *byte == 0) {
            file.write_all_at(&bytes[run.clone()], offset + run.start as u64)?;
            run = pair[1]..pair[1];
        } else {
            run.end = pair[1];
        }
    }
    file.write_all_at(&bytes[run.clone()], offset + run.start as u64)
}
