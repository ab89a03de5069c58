//! Files and directories on their way into a machine.
//!
//! No SFTP: not every box has an SFTP server, and it can neither write as root nor put a file into its place
//! whole. A file goes through `cat` into a temporary file beside its destination and is renamed; a directory
//! goes through `tar`.
//!
//! Destinations: `~/` and relative paths begin at the login user's home; parents that are missing are made.
//! A file whose destination ends in `/`, or is a directory, gets its own name in there. A directory *becomes*
//! its destination, merged into what is there (nothing is deleted), so that a second copy changes nothing;
//! only where the destination ends in `/` does it get its own name in there.
//!
//! The login user writes, and owns what is written. Where that user may not, `sudo` does and root owns it.

use std::fs::Metadata;
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::UNIX_EPOCH;

use super::{Captured, Stdin, Transport, TransportError, capture};
use crate::quote;

/// Exit status of the placing scripts: the login user may not write there, and there is no way to be root.
const DENIED: i32 = 77;

/// Common head of the placing scripts; `$1` destination, `$2` name of the source, `$3` its mode.
const HEAD: &str = r#"
dest=$1 base=$2 mode=$3
case $dest in
    "~") dest=$HOME/ ;;
    "~/"*) dest=$HOME/${dest#"~/"} ;;
    /*) ;;
    *) dest=$HOME/$dest ;;
esac
nearest() {
    near=$1
    while [ ! -e "$near" ]; do near=$(dirname -- "$near"); done
    [ -d "$near" ] || { echo "$near is not a directory" >&2; exit 1; }
}
place() {
    if [ -w "$near" ]; then
        exec /bin/sh -c "$@"
    elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
        exec sudo -n -- /bin/sh -c "$@"
    fi
    echo "$(id -un) may not write in $near, and cannot be root without a password" >&2
    exit 77
}
"#;

/// Puts a file in its place; `$4` is its size: a connection that breaks looks like the end of the file.
const FILE: &str = r#"
case $dest in */) dest=$dest$base ;; *) [ ! -d "$dest" ] || dest=$dest/$base ;; esac
[ ! -d "$dest" ] || { echo "$dest is a directory" >&2; exit 1; }
nearest "$(dirname -- "$dest")"
place '
    umask 022
    dir=$(dirname -- "$1")
    mkdir -p -- "$dir" || exit 1
    part=$(mktemp "$dir/.posada.XXXXXXXX") || exit 1
    trap "rm -f -- \"\$part\"" EXIT
    trap "exit 1" HUP INT TERM
    cat >"$part" || exit 1
    [ "$(wc -c <"$part")" -eq "$3" ] || { echo "only a part of the file came" >&2; exit 1; }
    chmod "$2" "$part" && mv -f -- "$part" "$1"
' posada "$dest" "$mode" "$4"
"#;

/// Unpacks a directory in its place.
const DIRECTORY: &str = r#"
case $dest in */) [ "$dest" = "$HOME/" ] && [ "$1" = "~" ] || dest=$dest$base ;; esac
[ ! -e "$dest" ] || [ -d "$dest" ] || { echo "$dest is not a directory" >&2; exit 1; }
command -v tar >/dev/null 2>&1 || { echo "there is no tar in the machine" >&2; exit 1; }
nearest "$dest"
place '
    umask 022
    if [ ! -d "$1" ]; then mkdir -p -- "$1" && chmod "$2" "$1" || exit 1; fi
    cd -- "$1" && exec tar -xopf -
' posada "$dest" "$mode"
"#;

/// Copies a file of this host (or what a link leads to) to `destination` in the machine, with its mode.
///
/// # Errors
/// [`TransportError::Io`] where the source cannot be read, [`TransportError::Upload`] where the destination
/// cannot be written, and those of [`Transport::run`].
pub fn upload_file(
    transport: &mut dyn Transport,
    source: &Path,
    destination: &str,
) -> Result<(), TransportError> {
    let mut file = fs_err::File::open(source).map_err(unreadable)?;
    let meta = file.metadata().map_err(unreadable)?;
    if !meta.is_file() {
        return Err(unreadable(io::Error::other(format!("`{}` is not a file", source.display()))));
    }
    let size = meta.len().to_string();
    let command = command(FILE, destination, source, &meta, &size)?;
    let done = capture(transport, &command, Stdin::Reader(&mut file))?;
    settled(destination, &done)
}

/// Copies a directory of this host, with all in it, to `destination` in the machine. Modes, times and links
/// are kept; owners are not.
///
/// # Errors
/// As [`upload_file`]; also where the directory holds something that cannot be copied, as a socket.
pub fn upload_dir(
    transport: &mut dyn Transport,
    source: &Path,
    destination: &str,
) -> Result<(), TransportError> {
    let meta = fs_err::metadata(source).map_err(unreadable)?;
    let command = command(DIRECTORY, destination, source, &meta, "")?;
    let (mut reader, writer) = io::pipe().map_err(unreadable)?;
    let (packed, done) = std::thread::scope(|scope| {
        let packer = scope.spawn(|| pack(source, writer));
        let done = capture(transport, &command, Stdin::Reader(&mut reader));
        // Without a reader the packer stops, wherever it is.
        drop(reader);
        (packer.join(), done)
    });
    match packed {
        Ok(Err(e)) if e.kind() != io::ErrorKind::BrokenPipe => return Err(unreadable(e)),
        Ok(_) => {}
        Err(panic) => std::panic::resume_unwind(panic),
    }
    settled(destination, &done?)
}

fn unreadable(source: io::Error) -> TransportError {
    TransportError::Io { what: "reading what is to be copied", source }
}

fn command(
    script: &str,
    destination: &str,
    source: &Path,
    meta: &Metadata,
    last: &str,
) -> Result<String, TransportError> {
    let base = source.file_name().unwrap_or_default().to_str().ok_or_else(|| {
        unreadable(io::Error::other(format!("the name of `{}` is not UTF-8", source.display())))
    })?;
    let mode = format!("{:04o}", meta.permissions().mode() & 0o7777);
    let words = [&format!("{HEAD}{script}"), "posada", destination, base, &mode, last].map(quote::word);
    Ok(format!("exec /bin/sh -c {}", words.join(" ")))
}

fn settled(destination: &str, done: &Captured) -> Result<(), TransportError> {
    if done.status.success() {
        return Ok(());
    }
    let said: Vec<&str> = done.err.lines().filter(|l| !l.trim().is_empty()).collect();
    let why = if said.is_empty() {
        done.status.to_string()
    } else {
        said[said.len().saturating_sub(3)..].join("; ")
    };
    let remedy = (done.status == super::ExitStatus::Code(DENIED)).then(|| {
        "choose a destination the login user may write to, or allow that user sudo without a password in the box"
            .to_owned()
    });
    Err(TransportError::Upload { path: destination.to_owned(), why, remedy })
}

/// Writes all that is in `source` as a tar archive. The directory itself is not in it: unpacking must not
/// change the mode of a directory that was there before, as `/tmp`.
fn pack(source: &Path, to: impl Write) -> io::Result<()> {
    let mut archive = tar::Builder::new(BufWriter::with_capacity(256 * 1024, to));
    for entry in walkdir::WalkDir::new(source).min_depth(1).sort_by_file_name() {
        let entry = entry?;
        let path = entry.path();
        let name = path.strip_prefix(source).map_err(io::Error::other)?;
        let meta = entry.metadata()?;
        let mut header = tar::Header::new_gnu();
        header.set_mode(meta.permissions().mode() & 0o7777);
        header.set_uid(0);
        header.set_gid(0);
        let modified = meta.modified().ok().and_then(|t| t.duration_since(UNIX_EPOCH).ok());
        header.set_mtime(modified.map_or(0, |t| t.as_secs()));
        header.set_size(0);
        if meta.is_dir() {
            header.set_entry_type(tar::EntryType::Directory);
            archive.append_data(&mut header, name, io::empty())?;
        } else if meta.is_symlink() {
            header.set_entry_type(tar::EntryType::Symlink);
            archive.append_link(&mut header, name, fs_err::read_link(path)?)?;
        } else if meta.is_file() {
            header.set_entry_type(tar::EntryType::Regular);
            header.set_size(meta.len());
            let exact = Exact { rest: meta.len(), file: fs_err::File::open(path)? };
            archive.append_data(&mut header, name, exact)?;
        } else {
            return Err(io::Error::other(format!(
                "`{}` is neither a file nor a directory nor a link",
                path.display()
            )));
        }
    }
    archive.into_inner()?.flush()
}

/// A file that must yield just as many bytes as its header has promised.
struct Exact {
    rest: u64,
    file: fs_err::File,
}

impl Read for Exact {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.rest).unwrap_or(usize::MAX).min(buffer.len());
        let got = self.file.read(&mut buffer[..most])?;
        if got == 0 && most > 0 {
            let what = format!("`{}` became shorter while it was read", self.file.path().display());
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, what));
        }
        self.rest -= got as u64;
        Ok(got)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_neither_file_nor_directory_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(dir.path().join("s.sock")).unwrap();
        let error = pack(dir.path(), io::sink()).unwrap_err();
        assert!(error.to_string().contains("s.sock"), "{error}");
    }

    #[test]
    fn long_names_and_links_survive() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("d".repeat(120)).join("e".repeat(120));
        std::fs::create_dir_all(&deep).unwrap();
        std::fs::write(deep.join("f"), "x").unwrap();
        std::os::unix::fs::symlink("t".repeat(150), dir.path().join("link")).unwrap();
        let mut bytes = Vec::new();
        pack(dir.path(), &mut bytes).unwrap();
        let out = tempfile::tempdir().unwrap();
        tar::Archive::new(&bytes[..]).unpack(out.path()).unwrap();
        assert_eq!(std::fs::read_link(out.path().join("link")).unwrap().as_os_str().len(), 150);
        let file = out.path().join("d".repeat(120)).join("e".repeat(120)).join("f");
        assert_eq!(std::fs::read(file).unwrap(), b"x");
    }
}
