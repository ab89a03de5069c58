//! Large files on their way into a bucket.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use object_store::{ObjectStoreExt as _, WriteMultipart};
use sha2::{Digest as _, Sha256};

use super::Bucket;
use crate::{BoxError, Digest, Progress};

/// Bytes of a part, where a file has no more than [`MAX_PARTS`] of them.
const PART: u64 = 16 << 20;
/// S3 takes 10 000 parts of one object.
const MAX_PARTS: u64 = 9_000;
/// How many parts travel at once.
const AT_ONCE: usize = 3;

impl Bucket<'_> {
    /// Writes the file at `path`, whose content is `digest`, as the object `key`: it is there once all of it has come, or not at all. What
    /// a killed process leaves is seen by nobody; buckets have rules that clear such parts away.
    pub fn upload(
        &self,
        key: &str,
        path: &Path,
        digest: &Digest,
        progress: &dyn Progress,
    ) -> Result<(), BoxError> {
        let failed = |error| BoxError::io("read", path, error);
        let mut file = File::open(path).map_err(failed)?;
        let size = file.metadata().map_err(failed)?.len();
        let part = PART.max(size.div_ceil(MAX_PARTS));
        let to = self.path(key)?;
        let upload = self.run(self.store.put_multipart(&to))?;
        let mut write = WriteMultipart::new_with_chunk_size(upload, part as usize);
        let sent = self.send(&mut write, &mut file, part, progress).and_then(|came| match came {
            Came::All(came) if came == *digest => Ok(()),
            Came::All(_) => Err(failed(io::Error::other("it was changed while it was pushed"))),
            Came::Unread(error) => Err(failed(error)),
        });
        match sent {
            Ok(()) => self.run(write.finish()).map(drop),
            Err(error) => {
                // What is left of it is seen by nobody.
                let _ = self.runtime.block_on(write.abort());
                Err(error)
            }
        }
    }

    fn send(
        &self,
        write: &mut WriteMultipart,
        file: &mut File,
        part: u64,
        progress: &dyn Progress,
    ) -> Result<Came, BoxError> {
        self.run(async {
            let mut hash = Sha256::new();
            loop {
                let mut piece = Vec::new();
                if let Err(error) = file.by_ref().take(part).read_to_end(&mut piece) {
                    return Ok(Came::Unread(error));
                }
                if piece.is_empty() {
                    return Ok(Came::All(Digest::from_bytes(hash.finalize().into())));
                }
                write.wait_for_capacity(AT_ONCE).await?;
                hash.update(&piece);
                let length = piece.len() as u64;
                write.put(piece.into());
                progress.advance(length);
            }
        })
    }
}

/// How far reading a file came.
enum Came {
    All(Digest),
    Unread(io::Error),
}
