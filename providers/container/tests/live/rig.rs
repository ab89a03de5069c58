//! A box, machines made of it, and ways to look into them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use posada_container::{Ended, Keeper, Launched, cleanup, remove_top};
use posada_provider_api::{
    GuestAccess, Layer, MachineDir, MachineId, MachineName, MachineSpec, ProviderError, Silent,
};

/// Our own binary.
pub const EXE: &str = "/proc/self/exe";

/// The login user of the box.
pub const USER: &str = "posada";

/// What a machine may take to boot on a busy host; only failing tests take it.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Where root's machines and boxes are; an ordinary user has its own, see `ordinary`.
pub fn place() -> PathBuf {
    let uid = rustix::process::getuid();
    let place = if uid.is_root() {
        PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
    } else {
        PathBuf::from(format!("/var/tmp/posada-live-{uid}"))
    };
    std::fs::create_dir_all(&place).unwrap();
    place
}

/// A Debian root file system, made once and kept beside other build products.
pub fn debian() -> PathBuf {
    let place = place();
    let tree = place.join("debian-box");
    let lock = File::create(place.join("debian-box.lock")).unwrap();
    lock.lock().unwrap();
    if !tree.exists() {
        let part = place.join("debian-box.part");
        let _ = std::fs::remove_dir_all(&part);
        let made = Command::new("mmdebstrap")
            .args(["--variant=minbase", "--quiet"])
            .arg("--include=systemd,systemd-sysv,dbus,openssh-server,sudo,iproute2,ca-certificates")
            .arg(r#"--customize-hook=chroot "$1" useradd -m -u 1000 -s /bin/bash posada"#)
            .arg(r#"--customize-hook=echo "posada ALL=(ALL) NOPASSWD: ALL" > "$1/etc/sudoers.d/posada""#)
            .arg("bookworm")
            .arg(&part)
            .status()
            .expect("mmdebstrap is installed");
        assert!(made.success(), "mmdebstrap makes the box");
        std::fs::rename(part, &tree).unwrap();
    }
    tree
}

/// A machine's directory and description.
pub struct Machine {
    home: tempfile::TempDir,
    pub dir: MachineDir,
    pub spec: MachineSpec,
    /// The private half of the key that may log in.
    pub key: PathBuf,
}

impl Machine {
    /// One that has not been started.
    pub fn new(name: &str) -> Self {
        Self::on(name, debian())
    }

    /// One on another tree.
    pub fn on(name: &str, tree: PathBuf) -> Self {
        let home = tempfile::tempdir_in(place()).unwrap();
        let dir = MachineDir::new(home.path().join("machine"));
        std::fs::create_dir(dir.path()).unwrap();
        let name = MachineName::new(name).unwrap();
        let login = keys();
        let host = keys();
        let key = home.path().join("id_ed25519");
        std::fs::write(&key, &login.0).unwrap();
        std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let random = u32::from_be_bytes(uuid()[..4].try_into().unwrap());
        let spec = MachineSpec {
            id: MachineId::from_parts(&name, random),
            hostname: name.as_str().to_owned(),
            name,
            cpus: None,
            memory: None,
            disk: None,
            pids: None,
            layers: vec![Layer::Tree { path: tree }],
            access: GuestAccess {
                user: USER.to_owned(),
                authorized_key: login.1,
                host_key: host.0,
                host_key_public: host.1,
            },
            folders: Vec::new(),
            networks: Vec::new(),
            env: BTreeMap::new(),
            graceful_timeout: PATIENCE,
        };
        Self { home, dir, spec, key }
    }

    /// A directory of the host that goes with the machine.
    pub fn scratch(&self, name: &str) -> PathBuf {
        let path = self.home.path().join(name);
        std::fs::create_dir(&path).unwrap();
        path
    }

    /// Where a file that goes with the machine may be.
    pub fn scratch_file(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// Starts it.
    pub async fn start(&self) -> Result<Live<'_>, ProviderError> {
        let (keeper, launched) = Keeper::launch(Path::new(EXE), &self.dir, &self.spec, &Silent).await?;
        let Launched { init_pid, console, tap, run_dir, warnings, private: _ } = launched;
        let printed = Arc::new(Mutex::new(String::new()));
        let text = Arc::clone(&printed);
        std::thread::spawn(move || drain(console, &text));
        Ok(Live { machine: self, keeper, init_pid, cable: tap, run_dir, warnings, printed })
    }

    /// Undoes what is left.
    pub fn clean(&self) {
        cleanup(Path::new(EXE), &self.dir).unwrap();
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let done = cleanup(Path::new(EXE), &self.dir).and_then(|()| remove_top(Path::new(EXE), &self.dir));
        if !std::thread::panicking() {
            done.unwrap();
        }
    }
}

/// Reads a console until its machine is gone. While nobody inside has it open it reads as an error; having the
/// other side open here as well changes that, until the machine's init hangs it up.
fn drain(console: OwnedFd, printed: &Mutex<String>) {
    use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer};
    let mut chunk = [0; 4096];
    let mut other_side = None;
    loop {
        match rustix::io::read(&console, &mut chunk) {
            Ok(count) => printed.lock().unwrap().push_str(&String::from_utf8_lossy(&chunk[..count])),
            Err(_) => match ioctl_tiocgptpeer(&console, OpenptFlags::RDWR | OpenptFlags::NOCTTY) {
                Ok(open) => other_side = Some(open),
                Err(_) => break,
            },
        }
    }
    drop(other_side);
}

/// A machine that runs.
pub struct Live<'a> {
    pub machine: &'a Machine,
    pub keeper: Keeper,
    pub init_pid: i32,
    /// Nobody answers on it, but the interface ends with it.
    pub cable: Option<OwnedFd>,
    pub run_dir: OwnedFd,
    pub warnings: Vec<String>,
    printed: Arc<Mutex<String>>,
}

impl Live<'_> {
    /// Runs a script as the machine's root, in its namespaces but past its init.
    pub fn sh(&self, script: &str) -> Output {
        let pid = self.init_pid.to_string();
        let mut child = Command::new("nsenter")
            .args(["-t", &pid, "-U", "-m", "-p", "-n", "-u", "-i", "-C", "--setuid", "0", "--setgid", "0"])
            .args(["-w", "--", "/bin/sh", "-s"])
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    }

    /// What a script that succeeds prints.
    pub fn out(&self, script: &str) -> String {
        let output = self.sh(script);
        let text = String::from_utf8_lossy(&output.stdout).trim_end().to_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{script}: {}\n{text}\n{errors}\n{}", output.status, self.console());
        text
    }

    /// Waits until systemd has started all it wants to, and says how that went.
    pub fn boot(&self) -> String {
        self.wait_for_run("systemd/private");
        self.out("systemctl start dbus.service; systemctl is-system-running --wait || true")
    }

    /// Waits until there is `path` below the machine's `/run`, by the events that tell of it.
    pub fn wait_for_run(&self, path: &str) {
        use rustix::fs::inotify;
        let run = PathBuf::from(format!("/proc/self/fd/{}", self.run_dir.as_raw_fd()));
        let mut at = run.clone();
        for part in Path::new(path) {
            let events = inotify::init(inotify::CreateFlags::CLOEXEC).unwrap();
            let flags = inotify::WatchFlags::CREATE | inotify::WatchFlags::MOVED_TO;
            inotify::add_watch(&events, &at, flags).unwrap();
            at.push(part);
            while std::fs::symlink_metadata(&at).is_err() {
                let timeout =
                    rustix::event::Timespec { tv_sec: PATIENCE.as_secs().cast_signed(), tv_nsec: 0 };
                let mut ready = [rustix::event::PollFd::new(&events, rustix::event::PollFlags::IN)];
                let told = rustix::event::poll(&mut ready, Some(&timeout)).unwrap();
                assert_eq!(told, 1, "{} does not come:\n{}", at.display(), self.console());
                rustix::io::read(&events, &mut [0_u8; 4096][..]).unwrap();
            }
        }
    }

    /// Runs a script as a service of the machine: with all that its init is confined by.
    pub fn confined(&self, script: &str) -> String {
        let script = script.replace('\'', "'\\''");
        self.out(&format!("systemd-run --quiet --pipe --wait /bin/sh -c '{script}' 2>&1"))
    }

    /// What the console printed so far.
    pub fn console(&self) -> String {
        self.printed.lock().unwrap().clone()
    }

    /// Waits for the machine's end.
    pub async fn end(self) -> Ended {
        let end = tokio::time::timeout(PATIENCE, self.keeper.ended()).await;
        let console = self.console();
        let machine = self.machine;
        drop(self);
        machine.clean();
        end.unwrap_or_else(|_| panic!("the machine does not end:\n{console}"))
    }
}

fn uuid() -> [u8; 16] {
    let mut bytes = [0; 16];
    File::open("/dev/urandom").unwrap().read_exact(&mut bytes).unwrap();
    bytes
}

/// A private and a public key.
fn keys() -> (String, String) {
    let key =
        ssh_key::PrivateKey::random(&mut ssh_key::rand_core::OsRng, ssh_key::Algorithm::Ed25519).unwrap();
    let private = key.to_openssh(ssh_key::LineEnding::LF).unwrap().to_string();
    (private, key.public_key().to_openssh().unwrap())
}
