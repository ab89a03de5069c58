//! The few programs that some commands run.

use rustix::fs::Access;

use super::{Check, Site};

pub(super) fn checks(site: &Site) -> Vec<Check> {
    vec![
        tool(site, "ssh", "install Debian's package `openssh-client`; `posada ssh` needs it for a shell"),
        tool(site, "mmdebstrap", "install Debian's package `mmdebstrap`; `posada box build` needs it"),
    ]
}

fn tool(site: &Site, name: &'static str, remedy: &str) -> Check {
    let found = std::env::split_paths(&site.path)
        .filter(|dir| dir.is_absolute())
        .map(|dir| dir.join(name))
        .find(|file| file.is_file() && rustix::fs::access(file, Access::EXEC_OK).is_ok());
    match found {
        Some(file) => Check::ok(name, file.display().to_string()),
        None => Check::warn(name, "is not installed", remedy),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::doctor::Verdict;

    #[test]
    fn finds_what_can_be_run() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ssh");
        let site = Site { home: "/".into(), path: dir.path().into(), root: "/".into() };
        assert_eq!(tool(&site, "ssh", "install it").verdict, Verdict::Warn);
        fs_err::write(&file, "").unwrap();
        fs_err::set_permissions(&file, PermissionsExt::from_mode(0o644)).unwrap();
        assert_eq!(tool(&site, "ssh", "install it").verdict, Verdict::Warn, "not executable");
        fs_err::set_permissions(&file, PermissionsExt::from_mode(0o755)).unwrap();
        assert_eq!(tool(&site, "ssh", "install it").verdict, Verdict::Ok);
    }
}
