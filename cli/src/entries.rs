//! Hidden first words by which Posada, executed again, becomes one of its own helpers.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use posada_container::{keeper, supervise};
use posada_kvm::supervise as kvm;

use crate::context::OWN_EXE;

/// Becomes the helper that the first word names; `None` where it names none.
pub fn dispatch(words: &[OsString]) -> Option<ExitCode> {
    let (word, rest) = words.get(1..)?.split_first()?;
    match word.to_str()? {
        posada_userns::ENTRY => Some(posada_userns::entry(rest)),
        keeper::ENTRY => Some(keeper::keeper_entry(rest)),
        supervise::ENTRY => Some(supervise::entry(rest, Path::new(OWN_EXE))),
        kvm::ENTRY => Some(kvm::entry(rest)),
        posada_box_catalog::WORKER => Some(posada_box_catalog::worker_entry(rest, posada_kvm::unpack_kernel)),
        _ => None,
    }
}
