//! Supervisor, keeper or both are killed at many points: afterwards, cleaning up leaves nothing.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use libtest_mimic::Trial;
use posada_container::{Keeper, cleanup};
use posada_provider_api::{MachineDir, MachineSpec, Silent};

use crate::rig::{EXE, Machine};
use crate::trial;

/// Becomes a supervisor that launches the machine whose directory is named, and lives until it is killed.
pub const SUPERVISE: &str = "__supervise-test";

pub fn trials() -> Vec<Trial> {
    vec![
        trial("a_killed_supervisor_leaves_nothing", supervisor),
        trial("a_killed_keeper_leaves_nothing", keeper),
        trial("both_killed_leave_nothing", both),
        trial("a_killed_keeper_is_told", told),
    ]
}

pub fn supervise(args: &[OsString]) -> ExitCode {
    let dir = MachineDir::new(&args[0]);
    let spec: MachineSpec = serde_json::from_slice(&std::fs::read(dir.spec()).unwrap()).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let launched = Keeper::launch(Path::new(EXE), &dir, &spec, &Silent).await;
        let (keeper, handles) = match launched {
            Ok(launched) => launched,
            Err(error) => {
                std::io::stderr().write_all(error.to_string().as_bytes()).unwrap();
                return ExitCode::FAILURE;
            }
        };
        let mut told = std::io::stdout();
        told.write_all(format!("launched {}\n", handles.init_pid).as_bytes()).unwrap();
        keeper.ended().await;
        ExitCode::SUCCESS
    })
}

/// Starts a supervisor process.
fn start(machine: &Machine) -> Child {
    std::fs::write(machine.dir.spec(), serde_json::to_vec(&machine.spec).unwrap()).unwrap();
    Command::new(EXE).arg(SUPERVISE).arg(machine.dir.path()).stdout(Stdio::piped()).spawn().unwrap()
}

/// The keeper that a supervisor has started, if it has.
fn keeper_of(supervisor: u32) -> Option<u32> {
    let threads = std::fs::read_dir(format!("/proc/{supervisor}/task")).ok()?;
    let children: Vec<u32> = threads
        .filter_map(|thread| std::fs::read_to_string(thread.ok()?.path().join("children")).ok())
        .flat_map(|text| text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<u32>>())
        .collect();
    children.into_iter().find(|pid| {
        std::fs::read(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|line| line.windows(18).any(|part| part == b"__container-keeper"))
    })
}

fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(pid.cast_signed()).unwrap();
    // It may be gone already; that is one of the points.
    if rustix::process::kill_process(pid, rustix::process::Signal::KILL) == Err(rustix::io::Errno::PERM) {
        // An ordinary user's keeper is another user by now; its user namespace is the caller's.
        let pid = pid.as_raw_nonzero().to_string();
        let _ = Command::new("nsenter").args(["-U", "-t", &pid, "kill", "-9", &pid]).output();
    }
}

/// The points in a launch: from before the keeper's first step to a booted machine, in microseconds.
const POINTS: [u64; 16] = [
    0, 500, 1_000, 2_000, 3_000, 5_000, 7_000, 9_000, 12_000, 16_000, 22_000, 30_000, 45_000, 80_000,
    150_000, 400_000,
];

async fn crash(victims: fn(u32) -> Vec<u32>) {
    let machine = Machine::new("crash");
    for point in POINTS {
        let mut supervisor = start(&machine);
        // The point in time is what is tested.
        std::thread::sleep(Duration::from_micros(point));
        victims(supervisor.id()).into_iter().for_each(kill);
        kill(supervisor.id());
        supervisor.wait().unwrap();
        cleanup(Path::new(EXE), &machine.dir).unwrap();
        nothing_is_left(&machine, point);
    }
    // After all that it still starts.
    let live = machine.start().await.unwrap();
    assert_eq!(live.boot(), "running");
    live.keeper.kill().unwrap();
    live.end().await;
    nothing_is_left(&machine, u64::MAX);
}

pub async fn supervisor() {
    crash(|_| Vec::new()).await;
}

pub async fn keeper() {
    crash(|supervisor| keeper_of(supervisor).into_iter().collect()).await;
}

async fn both() {
    crash(|supervisor| {
        let keeper = keeper_of(supervisor);
        kill(supervisor);
        keeper.into_iter().collect()
    })
    .await;
}

async fn told() {
    let machine = Machine::new("crash");
    let mut supervisor = start(&machine);
    let mut lines = BufReader::new(supervisor.stdout.take().unwrap()).lines();
    let first = lines.next().unwrap().unwrap();
    let init: u32 = first.strip_prefix("launched ").unwrap().parse().unwrap();
    kill(keeper_of(supervisor.id()).expect("a keeper"));
    // The supervisor sees its end, and the machine ends with it.
    assert!(supervisor.wait().unwrap().success());
    cleanup(Path::new(EXE), &machine.dir).unwrap();
    let status = std::fs::read_to_string(format!("/proc/{init}/status")).unwrap_or_default();
    assert!(status.is_empty() || status.contains("\nState:\tZ"), "{status}");
    nothing_is_left(&machine, 0);
}

/// No process, mount or control group has the machine's name.
pub fn nothing_is_left(machine: &Machine, point: u64) {
    let id = machine.spec.id.as_str();
    assert!(!machine.dir.runtime().exists(), "runtime.json, at {point}");
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(id), "a mount, at {point}");
    for process in std::fs::read_dir("/proc").unwrap().flatten() {
        // What has ended and only waits for its parent's notice holds nothing.
        let status = std::fs::read_to_string(process.path().join("status")).unwrap_or_default();
        if status.contains("\nState:\tZ") || status.contains("\nState:\tX") {
            continue;
        }
        let groups = std::fs::read_to_string(process.path().join("cgroup")).unwrap_or_default();
        let mounts = std::fs::read_to_string(process.path().join("mountinfo")).unwrap_or_default();
        let top = machine.dir.top();
        let path = top.to_str().unwrap();
        assert!(!groups.contains(id) && !mounts.contains(path), "process {:?}, at {point}", process.path());
    }
    let groups = Command::new("find").args(["/sys/fs/cgroup", "-name", &format!("*{id}*")]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&groups.stdout), "", "a control group, at {point}");
}
