//! A delegated control group from the user's systemd, for an ordinary user whose session has none: a login over
//! SSH stands in a group of root's, while the user's own systemd may hand groups out.

use std::path::{Path, PathBuf};

use rustix::process::geteuid;

/// What starts a supervisor in a scope of its own.
const LAUNCHER: &[&str] =
    &["systemd-run", "--user", "--scope", "--quiet", "--collect", "--property=Delegate=yes", "--"];

/// Whether the user's systemd can be asked.
pub(crate) fn is_offered() -> bool {
    let uid = geteuid();
    let socket = PathBuf::from(format!("/run/user/{}/systemd/private", uid.as_raw()));
    !uid.is_root()
        && socket.exists()
        && ["/usr/bin", "/bin"].iter().any(|at| Path::new(at).join("systemd-run").exists())
}

/// The words to put before a supervisor's own: none where its group is delegated already.
pub(crate) fn launcher() -> &'static [&'static str] {
    let delegated = || crate::facts().own_group.is_some_and(|(_, usable)| usable);
    if is_offered() && !delegated() { LAUNCHER } else { &[] }
}
