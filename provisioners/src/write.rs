//! Files written whole or not at all.

use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// The ending of a file that is not complete yet.
const PARTIAL: &str = ".partial";

/// Writes `bytes` to `path` with `mode`: a crash leaves the old file or the new one. Writers of one path are
/// kept apart by the caller's lock on the machine, so one name for the unfinished file is enough, and the next
/// writer clears what a crash left of it.
pub(crate) fn whole(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(PARTIAL);
    let partial = path.with_file_name(name);
    match fs_err::remove_file(&partial) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let mut file = fs_err::OpenOptions::new();
    file.write(true).create_new(true).options_mut().mode(mode);
    let mut file = file.open(&partial)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs_err::rename(&partial, path)?;
    let dir = path.parent().filter(|d| !d.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs_err::File::open(dir)?.sync_all()
}
