//! Undoing the compression of one piece of a disk.

use std::cell::RefCell;
use std::io;

use flate2::{Decompress, FlushDecompress};
use zstd::stream::raw::{DParameter, Decoder, InBuffer, Operation, OutBuffer};

use crate::Result;
use crate::error::corrupt;

/// zstd's window is at most this power of two: no cluster is larger.
const WINDOW: u32 = 22;

thread_local! {
    // Made once for each thread: setting one up takes longer than unpacking a small piece.
    static WRAPPED: RefCell<Decompress> = RefCell::new(Decompress::new(true));
    static BARE: RefCell<Decompress> = RefCell::new(Decompress::new(false));
}

/// Unpacks RFC 1950 data with its header (`wrapped`), or bare RFC 1951 data, into all of `into`; what comes behind it
/// in `packed` is left alone.
pub fn deflate(wrapped: bool, packed: &[u8], into: &mut [u8]) -> Result<()> {
    let done = (if wrapped { &WRAPPED } else { &BARE }).with_borrow_mut(|inflate| {
        inflate.reset(wrapped);
        inflate.decompress(packed, into, FlushDecompress::Finish).map(|_| inflate.total_out())
    });
    match done {
        Ok(count) if count == into.len() as u64 => Ok(()),
        Ok(_) => Err(corrupt("a packed piece is too short")),
        Err(error) => Err(corrupt(format!("a packed piece cannot be unpacked: {error}"))),
    }
}

/// Unpacks a zstd frame into all of `into`; what comes behind it in `packed` is left alone.
pub fn zstd(packed: &[u8], into: &mut [u8]) -> Result<()> {
    let bad = |error: io::Error| corrupt(format!("a packed piece cannot be unpacked: {error}"));
    let mut decoder = Decoder::new().map_err(bad)?;
    decoder.set_parameter(DParameter::WindowLogMax(WINDOW)).map_err(bad)?;
    let mut from = InBuffer::around(packed);
    let mut to = OutBuffer::around(into);
    while to.pos() < to.capacity() {
        let before = (from.pos(), to.pos());
        decoder.run(&mut from, &mut to).map_err(bad)?;
        if before == (from.pos(), to.pos()) {
            return Err(corrupt("a packed piece is too short"));
        }
    }
    Ok(())
}
