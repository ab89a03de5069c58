//! The conformance suite on virtual machines: a stock distribution's disk on the built-in monitor, one test a check.
//!
//! Needs a KVM that runs stock kernels. Where the host has none, these tests are listed as ignored, and
//! `scripts/test-kvm.sh` runs them in a machine that has one. There a boot takes a minute: the tests that only look at
//! a machine share one, for as long as one process runs them.

use std::io::Write as _;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use libtest_mimic::{Arguments, Trial};
use posada_disk::{Backing, Image};
use posada_kvm::{Facts, KvmProvider};
use posada_provider_api::{
    Availability, BootSource, DiskFormat, GuestAccess, Layer, MachineDir, MachineId, MachineName,
    MachineSpec, Provider, Seeding,
};
use posada_tests::conformance::{ALL, Bench, Check, Shared};
use posada_tests::{host, place};
use tempfile::TempDir;

/// Set where a KVM is known to be there: tests that find none then fail.
const DEMANDED: &str = "POSADA_TEST_NEEDS_KVM";

/// The login user of Debian's cloud images.
const USER: &str = "debian";

struct VirtualMachines {
    provider: KvmProvider,
    box_disk: Layer,
    shared: Shared,
    temp: TempDir,
}

impl VirtualMachines {
    fn new() -> Self {
        // A file system that knows O_DIRECT, where there is a better one than the usual.
        let scratch = std::env::var_os("POSADA_TEST_SCRATCH").unwrap_or_else(|| "/var/tmp".into());
        let temp = tempfile::Builder::new().prefix("conformance-").tempdir_in(scratch).expect("a directory");
        Self {
            provider: KvmProvider::new(place::binary()),
            box_disk: box_disk(temp.path().join("boot")),
            shared: Shared::default(),
            temp,
        }
    }
}

/// The image that `tests/rig/image.sh` makes, with what its boot loader would start, as the store keeps a box.
fn box_disk(boot: PathBuf) -> Layer {
    let path = image().join("disk.qcow2");
    let image = Image::open(&path, Backing::Refused).expect("a disk image");
    let files = posada_disk::inspect(&image).expect("a system").boot.expect("a kernel");
    std::fs::create_dir(&boot).expect("a directory");
    let (kernel, initrd) = (boot.join("kernel"), boot.join("initrd"));
    std::fs::write(&kernel, &files.kernel).expect("the kernel is written");
    std::fs::write(&initrd, files.initrd.expect("an initial RAM file system")).expect("it is written");
    let boot = Some(BootSource { kernel, initrd: Some(initrd), cmdline: files.cmdline });
    Layer::Disk { path, format: DiskFormat::Qcow2, boot, seeding: Seeding::CloudInit }
}

/// The folder of the image: the one that was made outside of the rig, where there is no network to make one.
fn image() -> PathBuf {
    if let Some(folder) = std::env::var_os("POSADA_TEST_IMAGE") {
        return folder.into();
    }
    let script = place::workspace().join("tests/rig/image.sh");
    let made = Command::new(&script).output().expect("image.sh runs");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    String::from_utf8(made.stdout).expect("a path").trim().into()
}

impl Bench for VirtualMachines {
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
            memory: Some(512 << 20),
            disk: None,
            pids: None,
            layers: vec![self.box_disk.clone()],
            access: GuestAccess {
                user: USER.to_owned(),
                authorized_key: keys.login.public_line.clone(),
                host_key: keys.host.private_pem.to_string(),
                host_key_public: keys.host.public_line.clone(),
            },
            folders: Vec::new(),
            networks: Vec::new(),
            env: std::collections::BTreeMap::new(),
            graceful_timeout: self.halt_patience(),
        };
        (dir, spec)
    }

    fn kill_supervisor(&self, dir: &MachineDir) {
        let path = dir.path().to_str().expect("text");
        let found = host::processes_with(&[posada_kvm::supervise::ENTRY, path]);
        let [pid] = found[..] else { panic!("one supervisor, not {found:?}") };
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL)
            .expect("kill");
        posada_supervisor::liveness::wait_for_end(dir).expect("its end");
    }

    fn boot_patience(&self) -> Duration {
        seconds("POSADA_TEST_BOOT_SECONDS", 300)
    }

    fn halt_patience(&self) -> Duration {
        seconds("POSADA_TEST_HALT_SECONDS", 90)
    }

    fn shared(&self) -> Option<&Shared> {
        Some(&self.shared)
    }
}

/// A time from the environment: machines inside of an emulated one are slower than any other.
fn seconds(variable: &str, otherwise: u64) -> Duration {
    let given = std::env::var(variable).ok().map(|text| text.parse().expect("a number of seconds"));
    Duration::from_secs(given.unwrap_or(otherwise))
}

/// Made by the first test that is run: listing them costs nothing.
type Bed = Arc<OnceLock<VirtualMachines>>;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // One machine at a time: each takes a CPU while it boots, and the shared one is there from its first test on.
    arguments.test_threads.get_or_insert(1);
    let unusable = match Facts::here().availability() {
        Availability::Unusable { reason, .. } if std::env::var_os(DEMANDED).is_none() => Some(reason),
        _ => None,
    };
    if let (Some(reason), false) = (&unusable, arguments.list) {
        say(&format!("**** NOT RUN, `make test-kvm` does: {reason} ****"));
    }
    let bed = Bed::default();
    let trials = ALL.iter().map(|&(name, check)| {
        let bed = bed.clone();
        let run = move || {
            run(check, bed.get_or_init(VirtualMachines::new));
            Ok(())
        };
        Trial::test(name, run).with_ignored_flag(unusable.is_some())
    });
    let conclusion = libtest_mimic::run(&arguments, trials.collect());
    // A panic was told by its hook.
    match std::panic::catch_unwind(AssertUnwindSafe(|| tidy(bed))) {
        Ok(()) => conclusion.exit_code(),
        Err(_) => ExitCode::FAILURE,
    }
}

fn run(check: Check, machines: &VirtualMachines) {
    tokio::runtime::Runtime::new().expect("a runtime").block_on(check(machines));
}

/// Destroys what the tests shared.
fn tidy(bed: Bed) {
    let bed = Arc::into_inner(bed).expect("no test runs any more");
    let Some(machines) = bed.into_inner() else { return };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(machines.shared.destroy(machines.provider()));
}

/// To whoever waits: this is not a test's output.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
