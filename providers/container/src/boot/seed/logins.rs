//! Logins from the first moment: systemd forbids them to all but root (pam_nologin(8)) until late in its start, by
//! then sshd has long answered, and who came early was refused.

use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::failure::{During, Failure};

/// What makes `/run/nologin` at every start (tmpfiles.d(5)).
const SHIPPED: &str = "/usr/lib/tmpfiles.d/systemd-nologin.conf";
/// What takes its place, as an administrator's file of the same name does.
const MASK: &str = "/etc/tmpfiles.d/systemd-nologin.conf";

/// Keeps systemd from forbidding logins while it starts; what the box itself says of it stays.
pub(super) fn allow() -> Result<(), Failure> {
    if !Path::new(SHIPPED).exists() {
        return Ok(());
    }
    fs_err::create_dir_all("/etc/tmpfiles.d").during("make /etc/tmpfiles.d")?;
    match symlink("/dev/null", MASK) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made.during(format_args!("make {MASK}")),
    }
}
