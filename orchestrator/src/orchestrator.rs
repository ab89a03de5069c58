//! What every operation works with.

use std::sync::Arc;
use std::time::Instant;

use posada_box_catalog::Store;
use posada_provider_api::{MachineName, MachineState, Observer, Provider};

use crate::backends::Backends;
use crate::cancel::Cancel;
use crate::error::Error;
use crate::event::{Event, EventSink};
use crate::host::Host;
use crate::project::Project;
use crate::state::{Attempt, Entry, MachineLock, Machines, make_private_dir};

/// Carries out what the user asks. Cheap to clone; clones are the same.
#[derive(Clone)]
pub struct Orchestrator {
    pub(crate) host: Arc<Host>,
    pub(crate) machines: Machines,
    pub(crate) store: Store,
    pub(crate) backends: Backends,
    pub(crate) sink: Arc<dyn EventSink>,
    pub(crate) cancel: Cancel,
}

impl Orchestrator {
    /// One that keeps what it has under `host.home`, tells `sink` what happens, and ends early when `cancel` is
    /// expressed.
    ///
    /// # Errors
    /// [`Error::Io`] where `host.home` cannot be made; [`Error::Box`] where the box store cannot be opened.
    pub fn open(host: Host, sink: Arc<dyn EventSink>, cancel: Cancel) -> Result<Self, Error> {
        make_private_dir(&host.home).map_err(Error::io("make Posada's home"))?;
        let store = Store::open(host.boxes(), host.exe.clone())?.with_remotes(host.remotes.clone());
        Ok(Self {
            machines: Machines::at(host.machines()),
            backends: Backends::new(&host),
            host: Arc::new(host),
            store,
            sink,
            cancel,
        })
    }

    /// The box store.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// All machines of this user.
    #[must_use]
    pub fn machines(&self) -> &Machines {
        &self.machines
    }

    pub(crate) fn tell(&self, event: Event) {
        self.sink.event(event);
    }

    pub(crate) fn warn(&self, machine: &MachineName, message: impl Into<String>) {
        self.tell(Event::Warning { machine: Some(machine.clone()), message: message.into() });
    }

    /// Begins a phase of a machine; the result ends it.
    pub(crate) fn phase(&self, machine: &MachineName, phase: impl Into<String>) -> Phase<'_> {
        self.begin(machine, phase);
        Phase { of: self, machine: machine.clone(), began: Instant::now() }
    }

    /// Begins a phase that the machine's next event ends.
    pub(crate) fn begin(&self, machine: &MachineName, phase: impl Into<String>) {
        self.tell(Event::Phase { machine: machine.clone(), phase: phase.into() });
    }

    /// Passes on what a provider tells of a machine.
    pub(crate) fn observer(&self, machine: &MachineName) -> Relay {
        Relay { sink: self.sink.clone(), machine: machine.clone() }
    }

    pub(crate) fn provider(&self, entry: &Entry) -> &dyn Provider {
        self.backends.get(entry.record.provider)
    }

    /// What the machine is doing.
    pub(crate) async fn state(&self, entry: &Entry) -> Result<MachineState, Error> {
        let state =
            self.provider(entry).state(&entry.dir).await.map_err(Error::provider(&entry.record.name))?;
        // One whose record was made and whose layer was not is there all the same.
        Ok(if state == MachineState::Absent { MachineState::Stopped } else { state })
    }

    /// Takes the machine's lock, waiting for whoever has it; `None` where the machine is destroyed meanwhile.
    pub(crate) async fn lock(&self, entry: &Entry) -> Result<Option<MachineLock>, Error> {
        match MachineLock::attempt(&entry.dir, &self.host.command)? {
            Attempt::Held(lock) => Ok(Some(lock)),
            Attempt::Gone => Ok(None),
            Attempt::Busy(file, holder) => {
                self.tell(Event::Waiting {
                    machine: entry.record.name.clone(),
                    pid: holder.as_ref().map(|holder| holder.pid),
                    command: holder.map(|holder| holder.command),
                });
                let (dir, command) = (entry.dir.clone(), self.host.command.clone());
                let wait = blocking(move || MachineLock::wait(file, &dir, &command));
                let attempt = tokio::select! {
                    attempt = wait => attempt?,
                    () = self.cancel.cancelled() => return Err(Error::Cancelled),
                };
                match attempt {
                    Attempt::Held(lock) => Ok(Some(lock)),
                    Attempt::Gone | Attempt::Busy(..) => Ok(None),
                }
            }
        }
    }

    /// The project's machines called `names`, or all of them where none is named.
    pub(crate) fn existing(&self, project: &Project, names: &[String]) -> Result<Vec<Entry>, Error> {
        let entries = self.machines.of_project(project)?;
        if names.is_empty() {
            return Ok(entries);
        }
        let find = |name: &String| {
            entries.iter().find(|entry| entry.record.name.as_str() == name).cloned().ok_or_else(|| {
                let known = entries.iter().map(|entry| entry.record.name.to_string()).collect();
                Error::UnknownMachine { name: name.clone(), known }
            })
        };
        names.iter().map(find).collect()
    }

    /// The project's machine called `name`, or its only one.
    ///
    /// # Errors
    /// [`Error::UnknownMachine`], [`Error::WhichMachine`].
    pub fn one(&self, project: &Project, name: Option<&str>) -> Result<Entry, Error> {
        let names: Vec<_> = name.map(str::to_owned).into_iter().collect();
        let mut entries = self.existing(project, &names)?;
        match (entries.len(), name) {
            (1, _) => Ok(entries.remove(0)),
            (0, _) => {
                let name = MachineName::new("default").map_err(|_| Error::Cancelled)?;
                Err(Error::NotCreated { machine: name })
            }
            _ => Err(Error::WhichMachine {
                known: entries.iter().map(|entry| entry.record.name.to_string()).collect(),
            }),
        }
    }
}

/// A phase under way.
pub(crate) struct Phase<'a> {
    of: &'a Orchestrator,
    machine: MachineName,
    began: Instant,
}

impl Phase<'_> {
    /// Ends it well.
    pub(crate) fn done(self, what: impl Into<String>) {
        let took_ms = millis(self.began);
        self.of.tell(Event::Done { machine: self.machine, what: what.into(), took_ms });
    }
}

/// Milliseconds since `began`.
pub(crate) fn millis(began: Instant) -> u64 {
    u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// Runs what blocks away from the runtime's threads.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Error::Io { doing: "run a helper thread".to_owned(), source: error.into() })?
}

/// An observer that makes events of what a provider tells.
pub(crate) struct Relay {
    sink: Arc<dyn EventSink>,
    machine: MachineName,
}

impl Observer for Relay {
    fn phase(&self, text: &str) {
        self.sink.event(Event::Phase { machine: self.machine.clone(), phase: text.to_owned() });
    }

    fn warn(&self, text: &str) {
        self.sink.event(Event::Warning { machine: Some(self.machine.clone()), message: text.to_owned() });
    }

    fn console(&self, line: &str) {
        self.sink.event(Event::Console { machine: self.machine.clone(), line: line.to_owned() });
    }
}
