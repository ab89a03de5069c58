//! The container backend against the conformance suite, as root, one test a check.

use std::path::PathBuf;

use posada_box_catalog::{BoxRef, Form, Store};
use posada_container::ContainerProvider;
use posada_provider_api::{GuestAccess, Layer, MachineDir, MachineId, MachineName, MachineSpec, Provider};
use posada_tests::conformance::{ALL, Bench};
use posada_tests::sandbox::Caller;
use posada_tests::{boxes, place};
use tempfile::TempDir;

struct Containers {
    provider: ContainerProvider,
    tree: PathBuf,
    temp: TempDir,
}

impl Containers {
    fn new() -> Self {
        place::needs_root();
        let store = Store::open(boxes::store(&Caller::Root), place::binary()).expect("the store");
        let debian = store
            .resolve(&BoxRef::parse(boxes::DEBIAN).expect("a name"), None, Form::Rootfs)
            .expect("the box");
        let temp =
            tempfile::Builder::new().prefix("conformance-").tempdir_in("/var/tmp").expect("a directory");
        Self {
            provider: ContainerProvider::new(place::binary()),
            tree: debian.rootfs().expect("a root file system"),
            temp,
        }
    }
}

impl Bench for Containers {
    fn provider(&self) -> &dyn Provider {
        &self.provider
    }

    fn spec(&self, id: MachineId, name: MachineName) -> (MachineDir, MachineSpec) {
        let dir = MachineDir::new(self.temp.path().join(id.as_str()));
        std::fs::create_dir(dir.path()).expect("the machine's directory");
        let keys = posada_provisioners::keys::load_or_create(&dir.ssh()).expect("keys");
        let spec = MachineSpec {
            hostname: name.to_string(),
            id,
            name,
            cpus: None,
            memory: None,
            disk: None,
            pids: None,
            layers: vec![Layer::Tree { path: self.tree.clone() }],
            access: GuestAccess {
                user: "posada".to_owned(),
                authorized_key: keys.login.public_line.clone(),
                host_key: keys.host.private_pem.to_string(),
                host_key_public: keys.host.public_line.clone(),
            },
            folders: Vec::new(),
            networks: Vec::new(),
            env: std::collections::BTreeMap::new(),
            graceful_timeout: std::time::Duration::from_secs(30),
        };
        (dir, spec)
    }

    fn kill_supervisor(&self, dir: &MachineDir) {
        let path = dir.path().to_str().expect("text").to_owned();
        let pid = processes()
            .find(|(_, words)| {
                words.iter().any(|word| word == "__container-supervise") && words.last() == Some(&path)
            })
            .map(|(pid, _)| pid)
            .expect("a supervisor");
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL)
            .expect("kill");
        // It is gone when its lock is: the kernel closes files after the signal was sent.
        posada_supervisor::liveness::wait_for_end(dir).expect("its end");
    }
}

fn processes() -> impl Iterator<Item = (i32, Vec<String>)> {
    std::fs::read_dir("/proc").expect("/proc").flatten().filter_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let line = std::fs::read(entry.path().join("cmdline")).ok()?;
        let words = line.split(|byte| *byte == 0).filter(|word| !word.is_empty());
        Some((pid, words.map(|word| String::from_utf8_lossy(word).into_owned()).collect()))
    })
}

/// One `#[test]` a check, so that a failure names what is not as promised.
macro_rules! conformance {
    ($($name:ident)+) => {
        $(#[test]
        fn $name() {
            let (_, check) = ALL.iter().find(|(name, _)| *name == stringify!($name)).expect("a check of this name");
            let containers = Containers::new();
            let runtime = tokio::runtime::Runtime::new().expect("a runtime");
            runtime.block_on(check(&containers));
        })+

        #[test]
        fn every_check_is_run() {
            let run = [$(stringify!($name)),+];
            for (name, _) in ALL {
                assert!(run.contains(name), "{name} is not run for containers");
            }
        }
    };
}

conformance! {
    availability_is_usable
    from_absent_to_running_and_back
    what_is_written_stays_over_a_restart
    a_forced_stop_is_at_once
    suspend_and_resume
    snapshots_work_or_are_refused
    calls_repeat
    sshd_is_reached_by_event
    the_ssh_endpoint_answers
    forwards_are_in_force
    the_console_is_attached
    a_silent_port_is_told
    a_taken_port_is_told
    what_needs_a_running_machine_says_so
    a_killed_supervisor_takes_the_machine_along
    a_half_made_machine_is_completed_or_removed
}
