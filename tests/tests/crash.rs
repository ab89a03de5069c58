//! `kill -9` at many points: the next `up` or `destroy` simply works, and `destroy` leaves the host as it was.
//!
//! Where a kill falls is a matter of time, and all that is asserted holds wherever it falls: each point is the
//! given share of what the same command took when nobody killed it.

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use posada_tests::{HostSnapshot, Sandbox, host, wait};

const VMFILE: &str = "\
box: debian/12
provider: container
networks:
  - forward: 'auto:22'
synced_folders:
  - '.:/srv/project'
provision:
  - {type: shell, name: one, inline: 'echo one >> /var/log/steps'}
  - {type: shell, name: two, inline: 'echo two >> /var/log/steps'}
";
const POINTS: u32 = 12;

/// Whom a test kills.
#[derive(Debug, Clone, Copy)]
enum Victim {
    Cli,
    Supervisor,
    Keeper,
    All,
}

impl Victim {
    /// The processes of this kind that belong to `sandbox`.
    fn processes(self, sandbox: &Sandbox) -> Vec<i32> {
        let root = sandbox.root().display().to_string();
        let of = |word: &str| {
            host::processes_with(&[word])
                .into_iter()
                .filter(|pid| {
                    let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
                    let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                    [environment, command].iter().any(|bytes| String::from_utf8_lossy(bytes).contains(&root))
                })
                .collect::<Vec<_>>()
        };
        match self {
            Self::Cli => Vec::new(),
            Self::Supervisor => of("__container-supervise"),
            Self::Keeper => of("__container-keeper"),
            Self::All => [of("__container-supervise"), of("__container-keeper")].concat(),
        }
    }

    /// Kills them; `cli` is the command under way.
    fn kill(self, sandbox: &Sandbox, cli: Option<Pid>) {
        for pid in self.processes(sandbox) {
            // It may end by itself between the look and the kill.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        if let (Self::Cli | Self::All, Some(pid)) = (self, cli) {
            let _ = kill(pid, Signal::SIGKILL);
        }
    }
}

struct Scene {
    sandbox: Sandbox,
    before: HostSnapshot,
    root: String,
}

impl Scene {
    fn new() -> Self {
        let sandbox = Sandbox::with(VMFILE);
        let root = sandbox.root().display().to_string();
        // The box is in the store by now, and nothing else of this sandbox is on the host.
        let before = HostSnapshot::take(&[&root]);
        Self { sandbox, before, root }
    }

    /// How long `arguments` take when nobody is killed.
    fn undisturbed(&self, arguments: &[&str]) -> Duration {
        let began = Instant::now();
        self.sandbox.ok(arguments);
        began.elapsed()
    }

    /// Starts `arguments`, kills `victim` after `delay`, and waits for the command's end.
    fn disturb(&self, arguments: &[&str], victim: Victim, delay: Duration) {
        let running = self.sandbox.start(arguments);
        std::thread::sleep(delay);
        victim.kill(&self.sandbox, Some(running.pid()));
        let outcome = running.wait();
        // What was not killed itself tells what happened in its own words, or got through.
        assert!(
            outcome.code == 128 + 9 || [0, 4, 5, 6].contains(&outcome.code),
            "{victim:?} killed after {delay:?}\n{outcome}"
        );
        assert!(!outcome.mentions("panicked"), "{outcome}");
    }

    /// `up` works, and the machine is whole.
    fn up_heals(&self, context: &str) {
        let up = self.sandbox.run(&["up"]);
        assert_eq!(up.code, 0, "{context}: {up}");
        let steps = self.sandbox.inside("cat /var/log/steps");
        for step in ["one", "two"] {
            assert!(steps.lines().any(|line| line == step), "{context}: {steps}");
        }
        assert_eq!(self.sandbox.machine_folders().len(), 1, "{context}");
        assert_eq!(self.sandbox.inside("test -e /srv/project/Vmfile && echo there"), "there", "{context}");
    }

    /// `destroy` works, and nothing is left.
    fn destroy_clears(&self, context: &str) {
        let ids: Vec<String> = self
            .sandbox
            .machine_folders()
            .iter()
            .map(|folder| folder.file_name().unwrap_or_default().to_string_lossy().into_owned())
            .collect();
        let destroy = self.sandbox.run(&["destroy", "--force"]);
        assert_eq!(destroy.code, 0, "{context}: {destroy}");
        let mut marks = vec![self.root.as_str()];
        marks.extend(ids.iter().map(String::as_str));
        self.before.expect_again(&marks);
        let machines = self.sandbox.home().join("machines");
        let left: Vec<_> = std::fs::read_dir(&machines)
            .map(|entries| entries.flatten().map(|entry| entry.file_name()).collect())
            .unwrap_or_default();
        let left: Vec<_> = left.iter().filter(|name| !name.to_string_lossy().starts_with('.')).collect();
        assert!(left.is_empty(), "{context}: {left:?}");
    }

    /// Kills at every point of `up`; even points heal by `up`, odd ones are destroyed as they are.
    fn during_up(&self, victim: Victim) {
        let whole = self.undisturbed(&["up"]);
        self.destroy_clears("undisturbed");
        for point in 0..POINTS {
            let delay = whole * point / (POINTS - 1);
            let context = format!("{victim:?} killed {delay:?} into an `up` of {whole:?}");
            self.disturb(&["up"], victim, delay);
            if point % 2 == 0 {
                self.up_heals(&context);
            }
            self.destroy_clears(&context);
        }
    }
}

#[test]
fn the_command_line_is_killed_during_up() {
    Scene::new().during_up(Victim::Cli);
}

#[test]
fn the_supervisor_is_killed_during_up() {
    Scene::new().during_up(Victim::Supervisor);
}

#[test]
fn the_keeper_is_killed_during_up() {
    Scene::new().during_up(Victim::Keeper);
}

#[test]
fn all_are_killed_during_up() {
    Scene::new().during_up(Victim::All);
}

/// The supervisor, the keeper or both, of a machine that runs: it is stopped, is said to be, and starts again
/// with what was on its disk.
#[test]
fn a_running_machine_is_killed() {
    let scene = Scene::new();
    let sandbox = &scene.sandbox;
    sandbox.ok(&["up"]);
    for victim in [Victim::Supervisor, Victim::Keeper, Victim::All] {
        let context = format!("{victim:?} of a running machine killed");
        sandbox.inside("echo kept | sudo tee /etc/kept && sync");
        assert!(!victim.processes(sandbox).is_empty(), "{context}: it is there");
        victim.kill(sandbox, None);
        wait::until_true(&context, || sandbox.state("default").as_deref() == Some("stopped"));
        scene.up_heals(&context);
        assert_eq!(sandbox.inside("cat /etc/kept"), "kept", "{context}");
    }
    scene.destroy_clears("after all");
}

/// And without an `up` in between: destroy alone clears what a dead supervisor left.
#[test]
fn a_killed_machine_is_destroyed() {
    let scene = Scene::new();
    for victim in [Victim::Supervisor, Victim::Keeper, Victim::All] {
        scene.sandbox.ok(&["up"]);
        victim.kill(&scene.sandbox, None);
        scene.destroy_clears(&format!("{victim:?} killed"));
    }
}

#[test]
fn halt_and_destroy_are_killed() {
    let scene = Scene::new();
    let sandbox = &scene.sandbox;
    for arguments in [&["halt"][..], &["destroy", "--force"]] {
        sandbox.ok(&["up"]);
        let whole = scene.undisturbed(arguments);
        for victim in [Victim::Cli, Victim::All] {
            for point in 0..6 {
                let delay = whole * point / 5;
                let context = format!("{victim:?} killed {delay:?} into `{}`", arguments.join(" "));
                sandbox.ok(&["up"]);
                scene.disturb(arguments, victim, delay);
                if point % 2 == 0 {
                    scene.up_heals(&context);
                }
                scene.destroy_clears(&context);
            }
        }
    }
}

/// A `destroy` that was killed when the layer was gone and the machine's directory was not: `up` makes a machine that
/// is provisioned, whatever had succeeded on the layer before.
#[test]
fn a_destroy_is_killed_behind_the_layer() {
    let scene = Scene::new();
    scene.sandbox.ok(&["up"]);
    scene.sandbox.ok(&["halt"]);
    let machine = &scene.sandbox.machine_folders()[0];
    std::fs::rename(machine.join("top"), machine.join("top.doomed.0")).expect("renamed as destroy does it");
    scene.up_heals("after half a destroy");
    assert_eq!(scene.sandbox.inside("cat /var/log/steps"), "one\ntwo");
    scene.destroy_clears("after half a destroy");
}

/// The machine's own init ends, by its own hand or another's.
#[test]
fn a_machine_that_halts_or_reboots_itself() {
    let scene = Scene::new();
    let sandbox = &scene.sandbox;
    sandbox.ok(&["up"]);
    let boot = sandbox.inside("cat /proc/1/stat | cut -d' ' -f22; cat /etc/machine-id");
    let _ = sandbox.run(&["ssh", "-c", "sudo systemctl reboot"]);
    wait::until_true("the machine to be back", || {
        let outcome = sandbox.run(&["ssh", "-c", "cat /proc/1/stat | cut -d' ' -f22; cat /etc/machine-id"]);
        outcome.code == 0 && outcome.stdout.trim() != boot
    });
    let _ = sandbox.run(&["ssh", "-c", "sudo systemctl poweroff"]);
    wait::until_true("the machine to stop", || sandbox.state("default").as_deref() == Some("stopped"));
    scene.up_heals("after its own poweroff");
    scene.destroy_clears("after its own poweroff");
}
