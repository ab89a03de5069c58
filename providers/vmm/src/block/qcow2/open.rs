//! Opening: the header is believed in nothing that can be checked.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::claims::Claims;
use super::compressed::Inflater;
use super::files::{read_filled, read_table};
use super::header::{Backing, Header, HeaderError, MAX_HEADER};
use super::refcounts::Refcounts;
use super::retired::Retired;
use super::tables::Tables;
use super::{Meta, Qcow2};
use crate::block::image::Layer;
use crate::block::{Engine, OpenError};
use crate::config::DiskFormat;

/// Where a version 3 header keeps the features that whoever does not know them must clear before writing.
const AUTOCLEAR: u64 = 88;

impl Qcow2 {
    /// Opens the image in `file`, and those behind it as far as they are `allowed`.
    ///
    /// # Errors
    /// Each reason is a variant of its own.
    pub fn open(
        path: &Path,
        file: File,
        read_only: bool,
        allowed: &mut Vec<PathBuf>,
        engine: &Arc<Engine>,
    ) -> Result<Self, OpenError> {
        let failed = |error| OpenError::io(path, error);
        let len = file.metadata().map_err(failed)?.len();
        let mut bytes = vec![0; MAX_HEADER.min(len.try_into().unwrap_or(MAX_HEADER))];
        read_filled(&file, 0, &mut bytes).map_err(failed)?;
        let header = Header::parse(&bytes).map_err(|error| wrong(path, error))?;
        check_tables(&header, len).map_err(|what| damaged(path, what))?;
        if header.corrupt {
            return Err(damaged(path, "it is marked as such"));
        }

        let l1 = read_table(&file, header.l1_offset, header.l1_entries as usize).map_err(failed)?;
        let refcounts = if read_only { None } else { Some(open_refcounts(path, &file, &header, len)?) };
        let backing = match &header.backing {
            Some(backing) => Some(open_backing(path, backing, allowed, engine)?),
            None => None,
        };
        Ok(Self {
            file: Arc::new(file),
            engine: engine.clone(),
            version: header.version,
            cluster_bits: header.cluster_bits,
            size: header.size,
            backing,
            inflater: Inflater::new(header.compression),
            claims: Claims::default(),
            meta: Mutex::new(Meta {
                tables: Tables::new(header.cluster_bits, header.l1_offset, l1),
                refcounts,
                retired: Retired::default(),
                file_len: len,
                unsynced: false,
                flushes_begun: 0,
                flushed: 0,
            }),
        })
    }
}

/// Tables that a file is too short for were never written whole.
fn check_tables(header: &Header, len: u64) -> Result<(), &'static str> {
    if header.l1_offset + u64::from(header.l1_entries) * 8 > len && header.l1_entries > 0 {
        return Err("the file ends before its L1 table does");
    }
    if header.refcount_offset + header.refcount_len > len {
        return Err("the file ends before its refcount table does");
    }
    Ok(())
}

fn open_refcounts(path: &Path, file: &File, header: &Header, len: u64) -> Result<Refcounts, OpenError> {
    let failed = |error| OpenError::io(path, error);
    let unsupported = |what: &str| OpenError::Unsupported { path: path.to_owned(), what: what.to_owned() };
    if header.dirty {
        return Err(OpenError::NeedsRepair { path: path.to_owned() });
    }
    if header.snapshots > 0 {
        return Err(unsupported("snapshots inside the image"));
    }
    if header.refcount_order != 4 {
        return Err(unsupported("refcounts of other than 16 bits"));
    }
    let table =
        read_table(file, header.refcount_offset, (header.refcount_len / 8) as usize).map_err(failed)?;
    let refcounts = Refcounts::new(header.cluster_bits, header.refcount_offset, table, len);
    if refcounts.reach() < header.size.saturating_add(header.size / 8).saturating_add(64 << 20).max(len) {
        return Err(unsupported("clusters too small for so large a disk"));
    }
    if header.autoclear != 0 {
        file.write_all_at(&[0; 8], AUTOCLEAR).map_err(failed)?;
    }
    Ok(refcounts)
}

fn open_backing(
    path: &Path,
    backing: &Backing,
    allowed: &mut Vec<PathBuf>,
    engine: &Arc<Engine>,
) -> Result<Layer, OpenError> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let named = folder.join(OsStr::from_bytes(&backing.name));
    let Some(index) = allowed.iter().position(|allowed| same(allowed, &named)) else {
        return Err(OpenError::ForeignBacking { path: path.to_owned(), backing: named });
    };
    let format = match backing.format.as_deref() {
        Some(b"raw") => DiskFormat::Raw,
        Some(b"qcow2") => DiskFormat::Qcow2,
        Some(_) => {
            let what = "a backing file of another format than raw or qcow2".to_owned();
            return Err(OpenError::Unsupported { path: path.to_owned(), what });
        }
        None => return Err(damaged(path, "it does not say which format its backing file has")),
    };
    // The path that is opened is the caller's, and it is there only once: a chain has no loop.
    let backing = allowed.swap_remove(index);
    Layer::open_backing(&backing, format, allowed, engine)
}

/// Whether both lead to the same file, by name or by links.
fn same(allowed: &Path, named: &Path) -> bool {
    let real = |path: &Path| -> io::Result<PathBuf> { path.canonicalize() };
    allowed == named || matches!((real(allowed), real(named)), (Ok(one), Ok(other)) if one == other)
}

fn wrong(path: &Path, error: HeaderError) -> OpenError {
    match error {
        HeaderError::Corrupt(what) => damaged(path, what),
        HeaderError::Unsupported(what) => {
            OpenError::Unsupported { path: path.to_owned(), what: what.to_owned() }
        }
    }
}

fn damaged(path: &Path, what: &str) -> OpenError {
    OpenError::Corrupt { path: path.to_owned(), what: what.to_owned() }
}
