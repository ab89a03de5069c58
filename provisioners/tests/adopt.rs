//! First contact with a machine as Vagrant packs them: a real sshd that sees an `/etc` of its own.

mod support;

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use posada_provider_api::GuestAccess;
use posada_provisioners::{
    AdoptError, Cancel, INSECURE_KEY, INSECURE_USER, KeyPair, Login, SettingsError, Ssh, TransportError,
    adopt, apply,
};
use ssh_key::{HashAlg, PublicKey};
use support::Server;

/// A user id that nobody has.
const UID: u32 = 54_321;

struct Machine {
    server: Server,
    /// What it is to have.
    access: GuestAccess,
    /// The host key it made for itself.
    found: KeyPair,
}

impl Machine {
    /// One whose `vagrant` may do by sudo what `sudoers` says.
    fn new(sudoers: &str) -> Self {
        let mut server = Server::for_user(INSECURE_USER, Path::new("/"));
        let root = server.dir.path().to_owned();
        let etc = root.join("etc");
        let found = KeyPair::generate("found").unwrap();
        let home = root.join("home");
        write(&home.join(".ssh/authorized_keys"), &insecure_public(&root), 0o600);
        for path in [".", ".ssh", ".ssh/authorized_keys"] {
            chown(home.join(path), Some(UID), Some(UID)).unwrap();
        }
        write(
            &etc.join("passwd"),
            &format!(
                "root:x:0:0::/root:/bin/sh\nsshd:x:100:65534::/run/sshd:/usr/sbin/nologin\n\
                 {INSECURE_USER}:x:{UID}:{UID}::{}:/bin/sh\n",
                home.display()
            ),
            0o644,
        );
        write(&etc.join("group"), &format!("root:x:0:\n{INSECURE_USER}:x:{UID}:\n"), 0o644);
        let asleep = |user: &str| format!("{user}:*:19000:0:99999:7:::\n");
        write(&etc.join("shadow"), &["root", INSECURE_USER].map(asleep).concat(), 0o600);
        write(&etc.join("sudoers"), &format!("root ALL=(ALL) ALL\n{sudoers}\n"), 0o440);
        write(&etc.join("ssh/ssh_host_ed25519_key"), &found.private_pem, 0o600);
        write(
            &etc.join("ssh/sshd_config"),
            "HostKey /etc/ssh/ssh_host_ed25519_key\nStrictModes no\nUsePAM no\nPasswordAuthentication no\n\
             KbdInteractiveAuthentication no\nPidFile none\nLogLevel VERBOSE\n",
            0o600,
        );
        // What restarts sshd says so, and waits where it is told to.
        write(
            &etc.join("init.d/ssh"),
            &format!(
                "#!/bin/sh\necho \"$1\" >>{root}/restarts\n[ ! -p {root}/hold ] || {{ echo $PPID >{root}/hold; cat {root}/hold; }}\n",
                root = root.display()
            ),
            0o755,
        );
        fs::write(root.join("config"), "Include /etc/ssh/sshd_config\n").unwrap();
        for name in ["alternatives", "ld.so.cache", "login.defs", "nsswitch.conf", "pam.d", "security"] {
            let copied = Command::new("cp").arg("-a").arg(Path::new("/etc").join(name)).arg(&etc).status();
            assert!(copied.unwrap().success(), "{name}");
        }
        // All of /etc, by its directory: a mount on a file goes away when the host puts another in its place, as
        // useradd does with passwd.
        server.before = format!(
            "mount --bind {} /etc\n[ ! -d /run/systemd ] || mount -t tmpfs tmpfs /run/systemd",
            etc.display()
        );
        let (login, host) = (KeyPair::generate("own").unwrap(), KeyPair::generate("pinned").unwrap());
        let access = GuestAccess {
            user: INSECURE_USER.to_owned(),
            authorized_key: login.public_line.clone(),
            host_key: host.private_pem.to_string(),
            host_key_public: host.public_line.clone(),
        };
        (server.login_key, server.host_key) = (login, host);
        Self { server, access, found }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.server.dir.path().join(name)
    }

    fn first_contact(&self) -> Result<(Ssh, String), TransportError> {
        let login = Login {
            private_key_pem: INSECURE_KEY.to_owned(),
            host_key_public: String::new(),
            ..self.server.login()
        };
        Ssh::connect_unpinned(self.server.stream(), &login, Cancel::new().unwrap())
    }

    #[track_caller]
    fn assert_adopted(&self) {
        let refused = self.first_contact().unwrap_err();
        assert!(matches!(refused, TransportError::AuthRefused { .. }), "{refused}");
        // By the pinned host key and the machine's own login key.
        let mut ssh = self.server.connect();
        assert_eq!(apply(&mut ssh, &[vec!["true".to_owned()]]).unwrap(), []);
    }
}

fn write(path: &Path, text: &str, mode: u32) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// The public half of [`INSECURE_KEY`], as it is in the boxes.
fn insecure_public(scratch: &Path) -> String {
    let path = scratch.join("insecure");
    write(&path, INSECURE_KEY, 0o600);
    let out = Command::new("ssh-keygen").arg("-yf").arg(&path).output().unwrap();
    assert!(out.status.success(), "{out:?}");
    String::from_utf8(out.stdout).unwrap()
}

const SUDO: &str = "vagrant ALL=(ALL) NOPASSWD: ALL";

#[test]
fn the_insecure_key_is_used_once_to_be_replaced() {
    let machine = Machine::new(SUDO);
    let (mut ssh, shown) =
        machine.first_contact().unwrap_or_else(|error| panic!("{error}\n{}", machine.server.log()));
    let found = PublicKey::from_openssh(&machine.found.public_line).unwrap();
    assert_eq!(shown, found.fingerprint(HashAlg::Sha256).to_string());
    adopt(&mut ssh, &machine.access).unwrap_or_else(|error| panic!("{error}\n{}", machine.server.log()));
    assert_eq!(fs::read_to_string(machine.path("restarts")).unwrap(), "restart\n");
    machine.assert_adopted();
}

#[test]
fn what_is_broken_off_in_the_middle_is_completed_the_next_time() {
    let machine = Machine::new(SUDO);
    let hold = machine.path("hold");
    assert!(Command::new("mkfifo").arg(&hold).status().unwrap().success());
    std::thread::scope(|scope| {
        let adopting = scope.spawn(|| {
            let (mut ssh, _) = machine.first_contact().unwrap();
            adopt(&mut ssh, &machine.access)
        });
        // The host key is in place, the login key is not: what restarts sshd waits for this end to be opened, and then
        // for its other one.
        let mut script = String::new();
        fs::File::open(&hold).unwrap().read_to_string(&mut script).unwrap();
        assert!(Command::new("kill").args(["-9", script.trim()]).status().unwrap().success());
        drop(fs::File::options().write(true).open(&hold).unwrap());
        adopting.join().unwrap().unwrap_err();
    });
    fs::remove_file(&hold).unwrap();
    let (mut ssh, shown) = machine.first_contact().expect("the insecure key still lets in");
    let pinned = PublicKey::from_openssh(&machine.access.host_key_public).unwrap();
    assert_eq!(shown, pinned.fingerprint(HashAlg::Sha256).to_string(), "so far it had come");
    adopt(&mut ssh, &machine.access).unwrap();
    machine.assert_adopted();
}

#[test]
fn a_user_who_cannot_become_root_is_told_and_stays_as_it_was() {
    let machine = Machine::new("");
    let (mut ssh, _) = machine.first_contact().unwrap();
    let error = adopt(&mut ssh, &machine.access).unwrap_err();
    assert!(matches!(&error, AdoptError::Refused { said } if said.contains("sudo")), "{error}");
    let error = apply(&mut ssh, &[]).unwrap_err();
    assert!(matches!(&error, SettingsError::NoRoot { said } if said.contains("sudo")), "{error}");
    assert!(machine.first_contact().is_ok(), "nothing was changed");
}
