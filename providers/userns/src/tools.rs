//! `newuidmap` and `newgidmap`: the privileged helpers that write an ordinary user's id maps.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::{Extent, IdMap, IdMapError, Side};

/// Where distributions keep them.
const PLACES: [&str; 5] = ["/usr/bin", "/bin", "/usr/local/bin", "/run/wrappers/bin", "/usr/sbin"];

/// The two helpers, found and seen to be privileged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MapTools {
    users: PathBuf,
    groups: PathBuf,
}

impl MapTools {
    /// Finds them.
    ///
    /// # Errors
    /// [`IdMapError::NoTool`], [`IdMapError::ToolUnprivileged`].
    pub fn find() -> Result<Self, IdMapError> {
        let places = PLACES.map(Path::new);
        Ok(Self { users: find_in(&places, Side::Users)?, groups: find_in(&places, Side::Groups)? })
    }

    /// Writes `map` for the user namespace of process `pid`, whose parent or owner the caller is.
    ///
    /// # Errors
    /// [`IdMapError::NotWritten`] with what the helper said.
    pub fn write(&self, pid: i32, map: &IdMap) -> Result<(), IdMapError> {
        run(&self.users, pid, &map.uids)?;
        run(&self.groups, pid, &map.gids)
    }
}

fn run(tool: &Path, pid: i32, extents: &[Extent]) -> Result<(), IdMapError> {
    let numbers = extents.iter().flat_map(|extent| [extent.inside, extent.outside, extent.count]);
    let output = Command::new(tool)
        .arg(pid.to_string())
        .args(numbers.map(|number| number.to_string()))
        .stdin(Stdio::null())
        .env_clear()
        .output()
        .map_err(|error| IdMapError::NotWritten(format!("{}: {error}", tool.display())))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.lines().next().unwrap_or("no reason given").trim();
    Err(IdMapError::NotWritten(format!("{} ended with {}: {said}", tool.display(), output.status)))
}

fn find_in(places: &[&Path], side: Side) -> Result<PathBuf, IdMapError> {
    let path = places
        .iter()
        .map(|place| place.join(side.tool()))
        .find(|path| path.is_file())
        .ok_or(IdMapError::NoTool { side })?;
    if is_privileged(&path) { Ok(path) } else { Err(IdMapError::ToolUnprivileged { path }) }
}

fn is_privileged(path: &Path) -> bool {
    const SETUID: u32 = 0o4000;
    let setuid = path
        .metadata()
        .is_ok_and(|metadata| metadata.uid() == 0 && metadata.permissions().mode() & SETUID != 0);
    setuid || has_capabilities(path)
}

fn has_capabilities(path: &Path) -> bool {
    let Ok(path) = CString::new(path.as_os_str().as_bytes()) else { return false };
    let mut value = [0_u8; 64];
    rustix::fs::getxattr(path.as_c_str(), c"security.capability", &mut value[..]).is_ok_and(|size| size > 0)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn tells_a_missing_helper_from_one_without_privilege() {
        let place = tempfile::tempdir().unwrap();
        let missing = find_in(&[place.path()], Side::Users).unwrap_err();
        assert!(matches!(missing, IdMapError::NoTool { side: Side::Users }), "{missing}");

        let tool = place.path().join("newuidmap");
        fs::write(&tool, "").unwrap();
        let plain = find_in(&[place.path()], Side::Users).unwrap_err();
        assert!(matches!(&plain, IdMapError::ToolUnprivileged { path } if *path == tool), "{plain}");

        fs::set_permissions(&tool, fs::Permissions::from_mode(0o4755)).unwrap();
        assert_eq!(find_in(&[place.path()], Side::Users).unwrap(), tool);
    }
}
