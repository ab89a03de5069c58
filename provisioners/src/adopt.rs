//! First contact with a machine that could not be told its keys before it booted: a box as Vagrant's are, whose login
//! user lets in whoever has a key that everybody has.
//!
//! That key is used once, to take it away: the machine is given its own login key and its own host key, the ones that
//! every machine of Posada has from the beginning. Who answers at first contact is trusted; nobody else is on the
//! machine's cable.

use std::fmt::Write as _;

use posada_provider_api::GuestAccess;

use crate::quote;
use crate::transport::{Captured, Stdin, Transport, TransportError, capture};

/// The private key that Vagrant publishes for its boxes to let in (its RSA one, which every box has).
pub const INSECURE_KEY: &str = include_str!("../assets/vagrant-insecure-key");

/// Why a machine could not be given its keys.
#[derive(Debug, thiserror::Error)]
pub enum AdoptError {
    /// The connection.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// The machine did not take them.
    #[error("the machine did not take its keys: {said}")]
    Refused {
        /// What it said last.
        said: String,
    },
}

/// Gives a machine its own keys, over a session of its login user, who must be able to use `sudo` without a password.
/// Whatever keys let that user in before do so no more. Done twice, it changes nothing.
///
/// # Errors
/// [`AdoptError`]. Until it has succeeded, the keys from before still let in.
pub fn adopt(transport: &mut dyn Transport, access: &GuestAccess) -> Result<(), AdoptError> {
    let script = script(access);
    let Captured { status, out, err } =
        capture(transport, "sudo -n -- sh -s", Stdin::Bytes(script.as_bytes()))?;
    if status.success() {
        return Ok(());
    }
    let said = [err, out].iter().flat_map(|text| text.lines()).next_back().unwrap_or_default().to_owned();
    let said = if said.is_empty() { status.to_string() } else { said };
    Err(AdoptError::Refused { said })
}

/// Files are put into place whole, the login key last: from then on the insecure one opens nothing.
fn script(access: &GuestAccess) -> String {
    let mut script = String::from("set -e\numask 077\n");
    let mut set = |name: &str, value: &str| {
        // Writing to a string cannot fail.
        let _ = writeln!(script, "{name}={}", quote::word(value));
    };
    set("user", &access.user);
    set("login_key", &access.authorized_key);
    set("host_key", &access.host_key);
    set("host_key_public", &access.host_key_public);
    script.push_str(
        r#"
host=/etc/ssh/ssh_host_ed25519_key
if ! printf '%s\n' "$host_key" | cmp -s - "$host"; then
    printf '%s\n' "$host_key" >"$host.posada"
    printf '%s\n' "$host_key_public" >"$host.pub"
    chmod 644 "$host.pub"
    mv -f "$host.posada" "$host"
fi
# A reload leaves this connection alone.
for unit in ssh sshd; do
    if systemctl try-reload-or-restart "$unit" 2>/dev/null; then break; fi
    if service "$unit" reload 2>/dev/null; then break; fi
done || :
home=$(getent passwd "$user" | cut -d: -f6)
mkdir -p "$home/.ssh"
printf '%s\n' "$login_key" >"$home/.ssh/authorized_keys.posada"
chown "$user:" "$home/.ssh" "$home/.ssh/authorized_keys.posada"
mv -f "$home/.ssh/authorized_keys.posada" "$home/.ssh/authorized_keys"
"#,
    );
    script
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::OutputStream;
    use crate::transport::{ExitStatus, Output};

    /// Runs what it is given here, with `sudo` taken away and `/etc/ssh` and the user's home moved into `root`.
    struct Here(tempfile::TempDir);

    impl Transport for Here {
        fn run(
            &mut self,
            command: &str,
            stdin: Stdin<'_>,
            output: Output<'_>,
        ) -> Result<ExitStatus, TransportError> {
            assert_eq!(command, "sudo -n -- sh -s");
            let Stdin::Bytes(script) = stdin else { panic!("a script") };
            let root = self.0.path().display().to_string();
            let script = String::from_utf8(script.to_vec())
                .unwrap()
                .replace("host=/etc/ssh/", &format!("host={root}/"))
                .replace("$(getent passwd \"$user\" | cut -d: -f6)", &format!("{root}/home"))
                .replace("for unit in ssh sshd", "for unit in posada-no-such-unit")
                .replace("chown", "true");
            let done = std::process::Command::new("sh").arg("-c").arg(script).output().unwrap();
            output(OutputStream::Stderr, &done.stderr);
            Ok(ExitStatus::Code(done.status.code().unwrap()))
        }
    }

    fn access() -> GuestAccess {
        GuestAccess {
            user: "vagrant".into(),
            authorized_key: "ssh-ed25519 AAAA it's ours".into(),
            host_key: "-----BEGIN\nPRIVATE\n-----END".into(),
            host_key_public: "ssh-ed25519 BBBB".into(),
        }
    }

    #[test]
    fn keys_are_replaced_and_once_is_enough() {
        use std::os::unix::fs::PermissionsExt;
        let mut here = Here(tempfile::tempdir().unwrap());
        let root = here.0.path().to_owned();
        fs_err::create_dir_all(root.join("home/.ssh")).unwrap();
        fs_err::write(root.join("home/.ssh/authorized_keys"), "ssh-rsa INSECURE").unwrap();
        for _ in 0..2 {
            adopt(&mut here, &access()).unwrap();
            let keys = fs_err::read_to_string(root.join("home/.ssh/authorized_keys")).unwrap();
            assert_eq!(keys, "ssh-ed25519 AAAA it's ours\n");
            let host = root.join("ssh_host_ed25519_key");
            assert_eq!(fs_err::read_to_string(&host).unwrap(), "-----BEGIN\nPRIVATE\n-----END\n");
            assert_eq!(fs_err::metadata(&host).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }

    #[test]
    fn a_machine_that_refuses_says_why() {
        let mut here = Here(tempfile::tempdir().unwrap());
        // The home is a file: nothing can be put there.
        fs_err::write(here.0.path().join("home"), "").unwrap();
        let error = adopt(&mut here, &access()).unwrap_err();
        assert!(matches!(&error, AdoptError::Refused { said } if said.contains("home")), "{error}");
    }
}
