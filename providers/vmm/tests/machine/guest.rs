//! A tiny guest (`tests/rig/tiny.sh`): a stock kernel, whose init runs a script that the test gives.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use posada_vmm::config::{Boot, Devices, VmConfig};
use posada_vmm::machine::{Exit, Running, Vm};

/// No line takes longer, also where a CPU is emulated.
const PATIENCE: Duration = Duration::from_secs(120);

/// Whether `/dev/kvm` can be opened and the CPU can run guests: the software KVM of a CPU that cannot, cannot run a
/// stock kernel either.
pub fn kvm_runs_stock_kernels() -> bool {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let able = cpu.split_whitespace().any(|flag| flag == "vmx" || flag == "svm");
    able && std::fs::File::options().read(true).write(true).open("/dev/kvm").is_ok()
}

struct Tiny {
    kernel: PathBuf,
    initrd: PathBuf,
}

fn tiny() -> &'static Tiny {
    static TINY: OnceLock<Tiny> = OnceLock::new();
    TINY.get_or_init(|| {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/rig/tiny.sh");
        let output = Command::new(&script).output().expect("tiny.sh runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).expect("text");
        let value = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
            PathBuf::from(line.unwrap_or_else(|| panic!("{name} in {text}")))
        };
        Tiny { kernel: value("vmlinuz"), initrd: value("initrd") }
    })
}

/// The tiny guest's initrd with `script` as its `/run/script`: archives follow each other.
fn with_script(script: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    let initrd = std::fs::read(&tiny().initrd).expect("the initrd");
    file.write_all(&initrd).expect("written");
    file.write_all(&[0; 4][..(4 - initrd.len() % 4) % 4]).expect("written");
    for (name, mode, content) in
        [("run", 0o40755, ""), ("run/script", 0o100_755, script), ("TRAILER!!!", 0, "")]
    {
        // `newc`: a magic number, thirteen fields of eight hexadecimal digits, the name, the content, each padded.
        let fields = [0, mode, 0, 0, 1, 0, content.len(), 0, 0, 0, 0, name.len() + 1, 0];
        let mut entry = "070701".to_owned();
        entry.extend(fields.iter().map(|field| format!("{field:08x}")));
        let mut entry = entry.into_bytes();
        for part in [format!("{name}\0").as_bytes(), content.as_bytes()] {
            entry.extend_from_slice(part);
            entry.resize(entry.len().next_multiple_of(4), 0);
        }
        file.write_all(&entry).expect("written");
    }
    file
}

/// A running tiny guest.
pub struct Guest {
    pub running: Running,
    console: BufReader<UnixStream>,
    seen: String,
}

impl Guest {
    /// Starts one whose init runs `script`, a shell's, with what `change` makes of its configuration.
    pub fn start(script: &str, change: impl FnOnce(&mut VmConfig)) -> Self {
        let (ours, theirs) = UnixStream::pair().expect("a socket pair");
        ours.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let initrd = with_script(script);
        let boot = Boot {
            kernel: tiny().kernel.clone(),
            initrd: Some(initrd.path().to_owned()),
            cmdline: "console=ttyS0 quiet".to_owned(),
        };
        let mut config = VmConfig {
            name: "test".to_owned(),
            cpus: 1,
            memory: 256 << 20,
            boot,
            serial: theirs.into(),
            devices: Devices::default(),
        };
        change(&mut config);
        let running = Vm::build(config).and_then(Vm::start).expect("the machine starts");
        Self { running, console: BufReader::new(ours), seen: String::new() }
    }

    /// One with nothing special.
    pub fn plain(script: &str) -> Self {
        Self::start(script, |_| {})
    }

    /// Waits for a line of the console that contains `text`, and returns it.
    pub fn wait_for(&mut self, text: &str) -> String {
        loop {
            let mut line = String::new();
            match self.console.read_line(&mut line) {
                Ok(1..) => {}
                other => {
                    panic!("no {text:?} ({other:?}); exit {:?}:\n{}", self.running.handle().exit(), self.seen)
                }
            }
            self.seen.push_str(&line);
            if line.contains(text) {
                return line;
            }
        }
    }

    /// Types into the console.
    pub fn type_in(&mut self, text: &str) {
        self.console.get_mut().write_all(text.as_bytes()).expect("typed");
    }

    /// Whether anything is printed within `time`.
    pub fn prints_within(&mut self, time: Duration) -> bool {
        self.console.get_ref().set_read_timeout(Some(time)).expect("a timeout");
        let mut byte = [0; 4096];
        let printed = matches!(self.console.read(&mut byte), Ok(1..));
        self.console.get_ref().set_read_timeout(Some(PATIENCE)).expect("a timeout");
        printed
    }

    /// Waits until the machine has ended.
    pub fn exit(self) -> Exit {
        let exit = self.running.wait();
        drop(self.running);
        exit
    }

    /// Waits until the script has ended well and the machine is off.
    pub fn finish(mut self) {
        let status = self.wait_for("POSADA-STATUS");
        assert!(status.trim().ends_with("POSADA-STATUS 0"), "{status}\n{}", self.seen);
        assert_eq!(self.exit(), Exit::PoweredOff);
    }
}
