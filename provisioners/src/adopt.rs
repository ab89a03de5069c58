//! First contact with a machine that could not be told its keys before it booted: a box as Vagrant's are, whose login
//! user lets in whoever has a key that everybody has.
//!
//! That key is used once, to take it away: the machine is given its own login key and its own host key, the ones that
//! every machine of Posada has from the beginning. Who answers at first contact is trusted; nobody else is on the
//! machine's cable.

use std::fmt::Write as _;

use posada_provider_api::{Fault, FaultKind, GuestAccess};

use crate::quote;
use crate::transport::{Captured, Stdin, Transport, TransportError, capture};

/// The private key that Vagrant publishes for its boxes to let in (its RSA one, which every box has).
pub const INSECURE_KEY: &str = include_str!("../assets/vagrant-insecure-key");

/// Whom that key lets in.
pub const INSECURE_USER: &str = "vagrant";

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
    /// Neither the key that everybody has nor the machine's own opens it.
    #[error(
        "the machine lets `{INSECURE_USER}` in neither by the key that Vagrant's boxes know nor by its own"
    )]
    Closed,
}

impl Fault for AdoptError {
    fn kind(&self) -> FaultKind {
        match self {
            Self::Transport(error) => error.kind(),
            Self::Refused { .. } | Self::Closed => FaultKind::Machine,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Transport(error) => error.hint(),
            Self::Refused { .. } => Some(format!(
                "`{INSECURE_USER}` of the box must be able to use sudo without a password, as Vagrant asks of boxes; \
                 `posada up` tries again"
            )),
            Self::Closed => Some(
                "use a box that is packed as Vagrant's are, or one with cloud-init; where the machine's `ssh` folder was \
                 removed, `posada destroy` and `posada up` make it anew"
                    .to_owned(),
            ),
        }
    }
}

/// Gives a machine its own keys, over a session of [`INSECURE_USER`], who must be able to use `sudo` without a password.
/// Whatever keys let that user in before do so no more; where another user is to log in, that one and
/// [`INSECURE_USER`] know the machine's own key afterwards. Done twice, it changes nothing.
///
/// # Errors
/// [`AdoptError::Refused`], and [`AdoptError::Transport`]: a machine whose connection breaks may have taken its keys all
/// the same. As long as it has not, the keys from before let in.
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

/// What is done where, in this order: the host key, which sshd serves from then on; last the login keys, of which that of
/// [`INSECURE_USER`] is the very last. Whenever this is broken off, either the insecure key still opens the machine, or
/// all of it is done.
const SCRIPT: &str = r#"
adopt() {
    host=/etc/ssh/ssh_host_ed25519_key
    if ! printf '%s\n' "$host_key" | cmp -s - "$host"; then
        printf '%s\n' "$host_key" >"$host.posada"
        printf '%s\n' "$host_key_public" >"$host.pub"
        chmod 644 "$host.pub"
        mv -f "$host.posada" "$host"
    fi
    config=/etc/ssh/sshd_config
    if grep -qi '^[[:space:]]*HostKey[[:space:]]' "$config" && ! grep -q "^[[:space:]]*HostKey[[:space:]]*$host" "$config"; then
        sed -i "1i HostKey $host" "$config"
    fi
    # All that posada left here is named so that a second attempt writes over it.
    restorecon "$host" "$host.pub" "$config" 2>/dev/null || :
    # A restart is over when sshd listens with its new key, of a reload nobody knows. Both leave this connection alone.
    for unit in ssh sshd; do
        if systemctl -q is-active "$unit" 2>/dev/null; then systemctl restart "$unit"; break; fi
        if [ -x "/etc/init.d/$unit" ]; then "/etc/init.d/$unit" restart; break; fi
    done
    for user in $users; do
        entry=$(getent passwd "$user") || { echo "there is no user \`$user\`" >&2; return 1; }
        home=$(printf '%s' "$entry" | cut -d: -f6)
        mkdir -p "$home/.ssh"
        printf '%s\n' "$login_key" >"$home/.ssh/authorized_keys.posada"
        chown "$user:" "$home/.ssh" "$home/.ssh/authorized_keys.posada"
        mv -f "$home/.ssh/authorized_keys.posada" "$home/.ssh/authorized_keys"
        restorecon -R "$home/.ssh" 2>/dev/null || :
    done
}
adopt
"#;

/// The script with its values. It is read to its end before it does anything, and goes on where the connection ends.
fn script(access: &GuestAccess) -> String {
    let mut script = String::from("set -e\ntrap '' HUP\numask 077\n");
    let mut set = |name: &str, value: &str| {
        // Writing to a string cannot fail.
        let _ = writeln!(script, "{name}={}", quote::word(value.trim_end()));
    };
    let users = match access.user.as_str() {
        INSECURE_USER => INSECURE_USER.to_owned(),
        other => format!("{other} {INSECURE_USER}"),
    };
    set("users", &users);
    set("login_key", &access.authorized_key);
    set("host_key", &access.host_key);
    set("host_key_public", &access.host_key_public);
    script.push_str(SCRIPT);
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
                .replace("config=/etc/ssh/", &format!("config={root}/"))
                .replace("for unit in ssh sshd", "for unit in posada-no-such-unit");
            let stand_ins = format!(
                "chown() {{ :; }}\ngetent() {{ [ \"$2\" != nobody-here ] && echo \"$2:x:1:1::{root}/home-$2:/bin/sh\"; }}\n"
            );
            let done = std::process::Command::new("sh").arg("-c").arg(stand_ins + &script).output().unwrap();
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
        fs_err::create_dir_all(root.join("home-vagrant/.ssh")).unwrap();
        fs_err::write(root.join("home-vagrant/.ssh/authorized_keys"), "ssh-rsa INSECURE").unwrap();
        let config = root.join("sshd_config");
        fs_err::write(&config, "HostKey /etc/ssh/ssh_host_rsa_key\n").unwrap();
        for _ in 0..2 {
            adopt(&mut here, &access()).unwrap();
            let keys = fs_err::read_to_string(root.join("home-vagrant/.ssh/authorized_keys")).unwrap();
            assert_eq!(keys, "ssh-ed25519 AAAA it's ours\n");
            let host = root.join("ssh_host_ed25519_key");
            assert_eq!(fs_err::read_to_string(&host).unwrap(), "-----BEGIN\nPRIVATE\n-----END\n");
            assert_eq!(fs_err::metadata(&host).unwrap().permissions().mode() & 0o777, 0o600);
            let offered = fs_err::read_to_string(&config).unwrap();
            assert_eq!(offered, format!("HostKey {}\nHostKey /etc/ssh/ssh_host_rsa_key\n", host.display()));
        }
    }

    #[test]
    fn another_user_gets_the_key_and_the_insecure_one_goes_last() {
        let mut here = Here(tempfile::tempdir().unwrap());
        let root = here.0.path().to_owned();
        let other = |user: &str| GuestAccess { user: user.into(), ..access() };
        let error = adopt(&mut here, &other("nobody-here")).unwrap_err();
        assert!(matches!(&error, AdoptError::Refused { said } if said.contains("nobody-here")), "{error}");
        assert!(!root.join("home-vagrant/.ssh").exists(), "the insecure key still opens it");
        adopt(&mut here, &other("ana")).unwrap();
        for user in ["ana", "vagrant"] {
            let keys = root.join(format!("home-{user}/.ssh/authorized_keys"));
            assert_eq!(fs_err::read_to_string(keys).unwrap(), "ssh-ed25519 AAAA it's ours\n");
        }
    }

    #[test]
    fn a_machine_that_refuses_says_why() {
        let mut here = Here(tempfile::tempdir().unwrap());
        // The home is a file: nothing can be put there.
        fs_err::write(here.0.path().join("home-vagrant"), "").unwrap();
        let error = adopt(&mut here, &access()).unwrap_err();
        assert!(matches!(&error, AdoptError::Refused { said } if said.contains("home")), "{error}");
    }
}
