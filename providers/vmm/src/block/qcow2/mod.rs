//! qcow2 images (QEMU's `docs/interop/qcow2`), versions 2 and 3: read with their backing files and compressed
//! clusters, written without copies, discarded.
//!
//! **Order of writing.** Data goes to its place at once. All metadata changes are in memory, and a flush brings them
//! to disk so that at no instant anything on disk leads to what is not there yet:
//!
//! ```text
//!   new refcount blocks ─sync─► refcounts, new L2 tables ─sync─► L2 entries, L1 entries ─sync─► done
//!                               (and all data before them)
//! ```
//! Whatever ends the process or the host, the image is at most short of clusters that are counted and not used.
//! Clusters that are no longer used are given free only after the flush that made that known, and after all requests
//! that may have looked them up before have ended (see [`retired`]).

mod claims;
mod compressed;
mod discard;
mod entry;
mod files;
mod flush;
mod header;
mod open;
mod read;
mod refcounts;
mod retired;
mod tables;
mod write;

use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use self::claims::Claims;
use self::compressed::Inflater;
use self::entry::{Mapping, corrupt};
use self::refcounts::Refcounts;
use self::retired::Retired;
use self::tables::Tables;
use super::Engine;
use super::image::Layer;

/// One open qcow2 file, with what lies behind it.
pub(super) struct Qcow2 {
    file: Arc<File>,
    engine: Arc<Engine>,
    version: u32,
    cluster_bits: u32,
    size: u64,
    backing: Option<Layer>,
    inflater: Inflater,
    claims: Claims,
    meta: Mutex<Meta>,
}

/// All that is known of where things are. Never locked over a wait.
struct Meta {
    tables: Tables,
    /// Not known where the image is only read.
    refcounts: Option<Refcounts>,
    retired: Retired,
    /// The file is at least so long.
    file_len: u64,
    /// Data was written since the last flush began.
    unsynced: bool,
    flushes_begun: u64,
    /// The last flush that succeeded, counted from 1.
    flushed: u64,
}

/// Reads a header and an entry by what it says, whatever they are.
pub(super) fn fuzz_header(bytes: &[u8]) {
    if let (Ok(header), Some(entry)) = (header::Header::parse(bytes), bytes.last_chunk()) {
        let _ = Mapping::decode(u64::from_be_bytes(*entry), header.cluster_bits, header.version);
    }
}

impl Qcow2 {
    /// Bytes of the disk.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Bytes of a cluster.
    pub fn cluster_size(&self) -> u32 {
        1 << self.cluster_bits
    }

    fn meta(&self) -> MutexGuard<'_, Meta> {
        self.meta.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn mapping(&self, meta: &mut Meta, cluster: u64) -> io::Result<Mapping> {
        Mapping::decode(meta.tables.get(&self.file, cluster)?, self.cluster_bits, self.version)
    }

    /// Whether what is not allocated at `offset` reads as zeros.
    fn bare(&self, offset: u64) -> bool {
        self.backing.as_ref().is_none_or(|backing| offset >= backing.size())
    }
}

impl Meta {
    fn writable(&mut self) -> io::Result<(&mut Tables, &mut Refcounts)> {
        match &mut self.refcounts {
            Some(refcounts) => Ok((&mut self.tables, refcounts)),
            None => Err(io::ErrorKind::ReadOnlyFilesystem.into()),
        }
    }
}
