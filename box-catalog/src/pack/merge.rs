//! The trees of an overlay, seen as the one that a machine sees, in an order that is always the same.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use posada_provider_api::OverlayTree;
use rustix::fs::{self, AtFlags, Dir, FileType, Mode, OFlags, Stat};

/// Deepest path, names.
const MAX_DEPTH: usize = 200;
const OPAQUE: &str = "user.overlay.opaque";

/// Something in the merged tree.
pub struct Found<'a> {
    /// Where, relative to the root; empty for the root itself.
    pub path: &'a Path,
    /// What the tree says of it that is seen.
    pub stat: Stat,
    /// That tree's number.
    pub layer: usize,
    /// The directory that it is in, in that tree; its name is the path's last.
    pub parent: &'a OwnedFd,
}

/// What is to be done below a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Go {
    /// All in it is looked at.
    Into,
    /// Nothing in it is.
    Past,
}

/// One tree's directory.
struct Part {
    layer: usize,
    directory: OwnedFd,
}

/// Shows all that is seen of `trees` to `visit`, directories before what is in them. No symbolic link is followed.
///
/// # Errors
/// Those of the file system, with the path, and of `visit`.
pub fn merge(trees: &[OverlayTree], visit: &mut dyn FnMut(&Found<'_>) -> io::Result<Go>) -> io::Result<()> {
    let mut parts = Vec::new();
    for (layer, tree) in trees.iter().enumerate().rev() {
        let failed = |errno: rustix::io::Errno| told(&tree.path, errno.into());
        match fs::open(&tree.path, DIRECTORY, Mode::empty()) {
            // A machine that was never started has none of its own.
            Err(rustix::io::Errno::NOENT) if layer + 1 == trees.len() && layer > 0 => {}
            opened => parts.push(Part { layer, directory: opened.map_err(failed)? }),
        }
    }
    let Some(top) = parts.first() else { return Ok(()) };
    let stat = fs::fstat(&top.directory)?;
    let here = fs::openat(&top.directory, ".", DIRECTORY, Mode::empty())?;
    if visit(&Found { path: Path::new(""), stat, layer: top.layer, parent: &here })? == Go::Into {
        directory(Path::new(""), &parts, visit, 0)?;
    }
    Ok(())
}

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

fn directory(
    path: &Path,
    parts: &[Part],
    visit: &mut dyn FnMut(&Found<'_>) -> io::Result<Go>,
    depth: usize,
) -> io::Result<()> {
    if depth > MAX_DEPTH {
        return Err(told(path, io::Error::other("directories lie too deep in each other")));
    }
    // The topmost part that has a name decides what it is.
    let mut names: BTreeMap<OsString, usize> = BTreeMap::new();
    for (at, part) in parts.iter().enumerate() {
        for entry in Dir::read_from(&part.directory).map_err(|errno| told(path, errno.into()))? {
            let entry = entry.map_err(|errno| told(path, errno.into()))?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                names.entry(OsString::from_vec(name.to_vec())).or_insert(at);
            }
        }
    }
    for (name, at) in names {
        let path = path.join(&name);
        let failed = |errno: rustix::io::Errno| told(&path, errno.into());
        let part = &parts[at];
        let stat = fs::statat(&part.directory, &name, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
        if hides(&stat) {
            continue;
        }
        let found = Found { path: &path, stat, layer: part.layer, parent: &part.directory };
        if visit(&found)? == Go::Past || FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            continue;
        }
        directory(&path, &same(&parts[at..], &name).map_err(|error| told(&path, error))?, visit, depth + 1)?;
    }
    Ok(())
}

/// The directory `name` in `parts`, down to where something hides what is below.
fn same(parts: &[Part], name: &OsString) -> io::Result<Vec<Part>> {
    let mut found = Vec::new();
    for part in parts {
        match fs::openat(&part.directory, name, DIRECTORY, Mode::empty()) {
            Ok(directory) => {
                let opaque = is_opaque(&directory)?;
                found.push(Part { layer: part.layer, directory });
                if opaque {
                    break;
                }
            }
            Err(rustix::io::Errno::NOENT) => {}
            // A file or a whiteout.
            Err(rustix::io::Errno::NOTDIR | rustix::io::Errno::LOOP) => break,
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(found)
}

fn is_opaque(directory: &OwnedFd) -> io::Result<bool> {
    let mut value = [0; 2];
    match fs::fgetxattr(directory, OPAQUE, &mut value[..]) {
        Ok(length) => Ok(value[..length] == *b"y"),
        Err(
            rustix::io::Errno::NODATA
            | rustix::io::Errno::NOTSUP
            | rustix::io::Errno::PERM
            | rustix::io::Errno::RANGE,
        ) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

fn hides(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

/// An error that names what it happened to.
pub fn told(path: &Path, error: io::Error) -> io::Error {
    let shown: PathBuf = Path::new("/").join(path);
    io::Error::new(
        error.kind(),
        format!("{}: {error}", String::from_utf8_lossy(shown.as_os_str().as_bytes())),
    )
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn trees(root: &Path) -> Vec<OverlayTree> {
        ["lower", "upper"]
            .map(|name| OverlayTree { path: root.join(name), first_uid: 0, first_gid: 0 })
            .into()
    }

    fn seen(trees: &[OverlayTree]) -> Vec<String> {
        let mut seen = Vec::new();
        merge(trees, &mut |found| {
            seen.push(format!("{}:{}", found.layer, found.path.display()));
            Ok(if found.path.ends_with("past") { Go::Past } else { Go::Into })
        })
        .unwrap();
        seen
    }

    #[test]
    fn what_lies_above_is_seen_and_what_it_hides_is_not() {
        let root = tempfile::tempdir().unwrap();
        let file = |path: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        };
        for path in [
            "lower/a/one",
            "lower/a/two",
            "lower/b/deep/one",
            "lower/c",
            "lower/link/x",
            "upper/a/two",
            "upper/c/new",
            "upper/past/x",
            "upper/z",
        ] {
            file(path);
        }
        std::os::unix::fs::symlink("/etc", root.path().join("upper/link")).unwrap();
        assert_eq!(
            seen(&trees(root.path())),
            [
                "1:",
                "1:a",
                "0:a/one",
                "1:a/two",
                "0:b",
                "0:b/deep",
                "0:b/deep/one",
                "1:c",
                "1:c/new",
                "1:link",
                "1:past",
                "1:z"
            ]
        );
        assert_eq!(seen(&trees(root.path())[..1]).len(), 10);
    }

    /// The kernel's own overlay is what it is compared with.
    #[test]
    fn it_is_what_the_kernel_shows() {
        let root = tempfile::tempdir().unwrap();
        let script = "set -e; cd \"$1\"; mkdir -p lower/a/x lower/b lower/gone/deep upper work root
            touch lower/a/x/1 lower/a/2 lower/b/3 lower/gone/deep/4 lower/5
            mount -t overlay -o lowerdir=lower,upperdir=upper,workdir=work,userxattr o root
            rm -r root/gone root/5 root/a/x; mkdir root/gone root/a/x; touch root/gone/new root/a/x/new root/6
            rm -r root/b; ln -s a root/b
            cd root; find . -mindepth 1 -printf '%P\\n' | sort";
        let made = Command::new("unshare")
            .args(["--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"])
            .arg(root.path())
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let mut seen: Vec<String> = seen(&trees(root.path()))
            .iter()
            .filter_map(|line| line.split_once(':').map(|(_, path)| path.to_owned()))
            .filter(|path| !path.is_empty())
            .collect();
        seen.sort();
        let kernels: Vec<String> =
            String::from_utf8(made.stdout).unwrap().lines().map(str::to_owned).collect();
        assert!(kernels.contains(&"gone/new".to_owned()) && !kernels.contains(&"gone/deep".to_owned()));
        assert_eq!(seen, kernels);
    }
}
