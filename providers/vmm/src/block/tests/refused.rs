//! Images that must not be opened, and requests that must fail while the image stays whole.

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Mutex};

use super::support::*;
use crate::block::{BlockFault, Engine, FaultSink, OpenError};
use crate::config::DiskFormat::{Qcow2, Raw};

fn overlay(folder: &Path) -> (std::path::PathBuf, std::path::PathBuf) {
    let (base, path) = (folder.join("base.raw"), folder.join("disk.qcow2"));
    fs_err::write(&base, vec![7; 1 << 20]).unwrap();
    let (from, to) = (base.to_str().unwrap(), path.to_str().unwrap());
    qemu_img(&["create", "-q", "-f", "qcow2", "-b", from, "-F", "raw", to, "4M"]);
    (base, path)
}

#[test]
fn a_backing_file_that_was_not_allowed_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (base, path) = overlay(folder.path());
    assert!(
        matches!(open(&path, Qcow2, &[]), Err(OpenError::ForeignBacking { backing, .. }) if backing == base)
    );
    let other = folder.path().join("other.raw");
    fs_err::write(&other, b"").unwrap();
    assert!(matches!(open(&path, Qcow2, &[other]), Err(OpenError::ForeignBacking { .. })));
    open(&path, Qcow2, &[base]).unwrap();
}

#[test]
fn a_backing_loop_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (base, path) = overlay(folder.path());
    let (loop_, to) = (folder.path().join("loop.qcow2"), path.to_str().unwrap());
    qemu_img(&["create", "-q", "-f", "qcow2", "-b", to, "-F", "qcow2", loop_.to_str().unwrap(), "4M"]);
    let rebase = ["rebase", "-u", "-f", "qcow2", "-b", loop_.to_str().unwrap(), "-F", "qcow2", to];
    qemu_img(&rebase);
    let allowed = [base, path.clone(), loop_];
    assert!(matches!(open(&path, Qcow2, &allowed), Err(OpenError::ForeignBacking { .. })));
}

#[test]
fn two_may_not_write_one_image() {
    let folder = tempfile::tempdir().unwrap();
    let (base, path) = overlay(folder.path());
    let first = open(&path, Qcow2, std::slice::from_ref(&base)).unwrap();
    assert!(matches!(open(&path, Qcow2, std::slice::from_ref(&base)), Err(OpenError::Locked { .. })));
    let theirs = qemu_img_output(&["resize", path.to_str().unwrap(), "8M"]);
    assert!(!theirs.status.success(), "QEMU sees the lock");
    drop(first);
    open(&path, Qcow2, &[base]).unwrap();
}

#[test]
fn garbage_cut_off_and_absent_images_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let (base, path) = overlay(folder.path());
    let allowed = [base.clone()];
    assert!(matches!(open(&base, Qcow2, &[]), Err(OpenError::Corrupt { .. })));
    assert!(matches!(open(&folder.path().join("none"), Raw, &[]), Err(OpenError::Io { .. })));
    let whole = fs_err::read(&path).unwrap();
    for len in [0, 3, 71, 103, 4096, 100_000] {
        fs_err::write(&path, &whole[..len]).unwrap();
        assert!(matches!(open(&path, Qcow2, &allowed), Err(OpenError::Corrupt { .. })), "{len} bytes");
    }
    fs_err::write(&path, &whole).unwrap();
    // "dirty" among the incompatible features: counts were left for a repair.
    fs_err::OpenOptions::new().write(true).open(&path).unwrap().file().write_all_at(&[1], 79).unwrap();
    assert!(matches!(open(&path, Qcow2, &allowed), Err(OpenError::NeedsRepair { .. })));
}

#[test]
fn a_damaged_table_fails_the_request_and_is_told_once() {
    let folder = tempfile::tempdir().unwrap();
    let (base, path) = overlay(folder.path());
    let image = open(&path, Qcow2, std::slice::from_ref(&base)).unwrap();
    write(&image, 0, vec![1; 65536]).unwrap();
    settle(&image);
    drop(image);
    // The first L1 entry lies at the offset that the header has at 40.
    let bytes = fs_err::read(&path).unwrap();
    let l1 = u64::from_be_bytes(bytes[40..48].try_into().unwrap());
    let file = fs_err::OpenOptions::new().write(true).open(&path).unwrap();
    file.file().write_all_at(&(1_u64 << 63 | 0x200).to_be_bytes(), l1).unwrap();

    let told = Arc::new(Mutex::new(Vec::new()));
    let to = told.clone();
    let sink = FaultSink::new(Box::new(move |fault| to.lock().unwrap().push(fault)));
    let image = open_with(&path, Qcow2, false, &[base], Engine::new().unwrap(), Some(sink)).unwrap();
    assert!(read(&image, 0, 512).is_err());
    assert!(write(&image, 0, vec![1; 512]).is_err());
    assert!(matches!(told.lock().unwrap().as_slice(), [BlockFault::Corrupt { .. }]));
}

#[test]
fn an_entry_that_leads_to_the_l1_table_is_not_written_through() {
    let folder = tempfile::tempdir().unwrap();
    let (base, path) = overlay(folder.path());
    let image = open(&path, Qcow2, std::slice::from_ref(&base)).unwrap();
    write(&image, 0, vec![1; 65536]).unwrap();
    settle(&image);
    drop(image);
    let bytes = fs_err::read(&path).unwrap();
    let l1 = u64::from_be_bytes(bytes[40..48].try_into().unwrap());
    let l2 = u64::from_be_bytes(bytes[l1 as usize..][..8].try_into().unwrap()) & !(1 << 63);
    let file = fs_err::OpenOptions::new().write(true).open(&path).unwrap();
    file.file().write_all_at(&(1_u64 << 63 | l1).to_be_bytes(), l2).unwrap();
    let image = open(&path, Qcow2, &[base]).unwrap();
    assert!(write(&image, 0, vec![1; 512]).is_err());
    assert_eq!(fs_err::read(&path).unwrap()[l1 as usize..][..8], bytes[l1 as usize..][..8]);
}
