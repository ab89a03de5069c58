//! A real sshd, one process a connection, spoken to over a socket pair: no port, nothing shared between tests.
#![allow(dead_code, clippy::missing_docs_in_private_items)]

use std::fs;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use posada_provisioners::{Cancel, KeyPair, Login, OutputSink, OutputStream, Ssh, TransportError};

const SSHD: &str = "/usr/sbin/sshd";

pub struct Server {
    pub dir: tempfile::TempDir,
    pub user: String,
    pub home: PathBuf,
    pub login_key: KeyPair,
    pub host_key: KeyPair,
    /// What the shell of a mount namespace of its own does before sshd is started; empty: it is started as it is.
    pub before: String,
    children: Mutex<Vec<Child>>,
}

impl Server {
    /// An sshd that lets root in.
    pub fn for_root() -> Self {
        Self::for_user("root", Path::new("/root"))
    }

    pub fn for_user(user: &str, home: &Path) -> Self {
        let dir = tempfile::tempdir().unwrap();
        // sshd reads authorized_keys as the user.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let login_key = KeyPair::generate("login").unwrap();
        let host_key = KeyPair::generate("host").unwrap();
        let write = |name: &str, text: &str, mode: u32| {
            let path = dir.path().join(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            path.display().to_string()
        };
        let host = write("host", &host_key.private_pem, 0o600);
        let authorized = write("authorized", &login_key.public_line, 0o644);
        write(
            "config",
            &format!(
                "HostKey {host}\nAuthorizedKeysFile {authorized}\nStrictModes no\nUsePAM no\n\
                 PermitRootLogin prohibit-password\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n\
                 PubkeyAuthentication yes\nPidFile none\nLogLevel VERBOSE\n"
            ),
            0o644,
        );
        fs::create_dir_all("/run/sshd").unwrap();
        let home = home.to_owned();
        Self {
            dir,
            user: user.to_owned(),
            home,
            login_key,
            host_key,
            before: String::new(),
            children: Mutex::default(),
        }
    }

    /// One end of a connection whose other end sshd has.
    pub fn stream(&self) -> OwnedFd {
        let (ours, theirs) = UnixStream::pair().unwrap();
        self.serve(theirs.into());
        ours.into()
    }

    /// The same over TCP on the loopback.
    pub fn tcp_stream(&self) -> OwnedFd {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        self.serve(listener.accept().unwrap().0.into());
        ours.into()
    }

    fn serve(&self, stream: OwnedFd) {
        let mut command = Command::new(SSHD);
        if !self.before.is_empty() {
            command = Command::new("/usr/bin/unshare");
            let script = format!("set -e\n{}\nexec {SSHD} \"$@\"", self.before);
            command.args(["--mount", "--propagation=private", "/bin/sh", "-c", &script, "sshd"]);
            command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        } else {
            command.env_clear();
        }
        let child = command
            .args(["-i", "-f"])
            .arg(self.dir.path().join("config"))
            .arg("-E")
            .arg(self.dir.path().join("log"))
            .stdin(Stdio::from(stream.try_clone().unwrap()))
            .stdout(Stdio::from(stream))
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        self.children.lock().unwrap().push(child);
    }

    pub fn login(&self) -> Login {
        Login {
            user: self.user.clone(),
            private_key_pem: self.login_key.private_pem.to_string(),
            host_key_public: self.host_key.public_line.clone(),
            deadline: Instant::now() + Duration::from_secs(20),
        }
    }

    pub fn connect(&self) -> Ssh {
        self.connect_with(&Cancel::new().unwrap())
    }

    pub fn connect_with(&self, cancel: &Cancel) -> Ssh {
        self.try_connect(&self.login(), cancel)
            .unwrap_or_else(|e| panic!("{e}: {:?}\n{}", std::error::Error::source(&e), self.log()))
    }

    pub fn try_connect(&self, login: &Login, cancel: &Cancel) -> Result<Ssh, TransportError> {
        Ssh::connect(self.stream(), login, cancel.clone())
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// Ends every connection as a machine does that loses its power.
    pub fn kill(&self) {
        for child in self.children.lock().unwrap().iter_mut() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        for mut child in self.children.get_mut().unwrap().drain(..) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Takes lines down.
#[derive(Default)]
pub struct Lines(Mutex<Vec<(OutputStream, String)>>);

impl OutputSink for Lines {
    fn line(&self, stream: OutputStream, text: &str) {
        self.0.lock().unwrap().push((stream, text.to_owned()));
    }
}

impl Lines {
    pub fn all(&self) -> Vec<(OutputStream, String)> {
        self.0.lock().unwrap().clone()
    }

    pub fn of(&self, stream: OutputStream) -> Vec<String> {
        self.all().into_iter().filter(|(s, _)| *s == stream).map(|(_, l)| l).collect()
    }

    pub fn out(&self) -> Vec<String> {
        self.of(OutputStream::Stdout)
    }
}

/// A user of this machine, as long as the test runs.
pub struct User {
    pub name: String,
    pub home: PathBuf,
    sudoers: Option<PathBuf>,
}

impl User {
    /// Makes a user; `sudo` tells whether it may become root without a password.
    pub fn new(tag: &str, sudo: bool) -> Self {
        let name = format!("pv{tag}{}", std::process::id());
        let home = PathBuf::from(format!("/tmp/home-{name}"));
        run(Command::new("useradd").args(["-m", "-s", "/bin/bash", "-d"]).arg(&home).arg(&name));
        // sshd without PAM takes `!` for a locked account.
        run(Command::new("usermod").args(["-p", "*", &name]));
        let sudoers = sudo.then(|| {
            let path = PathBuf::from(format!("/etc/sudoers.d/{name}"));
            fs::write(&path, format!("{name} ALL=(ALL) NOPASSWD: ALL\n")).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o440)).unwrap();
            path
        });
        Self { name, home, sudoers }
    }

    pub fn server(&self) -> Server {
        Server::for_user(&self.name, &self.home)
    }
}

impl Drop for User {
    fn drop(&mut self) {
        if let Some(path) = &self.sudoers {
            let _ = fs::remove_file(path);
        }
        let _ = Command::new("userdel").args(["-r", "-f", &self.name]).output();
    }
}

fn run(command: &mut Command) {
    let out = command.output().unwrap();
    assert!(out.status.success(), "{command:?}: {}", String::from_utf8_lossy(&out.stderr));
}
