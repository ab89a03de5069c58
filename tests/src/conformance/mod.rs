//! What every backend must do, as tests over the [`Provider`] trait.
//!
//! A backend has a test binary that makes a [`Bench`] and calls each function of [`ALL`]. They speak to the
//! trait alone: what they expect is what the trait's documentation promises.

mod life;
mod reach;
mod trouble;

use std::future::Future;
use std::pin::Pin;

use posada_provider_api::{MachineDir, MachineId, MachineName, MachineSpec, Provider};

/// A backend on trial.
pub trait Bench: Sync {
    /// The backend.
    fn provider(&self) -> &dyn Provider;

    /// The description of a machine that boots a real distribution and has an sshd; `dir` exists, is empty and
    /// belongs to nobody else.
    fn spec(&self, id: MachineId, name: MachineName) -> (MachineDir, MachineSpec);

    /// Kills the supervisor of the machine in `dir` with SIGKILL, as an out-of-memory killer would.
    fn kill_supervisor(&self, dir: &MachineDir);
}

/// One test.
pub type Check = fn(&dyn Bench) -> Pin<Box<dyn Future<Output = ()> + '_>>;

/// Every test, by name.
pub const ALL: &[(&str, Check)] = &[
    ("availability_is_usable", |b| Box::pin(life::availability_is_usable(b))),
    ("from_absent_to_running_and_back", |b| Box::pin(life::from_absent_to_running_and_back(b))),
    ("what_is_written_stays_over_a_restart", |b| Box::pin(life::what_is_written_stays_over_a_restart(b))),
    ("a_forced_stop_is_at_once", |b| Box::pin(life::a_forced_stop_is_at_once(b))),
    ("suspend_and_resume", |b| Box::pin(life::suspend_and_resume(b))),
    ("snapshots_work_or_are_refused", |b| Box::pin(life::snapshots_work_or_are_refused(b))),
    ("calls_repeat", |b| Box::pin(life::calls_repeat(b))),
    ("sshd_is_reached_by_event", |b| Box::pin(reach::sshd_is_reached_by_event(b))),
    ("the_ssh_endpoint_answers", |b| Box::pin(reach::the_ssh_endpoint_answers(b))),
    ("forwards_are_in_force", |b| Box::pin(reach::forwards_are_in_force(b))),
    ("the_console_is_attached", |b| Box::pin(reach::the_console_is_attached(b))),
    ("a_silent_port_is_told", |b| Box::pin(trouble::a_silent_port_is_told(b))),
    ("a_taken_port_is_told", |b| Box::pin(trouble::a_taken_port_is_told(b))),
    ("what_needs_a_running_machine_says_so", |b| Box::pin(trouble::what_needs_a_running_machine_says_so(b))),
    ("a_killed_supervisor_takes_the_machine_along", |b| {
        Box::pin(trouble::a_killed_supervisor_takes_the_machine_along(b))
    }),
    ("a_half_made_machine_is_completed_or_removed", |b| {
        Box::pin(trouble::a_half_made_machine_is_completed_or_removed(b))
    }),
];

/// A machine of one test, destroyed with it.
struct Trial<'a> {
    bench: &'a dyn Bench,
    dir: MachineDir,
    spec: MachineSpec,
}

impl<'a> Trial<'a> {
    fn new(bench: &'a dyn Bench) -> Self {
        let name = MachineName::new("trial").expect("a name");
        let random = u32::from_ne_bytes(
            std::fs::read("/proc/sys/kernel/random/uuid").expect("a random id")[..4]
                .try_into()
                .expect("4 bytes"),
        );
        let (dir, spec) = bench.spec(MachineId::from_parts(&name, random), name);
        Self { bench, dir, spec }
    }

    fn provider(&self) -> &'a dyn Provider {
        self.bench.provider()
    }

    async fn up(&self) {
        let silent = posada_provider_api::Silent;
        std::fs::write(self.dir.spec(), serde_json::to_vec(&self.spec).expect("JSON"))
            .expect("the spec is written");
        self.provider().create(&self.dir, &self.spec, &silent).await.expect("create");
        self.provider().start(&self.dir, &self.spec, &silent).await.expect("start");
    }

    async fn destroy(self) {
        self.provider().destroy(&self.dir).await.expect("destroy");
        assert_eq!(
            self.provider().state(&self.dir).await.expect("state"),
            posada_provider_api::MachineState::Absent
        );
    }
}
