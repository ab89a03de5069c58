//! What every backend must do, as tests over the [`Provider`] trait.
//!
//! A backend has a test binary that makes a [`Bench`] and calls each function of [`ALL`]. They speak to the
//! trait alone: what they expect is what the trait's documentation promises.

mod life;
mod reach;
mod trouble;

use std::future::Future;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use posada_provider_api::{
    MachineDir, MachineId, MachineName, MachineSpec, MachineState, Network, Provider, Silent, StopRequest,
};

/// A backend on trial.
pub trait Bench: Sync {
    /// The backend.
    fn provider(&self) -> &dyn Provider;

    /// The description of a machine that boots a real distribution and has an sshd; `dir` exists, is empty and
    /// belongs to nobody else.
    fn spec(&self, id: MachineId, name: MachineName) -> (MachineDir, MachineSpec);

    /// Kills the supervisor of the machine in `dir` with SIGKILL, as an out-of-memory killer would.
    fn kill_supervisor(&self, dir: &MachineDir);

    /// How long a machine may take from its start until its sshd answers.
    fn boot_patience(&self) -> Duration {
        Duration::from_secs(120)
    }

    /// How long a machine that has booted may take to shut down.
    fn halt_patience(&self) -> Duration {
        Duration::from_secs(30)
    }

    /// Where a machine is kept that runs from one check to the next, for those that only look at one; `None` gives
    /// each check its own.
    fn shared(&self) -> Option<&Shared> {
        None
    }
}

/// A machine that checks find running and leave running. For backends on which a boot takes long.
#[derive(Default)]
pub struct Shared(Mutex<Option<(MachineDir, MachineSpec)>>);

impl Shared {
    /// Destroys it, where one was made.
    ///
    /// # Panics
    /// Where it cannot be destroyed.
    pub async fn destroy(&self, provider: &dyn Provider) {
        let kept = self.kept().take();
        if let Some((dir, _)) = kept {
            provider.destroy(&dir).await.expect("destroy");
        }
    }

    fn kept(&self) -> MutexGuard<'_, Option<(MachineDir, MachineSpec)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
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

/// A machine of one test.
struct Trial<'a> {
    bench: &'a dyn Bench,
    dir: MachineDir,
    spec: MachineSpec,
}

impl<'a> Trial<'a> {
    /// One that has not been made.
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

    /// One that was started, with a forward to its sshd; perhaps by an earlier test. To be handed back by
    /// [`leave`](Self::leave).
    async fn running(bench: &'a dyn Bench) -> Self {
        let kept = bench.shared().and_then(|shared| shared.kept().clone());
        if let Some((dir, spec)) = kept
            && bench.provider().state(&dir).await.expect("state") == MachineState::Running
        {
            return Self { bench, dir, spec };
        }
        let mut trial = Self::new(bench);
        trial.spec.networks = vec![Network::Forward(reach::forward(0))];
        if let Some(shared) = bench.shared() {
            *shared.kept() = Some((trial.dir.clone(), trial.spec.clone()));
        }
        trial.up().await;
        trial
    }

    fn provider(&self) -> &'a dyn Provider {
        self.bench.provider()
    }

    /// A stop that gives the machine the time it may take.
    fn graceful(&self) -> StopRequest {
        StopRequest::Graceful(self.bench.halt_patience())
    }

    async fn up(&self) {
        std::fs::write(self.dir.spec(), serde_json::to_vec(&self.spec).expect("JSON"))
            .expect("the spec is written");
        self.provider().create(&self.dir, &self.spec, &Silent).await.expect("create");
        self.provider().start(&self.dir, &self.spec, &Silent).await.expect("start");
    }

    /// Ends the use of a machine that [`running`](Self::running) gave.
    async fn leave(self) {
        if self.bench.shared().is_none() {
            self.destroy().await;
        }
    }

    async fn destroy(self) {
        self.provider().destroy(&self.dir).await.expect("destroy");
        assert_eq!(self.provider().state(&self.dir).await.expect("state"), MachineState::Absent);
    }
}
