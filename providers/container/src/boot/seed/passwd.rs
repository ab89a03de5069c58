//! The login user, looked up in the machine's own `/etc/passwd` (passwd(5)).

use std::path::{Path, PathBuf};

use super::file;
use crate::failure::Failure;

/// A user of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// User id, in the machine.
    pub uid: u32,
    /// Group id, in the machine.
    pub gid: u32,
    /// Home directory.
    pub home: PathBuf,
}

/// Finds the user whom Posada logs in as.
///
/// # Errors
/// [`Failure::Box`] where the box has no such user; it names those there are.
pub fn login_user(name: &str) -> Result<User, Failure> {
    let text = file::text(Path::new("/etc/passwd"))?;
    find(&text, name).ok_or_else(|| {
        let known = people(&text).join(", ");
        let known = if known.is_empty() { "nobody".to_owned() } else { known };
        Failure::of_box(
            format!("it has no user `{name}` to log in as"),
            format!("users that can log in: {known}; name one as `user` under `ssh` in the Vmfile"),
        )
    })
}

fn entries(text: &str) -> impl Iterator<Item = (&str, User, &str)> {
    text.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, _, uid, gid, _, home, shell] = fields[..] else { return None };
        Some((name, User { uid: uid.parse().ok()?, gid: gid.parse().ok()?, home: home.into() }, shell))
    })
}

fn find(text: &str, name: &str) -> Option<User> {
    entries(text).find(|(known, user, _)| *known == name && user.home.is_absolute()).map(|(_, user, _)| user)
}

/// Users with a shell, without those of services.
fn people(text: &str) -> Vec<&str> {
    entries(text)
        .filter(|(_, user, shell)| {
            let person = user.uid == 0 || (1000..60_000).contains(&user.uid);
            person && !shell.ends_with("nologin") && !shell.ends_with("false")
        })
        .map(|(name, _, _)| name)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\n\
                          daemon:x:1:1::/usr/sbin:/usr/sbin/nologin\n\
                          torn:x:1\n\
                          ana:x:1000:1001:Ana,,,:/home/ana:/bin/bash\n\
                          git:x:1002:1002::/srv/git:/usr/bin/false\n";

    #[test]
    fn finds_a_user_and_knows_people_from_services() {
        assert_eq!(find(PASSWD, "ana"), Some(User { uid: 1000, gid: 1001, home: "/home/ana".into() }));
        assert_eq!(find(PASSWD, "eve"), None);
        assert_eq!(find(PASSWD, "torn"), None);
        assert_eq!(people(PASSWD), ["root", "ana"]);
    }
}
