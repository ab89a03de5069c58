//! The machine's own host key, alone, and the key that may log in.

use std::io;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

use posada_provider_api::GuestAccess;

use super::file::{put, text};
use super::passwd::User;
use crate::failure::{During, Failure};

const HOST_KEY: &str = "/etc/ssh/ssh_host_ed25519_key";
const CONFIG: &str = "/etc/ssh/sshd_config";
const DROP_IN: &str = "/etc/ssh/sshd_config.d/00-posada.conf";
const SERVERS: [&str; 4] = ["/usr/sbin/sshd", "/usr/bin/sshd", "/sbin/sshd", "/usr/local/sbin/sshd"];

/// Marks configuration lines of the box that would offer another host key.
const SET_ASIDE: &str = "#posada: ";

/// Writes keys and configuration.
///
/// # Errors
/// [`Failure::Box`] where the box has no sshd; [`Failure`] where a file cannot be written.
pub fn write(access: &GuestAccess, user: &User) -> Result<(), Failure> {
    if !SERVERS.iter().any(|path| Path::new(path).is_file()) {
        let what = format!("it has no SSH server: none of {} is there", SERVERS.join(", "));
        return Err(Failure::of_box(what, "build the box with the package `openssh-server`"));
    }
    let root = (0, 0);
    fs_err::create_dir_all("/etc/ssh").during("make /etc/ssh in the machine")?;
    put(Path::new(HOST_KEY), &ending_in_newline(&access.host_key), 0o600, root)?;
    put(Path::new(&format!("{HOST_KEY}.pub")), &ending_in_newline(&access.host_key_public), 0o644, root)?;
    let config = text(Path::new(CONFIG))?;
    let rewritten = only_our_key(&config);
    if rewritten != config {
        put(Path::new(CONFIG), &rewritten, 0o644, root)?;
    }
    if includes_drop_ins(&rewritten) {
        fs_err::create_dir_all("/etc/ssh/sshd_config.d")
            .during("make /etc/ssh/sshd_config.d in the machine")?;
        put(Path::new(DROP_IN), &format!("HostKey {HOST_KEY}\n"), 0o644, root)?;
    }
    authorize(&access.authorized_key, user)
}

fn ending_in_newline(text: &str) -> String {
    format!("{}\n", text.trim_end())
}

/// Splits a line of sshd_config(5) into keyword and value.
fn keyword(line: &str) -> Option<(String, &str)> {
    let line = line.trim();
    let end = line.find(|c: char| c.is_whitespace() || c == '=')?;
    (!line.starts_with('#'))
        .then(|| (line[..end].to_ascii_lowercase(), line[end..].trim_start_matches([' ', '\t', '='])))
}

fn includes_drop_ins(config: &str) -> bool {
    config
        .lines()
        .map_while(|line| match keyword(line) {
            // What comes after a Match is conditional.
            Some((word, _)) if word == "match" => None,
            other => Some(other),
        })
        .flatten()
        .any(|(word, value)| word == "include" && value.contains("/etc/ssh/sshd_config.d/*.conf"))
}

/// The configuration with other host keys set aside, and ours named first where no drop-in is read.
fn only_our_key(config: &str) -> String {
    let ours = format!("HostKey {HOST_KEY}");
    let mut result = String::new();
    if !includes_drop_ins(config) && config.lines().next() != Some(ours.as_str()) {
        result.push_str(&ours);
        result.push('\n');
    }
    for (index, line) in config.lines().enumerate() {
        let other = keyword(line).is_some_and(|(word, _)| word == "hostkey") && !(index == 0 && line == ours);
        if other {
            result.push_str(SET_ASIDE);
        }
        result.push_str(line);
        result.push('\n');
    }
    result
}

/// Lets `key` log in as `user`; keys that are there already stay.
fn authorize(key: &str, user: &User) -> Result<(), Failure> {
    let owner = (user.uid, user.gid);
    let dir = user.home.join(".ssh");
    make_dir(&user.home, 0o755, owner)?;
    make_dir(&dir, 0o700, owner)?;
    let path = dir.join("authorized_keys");
    let there = text(&path)?;
    let key = key.trim();
    if there.lines().any(|line| line.trim() == key) {
        return Ok(());
    }
    let gap = if there.is_empty() || there.ends_with('\n') { "" } else { "\n" };
    put(&path, &format!("{there}{gap}{key}\n"), 0o600, owner)
}

fn make_dir(path: &Path, mode: u32, owner: (u32, u32)) -> Result<(), Failure> {
    let make = || -> io::Result<()> {
        match fs_err::create_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
            result => result?,
        }
        chown(path, Some(owner.0), Some(owner.1))?;
        fs_err::set_permissions(path, std::fs::Permissions::from_mode(mode))
    };
    make().during(format_args!("make {} in the machine", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debians_configuration_is_left_alone() {
        let config =
            "Include /etc/ssh/sshd_config.d/*.conf\n#HostKey /etc/ssh/ssh_host_rsa_key\nUsePAM yes\n";
        assert_eq!(only_our_key(config), config);
        assert!(includes_drop_ins(config));
    }

    #[test]
    fn other_host_keys_are_set_aside_and_once_is_enough() {
        let config = "Port 22\nHostKey /etc/ssh/ssh_host_rsa_key\nhostkey=/x\nMatch User a\nInclude /etc/ssh/sshd_config.d/*.conf\n";
        let once = only_our_key(config);
        assert_eq!(
            once,
            "HostKey /etc/ssh/ssh_host_ed25519_key\nPort 22\n#posada: HostKey /etc/ssh/ssh_host_rsa_key\n#posada: hostkey=/x\nMatch User a\nInclude /etc/ssh/sshd_config.d/*.conf\n"
        );
        assert_eq!(only_our_key(&once), once);
    }

    #[test]
    fn a_key_is_added_once_beside_others() {
        let home = tempfile::tempdir().unwrap();
        let user = User { uid: 0, gid: 0, home: home.path().join("ana") };
        authorize("ssh-ed25519 AAAA one", &user).unwrap();
        let path = user.home.join(".ssh/authorized_keys");
        fs_err::write(&path, "ssh-ed25519 AAAA one\nssh-rsa other").unwrap();
        authorize("ssh-ed25519 AAAA one\n", &user).unwrap();
        authorize("ssh-ed25519 BBBB two", &user).unwrap();
        let text = fs_err::read_to_string(&path).unwrap();
        assert_eq!(text, "ssh-ed25519 AAAA one\nssh-rsa other\nssh-ed25519 BBBB two\n");
        assert_eq!(fs_err::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
