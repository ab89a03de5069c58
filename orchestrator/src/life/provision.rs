//! Waiting for SSH, and the provisioning steps.

use std::sync::Arc;
use std::time::Instant;

use posada_provider_api::{MachineName, MachineSpec, MachineState};
use posada_provisioners::{
    Decision, Ledger, OutputSink, OutputStream, RunReason, Selection, SkipReason, Ssh, plan, run_step, sync,
};

use super::schedule::{self, Node};
use super::up::select;
use crate::error::{Error, OnMachine};
use crate::event::{Event, EventSink};
use crate::orchestrator::{Orchestrator, blocking, millis};
use crate::project::Project;
use crate::session::is_not_running;
use crate::state::{Entry, read_json};
use crate::vmfile::{MachineConfig, Vmfile};

/// Which provisioning steps run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Provisioning {
    /// None.
    Off,
    /// Those that have not succeeded yet, were edited, or run always.
    #[default]
    Due,
    /// Every step but those that only run when named, whether it has succeeded or not.
    Again,
    /// Those called so, whether they have succeeded or not.
    Named(Vec<String>),
}

impl Orchestrator {
    /// Runs provisioning steps on running machines.
    ///
    /// # Errors
    /// [`Error::Provider`] where a machine does not run; [`Error::Step`] at the first step that fails.
    pub async fn provision(
        &self,
        project: &Project,
        vmfile: &Vmfile,
        names: &[String],
        what: &Provisioning,
    ) -> Result<(), Error> {
        let configs = if names.is_empty() { select(vmfile, names)? } else { named(vmfile, names)? };
        let existing = self.machines.of_project(project)?;
        let mut nodes = Vec::new();
        for config in configs {
            let Some(entry) = existing.iter().find(|entry| entry.record.name == config.name) else {
                return Err(Error::NotCreated { machine: config.name.clone() });
            };
            let work = (entry.clone(), config.clone());
            nodes.push(Node { name: config.name.clone(), after: config.depends_on.clone(), work });
        }
        let (of, what) = (self.clone(), what.clone());
        schedule::run(self, nodes, true, move |(entry, config)| {
            let (of, what) = (of.clone(), what.clone());
            async move { of.provision_one(&entry, &config, &what).await }
        })
        .await
    }

    async fn provision_one(
        &self,
        entry: &Entry,
        config: &MachineConfig,
        what: &Provisioning,
    ) -> Result<(), Error> {
        let began = Instant::now();
        let not_created = || Error::NotCreated { machine: config.name.clone() };
        let _lock = self.lock(entry).await?.ok_or_else(not_created)?;
        let spec: MachineSpec = read_json(&entry.dir.spec())?.ok_or_else(not_created)?;
        self.make_ready(entry, config, &spec, what).await?;
        let provider = self.provider(entry);
        let forwards = provider.forwards(&entry.dir).await.map_err(Error::provider(&config.name))?;
        self.tell(Event::Machine {
            machine: config.name.clone(),
            state: MachineState::Running,
            took_ms: millis(began),
            forwards,
            message: None,
        });
        Ok(())
    }

    /// From a started machine to one that does its work: SSH, provisioning, health.
    pub(super) async fn make_ready(
        &self,
        entry: &Entry,
        config: &MachineConfig,
        spec: &MachineSpec,
        what: &Provisioning,
    ) -> Result<(), Error> {
        let name = &config.name;
        let observer = self.observer(name);
        self.introduce(entry, spec, config.ssh.boot_timeout, &observer).await?;
        let phase = self.phase(name, "waiting for SSH");
        let ssh = self.log_in(entry, &spec.access, config.ssh.boot_timeout, &observer).await?;
        phase.done("ssh ready");
        let ssh = self.run_steps(entry, config, ssh, what).await?;
        self.await_health(entry, config, ssh).await
    }

    /// Runs the steps that are due, in order, up to the first that fails; gives the session back.
    async fn run_steps(
        &self,
        entry: &Entry,
        config: &MachineConfig,
        ssh: Ssh,
        what: &Provisioning,
    ) -> Result<Ssh, Error> {
        if *what == Provisioning::Off || config.provision.is_empty() {
            return Ok(ssh);
        }
        let (sink, config, what) = (self.sink.clone(), config.clone(), what.clone());
        let path = entry.dir.provision();
        let sync = self.provider(entry).features().own_cache;
        let (name, cancel) = (config.name.clone(), self.cancel.clone());
        let ran = blocking(move || {
            let mut ssh = ssh;
            let steps = Steps { sink, config: &config, sync };
            steps.run(&mut ssh, path, &what).map(|()| ssh)
        })
        .await;
        match ran {
            Err(Error::Step(on)) if on.error.is_interrupted() && cancel.is_cancelled() => {
                Err(self.interrupted(entry).await)
            }
            Err(error) if is_not_running(&error) => Err(Error::NotCreated { machine: name }),
            other => other,
        }
    }
}

/// The steps of one machine, on a thread that may block.
struct Steps<'a> {
    sink: Arc<dyn EventSink>,
    config: &'a MachineConfig,
    /// Whether what a step did is only in the machine's memory at first.
    sync: bool,
}

impl Steps<'_> {
    fn run(&self, ssh: &mut Ssh, path: std::path::PathBuf, what: &Provisioning) -> Result<(), Error> {
        let name = &self.config.name;
        let mut ledger = Ledger::load(path).map_err(OnMachine::new(name)).map_err(Error::Ledger)?;
        let selection = match what {
            Provisioning::Named(names) => Selection::Named(names.clone()),
            _ => Selection::All,
        };
        let mut planned = plan(&self.config.provision, &ledger, &selection)
            .map_err(OnMachine::new(name))
            .map_err(Error::Plan)?;
        if *what == Provisioning::Again {
            for each in &mut planned {
                if each.decision == Decision::Skip(SkipReason::Done) {
                    each.decision = Decision::Run(RunReason::Asked);
                }
            }
        }
        let total = planned.iter().filter(|each| matches!(each.decision, Decision::Run(_))).count();
        let mut index = 0;
        for each in &planned {
            let step = each.step.label();
            let reason = match each.decision {
                Decision::Run(reason) => reason,
                Decision::Skip(reason) => {
                    self.skipped(step, reason);
                    continue;
                }
            };
            index += 1;
            self.sink.event(Event::StepStarted {
                machine: name.clone(),
                index,
                total,
                step: step.clone(),
                reason: in_words(reason).to_owned(),
            });
            let output = StepOutput { sink: &*self.sink, machine: name, step: &step };
            let ran = run_step(each.step, ssh, &self.config.env, &output)
                .and_then(|done| if self.sync { sync(each.step, ssh).map(|()| done) } else { Ok(done) });
            match ran {
                Ok(done) => {
                    ledger.record(each, &done).map_err(OnMachine::new(name)).map_err(Error::Ledger)?;
                    let took_ms = u64::try_from(done.took.as_millis()).unwrap_or(u64::MAX);
                    self.sink.event(Event::StepDone { machine: name.clone(), step, took_ms });
                }
                Err(error) => {
                    // The step's own error is the one to tell, also where its record cannot be written.
                    let _ = ledger.record_failure(each);
                    return Err(Error::Step(OnMachine::new(name)(error)));
                }
            }
        }
        Ok(())
    }

    fn skipped(&self, step: String, reason: SkipReason) {
        let reason = match reason {
            SkipReason::Done => "done",
            SkipReason::Never => "never",
            SkipReason::NotAsked => return,
        };
        let machine = self.config.name.clone();
        self.sink.event(Event::StepSkipped { machine, step, reason: reason.to_owned() });
    }
}

fn in_words(reason: RunReason) -> &'static str {
    match reason {
        RunReason::New => "new",
        RunReason::Edited => "edited",
        RunReason::Always => "always",
        RunReason::Asked => "asked",
        RunReason::Resumes => "resumes",
    }
}

/// Makes events of the lines a step prints.
struct StepOutput<'a> {
    sink: &'a dyn EventSink,
    machine: &'a MachineName,
    step: &'a str,
}

impl OutputSink for StepOutput<'_> {
    fn line(&self, stream: OutputStream, text: &str) {
        self.sink.event(Event::Output {
            machine: self.machine.clone(),
            step: self.step.to_owned(),
            stream: match stream {
                OutputStream::Stdout => "stdout",
                OutputStream::Stderr => "stderr",
            },
            line: text.to_owned(),
        });
    }
}

/// Just the machines called `names`, without what they depend on.
fn named<'a>(vmfile: &'a Vmfile, names: &[String]) -> Result<Vec<&'a MachineConfig>, Error> {
    Ok(select(vmfile, names)?
        .into_iter()
        .filter(|c| names.iter().any(|name| name == c.name.as_str()))
        .collect())
}
