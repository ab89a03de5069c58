//! Writing a file of the machine only where it differs, and blocks of lines in files that are shared with it.

use std::io;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

use crate::failure::{During, Failure};

/// Makes `path` a plain file with `text`, the permissions `mode` and an owner. What is there is replaced as a
/// whole, also where it is a link. It is not synced: a file that a power failure tore differs, and the next
/// start writes it again.
///
/// # Errors
/// [`Failure`] where it cannot be written.
pub fn put(path: &Path, text: &str, mode: u32, owner: (u32, u32)) -> Result<(), Failure> {
    if is_so(path, text, mode) {
        return Ok(());
    }
    let mut part = path.as_os_str().to_owned();
    part.push(".posada");
    let part = Path::new(&part);
    let write = || -> io::Result<()> {
        match fs_err::remove_file(part) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        // A secret is never readable, not even for a moment.
        let mut file = open_new(part)?;
        io::Write::write_all(&mut file, text.as_bytes())?;
        chown(part, Some(owner.0), Some(owner.1))?;
        file.set_permissions(std::fs::Permissions::from_mode(mode))?;
        fs_err::rename(part, path)
    };
    write().during(format_args!("write {} in the machine", path.display()))
}

fn open_new(path: &Path) -> io::Result<std::fs::File> {
    use std::os::unix::fs::OpenOptionsExt;
    std::fs::File::options().write(true).create_new(true).mode(0o600).open(path)
}

fn is_so(path: &Path, text: &str, mode: u32) -> bool {
    let plain = fs_err::symlink_metadata(path)
        .is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o7777 == mode);
    plain && fs_err::read(path).is_ok_and(|there| there == text.as_bytes())
}

/// The text of a file; empty where there is none.
///
/// # Errors
/// [`Failure`] where it cannot be read as text.
pub fn text(path: &Path) -> Result<String, Failure> {
    match fs_err::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        text => text.during(format_args!("read {} in the machine", path.display())),
    }
}

const BEGIN: &str = "# posada: begin";
const END: &str = "# posada: end";

/// `text` with `lines` in Posada's own block, which is at the end, or nowhere where there are no lines. What
/// the machine's users wrote around it stays.
#[must_use]
pub fn with_block(text: &str, lines: &[String]) -> String {
    let mut result = String::new();
    let mut inside = false;
    for line in text.lines() {
        match line {
            BEGIN => inside = true,
            END if inside => inside = false,
            _ if inside => {}
            _ => {
                result.push_str(line);
                result.push('\n');
            }
        }
    }
    if !lines.is_empty() {
        for line in [BEGIN].into_iter().chain(lines.iter().map(String::as_str)).chain([END]) {
            result.push_str(line);
            result.push('\n');
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_link_is_replaced_and_what_it_leads_to_is_untouched() {
        let dir = tempfile::tempdir().unwrap();
        let (target, link) = (dir.path().join("precious"), dir.path().join("link"));
        fs_err::write(&target, "precious").unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        put(&link, "new", 0o640, (0, 7)).unwrap();
        assert_eq!(fs_err::read_to_string(&target).unwrap(), "precious");
        let metadata = fs_err::symlink_metadata(&link).unwrap();
        assert!(metadata.is_file());
        assert_eq!(metadata.permissions().mode() & 0o7777, 0o640);
        assert_eq!(std::os::unix::fs::MetadataExt::gid(&metadata), 7);
    }

    #[test]
    fn what_is_so_already_is_not_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        put(&path, "text", 0o644, (0, 0)).unwrap();
        let inode = || std::os::unix::fs::MetadataExt::ino(&fs_err::metadata(&path).unwrap());
        let first = inode();
        put(&path, "text", 0o644, (0, 0)).unwrap();
        assert_eq!(inode(), first);
        put(&path, "text", 0o600, (0, 0)).unwrap();
        assert_ne!(inode(), first, "other permissions are another file");
    }

    proptest! {
        #[test]
        fn a_block_comes_and_goes_without_trace(
            text in "([a-z#= ]{0,12}\n){0,5}",
            one in prop::collection::vec("[a-z=]{1,8}", 0..4),
            two in prop::collection::vec("[a-z=]{1,8}", 0..4),
        ) {
            prop_assume!(!text.contains(BEGIN));
            prop_assert_eq!(with_block(&with_block(&text, &one), &two), with_block(&text, &two));
            prop_assert_eq!(with_block(&with_block(&text, &one), &[]), text);
        }
    }
}
