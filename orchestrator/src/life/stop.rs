//! `halt`, `suspend`, `resume`, `snapshot` and `reload`.

use std::time::{Duration, Instant};

use posada_provider_api::{MachineSpec, MachineState, SnapshotOp, StopRequest};

use super::schedule::{self, Node};
use super::up::{UpOptions, select};
use crate::error::Error;
use crate::event::Event;
use crate::orchestrator::{Orchestrator, millis};
use crate::project::Project;
use crate::state::{Entry, read_json};
use crate::vmfile::{GRACEFUL_TIMEOUT, Vmfile};

/// How `halt` is carried out.
#[derive(Debug, Clone, Copy, Default)]
pub struct HaltOptions {
    /// Ends machines at once instead of asking them.
    pub force: bool,
}

impl Orchestrator {
    /// Stops the machines called `names`, or all.
    ///
    /// # Errors
    /// [`Error::UnknownMachine`]; else what failed, machine by machine.
    pub async fn halt(&self, project: &Project, names: &[String], options: HaltOptions) -> Result<(), Error> {
        let of = self.clone();
        self.each(project, names, move |entry| {
            let of = of.clone();
            async move { of.halt_one(&entry, options).await }
        })
        .await
    }

    /// Halts the machines called `names`, or all, and brings them up with what their Vmfile says now.
    ///
    /// # Errors
    /// As `halt` and `up`.
    pub async fn reload(
        &self,
        project: &Project,
        vmfile: &Vmfile,
        names: &[String],
        options: &UpOptions,
    ) -> Result<(), Error> {
        let configs = select(vmfile, names)?;
        let wanted = |entry: &Entry| {
            let named = |name: &String| name == entry.record.name.as_str();
            configs.iter().any(|config| config.name == entry.record.name)
                && (names.is_empty() || names.iter().any(named))
        };
        let running: Vec<_> = self
            .machines
            .of_project(project)?
            .into_iter()
            .filter(wanted)
            .map(|entry| entry.record.name.to_string())
            .collect();
        if !running.is_empty() {
            self.halt(project, &running, HaltOptions::default()).await?;
        }
        self.up(project, vmfile, names, options).await
    }

    /// Freezes the machines called `names`, or all.
    ///
    /// # Errors
    /// [`Error::Provider`] where a backend cannot, or a machine does not run.
    pub async fn suspend(&self, project: &Project, names: &[String]) -> Result<(), Error> {
        let of = self.clone();
        self.each(project, names, move |entry| {
            let of = of.clone();
            async move { of.change(&entry, "suspending", MachineState::Suspended).await }
        })
        .await
    }

    /// Lets the machines called `names`, or all, go on.
    ///
    /// # Errors
    /// [`Error::Provider`] where a backend cannot, or a machine does not run.
    pub async fn resume(&self, project: &Project, names: &[String]) -> Result<(), Error> {
        let of = self.clone();
        self.each(project, names, move |entry| {
            let of = of.clone();
            async move { of.change(&entry, "resuming", MachineState::Running).await }
        })
        .await
    }

    /// Takes, restores or deletes a snapshot of one machine.
    ///
    /// # Errors
    /// [`Error::Provider`] where its backend cannot.
    pub async fn snapshot(&self, project: &Project, name: Option<&str>, op: SnapshotOp) -> Result<(), Error> {
        let entry = self.one(project, name)?;
        let _lock = self.lock(&entry).await?.ok_or_else(|| gone(&entry))?;
        self.provider(&entry).snapshot(&entry.dir, op).await.map_err(Error::provider(&entry.record.name))
    }

    /// The names of a machine's snapshots, oldest first.
    ///
    /// # Errors
    /// [`Error::Provider`] where its backend takes none.
    pub async fn snapshots(&self, project: &Project, name: Option<&str>) -> Result<Vec<String>, Error> {
        let entry = self.one(project, name)?;
        self.provider(&entry).snapshots(&entry.dir).await.map_err(Error::provider(&entry.record.name))
    }

    async fn halt_one(&self, entry: &Entry, options: HaltOptions) -> Result<(), Error> {
        match self.lock(entry).await? {
            Some(_lock) => self.stop(entry, options).await,
            None => Ok(()),
        }
    }

    /// The same for who holds the machine's lock.
    pub(super) async fn stop(&self, entry: &Entry, options: HaltOptions) -> Result<(), Error> {
        let began = Instant::now();
        let name = &entry.record.name;
        // A machine that is still starting under a killed posada counts as stopped and has a supervisor.
        let request =
            if options.force { StopRequest::Forced } else { StopRequest::Graceful(graceful_timeout(entry)?) };
        // One that is ended at once need not say first how it is: it may be unable to.
        if options.force || self.state(entry).await? != MachineState::Stopped {
            self.begin(name, "stopping");
        }
        let stopped = self.provider(entry).stop(&entry.dir, request).await.map_err(Error::provider(name))?;
        if stopped.forced && !options.force {
            self.warn(name, "it did not shut down in time and was ended; see `graceful_timeout`");
        }
        self.tell(Event::Machine {
            machine: name.clone(),
            state: MachineState::Stopped,
            took_ms: millis(began),
            forwards: Vec::new(),
            message: None,
        });
        Ok(())
    }

    async fn change(&self, entry: &Entry, phase: &str, to: MachineState) -> Result<(), Error> {
        let began = Instant::now();
        let Some(_lock) = self.lock(entry).await? else { return Ok(()) };
        let name = &entry.record.name;
        let provider = self.provider(entry);
        self.begin(name, phase);
        let done = if to == MachineState::Suspended {
            provider.suspend(&entry.dir)
        } else {
            provider.resume(&entry.dir)
        };
        done.await.map_err(Error::provider(name))?;
        self.tell(Event::Machine {
            machine: name.clone(),
            state: to,
            took_ms: millis(began),
            forwards: Vec::new(),
            message: None,
        });
        Ok(())
    }

    /// Does the same to several machines at once.
    pub(super) async fn each<F, R>(&self, project: &Project, names: &[String], work: F) -> Result<(), Error>
    where
        F: Fn(Entry) -> R + Clone + Send + 'static,
        R: Future<Output = Result<(), Error>> + Send + 'static,
    {
        let entries = self.existing(project, names)?;
        self.each_of(entries, work).await
    }

    pub(super) async fn each_of<F, R>(&self, entries: Vec<Entry>, work: F) -> Result<(), Error>
    where
        F: Fn(Entry) -> R + Clone + Send + 'static,
        R: Future<Output = Result<(), Error>> + Send + 'static,
    {
        let nodes = entries
            .into_iter()
            .map(|entry| Node { name: entry.record.name.clone(), after: Vec::new(), work: entry })
            .collect();
        schedule::run(self, nodes, true, work).await
    }
}

fn graceful_timeout(entry: &Entry) -> Result<Duration, Error> {
    let spec: Option<MachineSpec> = read_json(&entry.dir.spec())?;
    Ok(spec.map_or(GRACEFUL_TIMEOUT, |spec| spec.graceful_timeout))
}

pub(super) fn gone(entry: &Entry) -> Error {
    Error::NotCreated { machine: entry.record.name.clone() }
}
