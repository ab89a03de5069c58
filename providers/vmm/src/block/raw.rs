//! Raw images: the disk, byte for byte. Files and block devices.

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Buffers, Engine, OpenError};

pub(super) struct Raw {
    file: Arc<File>,
    engine: Arc<Engine>,
    size: u64,
    /// Something was written since the last flush began.
    unsynced: AtomicBool,
}

impl Raw {
    pub fn open(path: &Path, mut file: File, engine: Arc<Engine>) -> Result<Self, OpenError> {
        let size = file.seek(SeekFrom::End(0)).map_err(|error| OpenError::io(path, error))?;
        Ok(Self { file: Arc::new(file), engine, size, unsynced: AtomicBool::new(false) })
    }

    pub fn size(&self) -> u64 {
        self.size
    }

    pub async fn read(&self, offset: u64, buffers: &Buffers) -> io::Result<()> {
        self.engine.read(&self.file, offset, buffers).await
    }

    pub async fn write(&self, offset: u64, buffers: &Buffers) -> io::Result<()> {
        let result = self.engine.write(&self.file, offset, buffers).await;
        self.unsynced.store(true, Ordering::Relaxed);
        result
    }

    pub async fn flush(&self) -> io::Result<()> {
        if !self.unsynced.swap(false, Ordering::Relaxed) {
            return Ok(());
        }
        let result = self.engine.sync(&self.file).await;
        if result.is_err() {
            self.unsynced.store(true, Ordering::Relaxed);
        }
        result
    }

    pub async fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        let result = self.engine.punch(&self.file, offset, len).await;
        self.unsynced.store(true, Ordering::Relaxed);
        match result {
            // Discarding is a wish (virtio 1.2, section 5.2.6).
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(()),
            result => result,
        }
    }

    pub async fn write_zeroes(&self, offset: u64, len: u64, unmap: bool) -> io::Result<()> {
        self.unsynced.store(true, Ordering::Relaxed);
        let punched = unmap && self.engine.punch(&self.file, offset, len).await.is_ok();
        let result = if punched { Ok(()) } else { self.engine.zero(&self.file, offset, len).await };
        self.unsynced.store(true, Ordering::Relaxed);
        result
    }
}
