//! `up`: from whatever state a machine is in to running, reached over SSH, provisioned and healthy.

use std::sync::Arc;
use std::time::Instant;

use posada_box_catalog::{BoxError, BoxRef, Digest, Form, StoredBox};
use posada_provider_api::{MachineSpec, MachineState, Network, ProviderError, ProviderKind};

use super::addresses;
use super::locking::Locking;
use super::provision::Provisioning;
use super::schedule::{self, Node};
use crate::backends::Candidate;
use crate::error::{Error, OnMachine};
use crate::event::Event;
use crate::orchestrator::{Orchestrator, blocking, millis};
use crate::project::Project;
use crate::session::{console_tail, is_not_running};
use crate::spec;
use crate::state::{Entry, MachineLock, NewMachine, read_json, remove_file, write_json};
use crate::vmfile::{MachineConfig, ProviderChoice, Vmfile};

/// How `up` is carried out.
#[derive(Debug, Clone)]
pub struct UpOptions {
    /// The backend new machines are made on, over what the Vmfile says.
    pub provider: Option<ProviderKind>,
    /// Which provisioning steps run.
    pub provisioning: Provisioning,
    /// Whether machines that do not depend on each other come up at once.
    pub parallel: bool,
    /// Whether what is not as the lock file says is refused.
    pub locked: bool,
}

impl Default for UpOptions {
    fn default() -> Self {
        Self { provider: None, provisioning: Provisioning::Due, parallel: true, locked: false }
    }
}

/// How a machine was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    /// It ran before.
    Running,
    /// It was started just now.
    Stopped,
}

impl Orchestrator {
    /// Brings up the machines called `names` and those they depend on, or all.
    ///
    /// # Errors
    /// [`Error::UnknownMachine`]; else what failed, machine by machine. What came up stays up.
    pub async fn up(
        &self,
        project: &Project,
        vmfile: &Vmfile,
        names: &[String],
        options: &UpOptions,
    ) -> Result<(), Error> {
        let selected = select(vmfile, names)?;
        let locking = Arc::new(Locking::begin(project, &selected, options.locked)?);
        let nodes = selected
            .into_iter()
            .map(|config| Node {
                name: config.name.clone(),
                after: config.depends_on.clone(),
                work: config.clone(),
            })
            .collect();
        let (of, project, options) = (self.clone(), Arc::new(project.clone()), options.clone());
        let keeping = locking.clone();
        let done = schedule::run(self, nodes, options.parallel, move |config: MachineConfig| {
            let (of, project, options, locking) =
                (of.clone(), project.clone(), options.clone(), keeping.clone());
            async move { of.bring_up(&project, &config, &options, &locking).await }
        })
        .await;
        if let Err(error) = locking.end(vmfile) {
            self.tell(Event::Warning {
                machine: None,
                message: format!("the lock file was not written: {error}"),
            });
        }
        done
    }

    async fn bring_up(
        &self,
        project: &Project,
        config: &MachineConfig,
        options: &UpOptions,
        locking: &Locking,
    ) -> Result<(), Error> {
        let began = Instant::now();
        let (entry, stored, _lock) = self.claim(project, config, options, locking).await?;
        locking.used(&entry, config, &stored)?;
        let forwards = loop {
            let (spec, found) = self.start(&entry, config, &stored).await?;
            let ready = async {
                self.make_ready(&entry, config, &spec, &options.provisioning).await?;
                self.ports(&entry).await
            };
            match ready.await {
                Ok(forwards) => break forwards,
                // It ran when we looked and was about to die: what was asked for is a machine that runs.
                Err(Error::Provider(_)) if found == Found::Running && !self.runs(&entry).await? => {}
                Err(error) if is_not_running(&error) => return Err(died(&entry)),
                Err(error) => return Err(error),
            }
        };
        self.tell(Event::Machine {
            machine: config.name.clone(),
            state: MachineState::Running,
            took_ms: millis(began),
            forwards,
            message: config.post_up_message.clone(),
        });
        Ok(())
    }

    /// Finds or makes the machine's record and takes its lock.
    async fn claim(
        &self,
        project: &Project,
        config: &MachineConfig,
        options: &UpOptions,
        locking: &Locking,
    ) -> Result<(Entry, StoredBox, MachineLock), Error> {
        loop {
            let known = self.machines.of_project(project)?.into_iter().find(|e| e.record.name == config.name);
            let (entry, stored) = match known {
                Some(entry) => {
                    let stored = self.box_of(&entry, config)?;
                    (entry, stored)
                }
                None => self.make(project, config, options, locking).await?,
            };
            let asked = options.provider.or(match config.provider {
                ProviderChoice::Auto => None,
                ProviderChoice::Kvm => Some(ProviderKind::Kvm),
                ProviderChoice::Container => Some(ProviderKind::Container),
            });
            if let Some(asked) = asked.filter(|asked| *asked != entry.record.provider) {
                return Err(Error::OtherProvider {
                    machine: config.name.clone(),
                    is: entry.record.provider,
                    asked,
                });
            }
            if let Some(lock) = self.lock(&entry).await? {
                return Ok((entry, stored, lock));
            }
            // Destroyed while we waited: what was asked for is a machine, so make a new one.
        }
    }

    async fn make(
        &self,
        project: &Project,
        config: &MachineConfig,
        options: &UpOptions,
        locking: &Locking,
    ) -> Result<(Entry, StoredBox), Error> {
        let choice = match options.provider {
            Some(ProviderKind::Kvm) => ProviderChoice::Kvm,
            Some(ProviderKind::Container) => ProviderChoice::Container,
            None => config.provider,
        };
        let candidates = self.backends.candidates(&config.name, choice).await?;
        let (Candidate { kind, why }, stored) = self.fit(config, candidates, locking).await?;
        let phase = self.phase(&config.name, format!("creating from {} {}", stored.name, stored.version));
        let (machines, project, name) = (self.machines.clone(), project.clone(), config.name.clone());
        let (box_name, box_version) = (stored.name.clone(), stored.version.to_string());
        let box_digest = stored.digest.to_string();
        let entry = blocking(move || {
            let new = NewMachine { name: &name, provider: kind, box_name, box_version, box_digest };
            machines.find_or_create(&project, &new)
        })
        .await?;
        phase.done(format!("created from {} {} on the {kind} provider ({why})", stored.name, stored.version));
        Ok((entry, stored))
    }

    /// The first of the `candidates` that the machine's box can run on, and the box in that form.
    async fn fit(
        &self,
        config: &MachineConfig,
        candidates: Vec<Candidate>,
        locking: &Locking,
    ) -> Result<(Candidate, StoredBox), Error> {
        let mut unfit: Option<(ProviderKind, Error)> = None;
        for candidate in &candidates {
            check_networks(config, candidate.kind)?;
            let why = match &unfit {
                Some((kind, why)) => format!("{kind}: {why}"),
                None => candidate.why.clone(),
            };
            match self.obtain(config, spec::form(candidate.kind), locking).await {
                Ok(stored) => return Ok((Candidate { kind: candidate.kind, why }, stored)),
                Err(error) if may_run_otherwise(&error) => {
                    unfit.get_or_insert((candidate.kind, error));
                }
                Err(error) => return Err(error),
            }
        }
        // What it holds is made into what another one runs only where there is none that runs it as it is.
        for candidate in candidates {
            let form = spec::form(candidate.kind);
            let (wanted, version) = (config.box_ref.clone(), config.box_version.clone());
            let kernel = config.kernel.clone();
            let derived =
                self.with_store(&config.name, wanted.to_string(), move |store, progress, cancel| {
                    store.derive(&wanted, version.as_ref(), form, kernel.as_ref(), progress, cancel)
                });
            match derived.await {
                Ok(stored) => return Ok((candidate, stored)),
                // Who can build it in that form is told so.
                Err(error @ Error::Box(BoxError::NoKernel(_) | BoxError::NoWayIn(_)))
                    if !matches!(
                        &unfit,
                        Some((_, Error::Box(BoxError::MissingForm { buildable: true, .. })))
                    ) =>
                {
                    unfit = Some((candidate.kind, error));
                }
                Err(error) if may_run_otherwise(&error) => {}
                Err(error) => return Err(error),
            }
        }
        // There is at least one candidate.
        Err(unfit.map_or(Error::Cancelled, |(_, error)| error))
    }

    /// The box for a new machine, the one that the lock file names; a file is taken into the store first.
    async fn obtain(
        &self,
        config: &MachineConfig,
        form: Form,
        locking: &Locking,
    ) -> Result<StoredBox, Error> {
        if let Some(locked) = locking.wanted(config, form)? {
            let (reference, same) = (config.box_ref.clone(), locked.clone());
            let kernel = config.kernel.clone();
            let found =
                self.with_store(&config.name, reference.to_string(), move |store, progress, cancel| {
                    let content = (&same.version, &same.digest);
                    store.obtain_exactly(&reference, content, form, kernel.as_ref(), progress, cancel)
                });
            match found.await? {
                Some(stored) => return Ok(stored),
                None => locking.missed(self, config, &locked)?,
            }
        }
        let (wanted, version) = (config.box_ref.clone(), config.box_version.clone());
        self.with_store(&config.name, wanted.to_string(), move |store, progress, cancel| {
            store.obtain(&wanted, version.as_ref(), form, progress, cancel)
        })
        .await
    }

    /// The box the machine was made from, which stays its box whatever the Vmfile says now.
    fn box_of(&self, entry: &Entry, config: &MachineConfig) -> Result<StoredBox, Error> {
        let record = &entry.record;
        if let BoxRef::Named(wanted) = &config.box_ref
            && *wanted != record.box_name
        {
            self.warn(
                &record.name,
                format!(
                    "the Vmfile asks for {wanted}; the machine keeps {} until it is destroyed",
                    record.box_name
                ),
            );
        }
        let stored = match Digest::parse(&record.box_digest) {
            Some(digest) => self.store.by_digest(&digest)?,
            None => None,
        };
        stored.ok_or_else(|| Error::BoxGone {
            machine: record.name.clone(),
            name: record.box_name.clone(),
            version: record.box_version.clone(),
        })
    }

    async fn runs(&self, entry: &Entry) -> Result<bool, Error> {
        Ok(self.state(entry).await? == MachineState::Running)
    }

    /// Describes the machine and starts it, unless it runs; returns the description it runs with.
    async fn start(
        &self,
        entry: &Entry,
        config: &MachineConfig,
        stored: &StoredBox,
    ) -> Result<(MachineSpec, Found), Error> {
        let (dir, keys_dir) = (entry.dir.clone(), entry.dir.ssh());
        let name = &entry.record.name;
        let keys = blocking({
            let name = name.clone();
            move || {
                let keys = posada_provisioners::keys::load_or_create(&keys_dir);
                keys.map_err(OnMachine::new(&name)).map_err(Error::Keys)
            }
        })
        .await?;
        self.keep_wishes(entry, &config.ssh)?;
        let mut wanted = spec::build(entry, config, stored, &keys)?;
        addresses::assign(&dir, &mut wanted)?;
        let provider = self.provider(entry);
        let failed = Error::provider;
        match provider.state(&dir).await.map_err(failed(name))? {
            MachineState::Running => {
                return Ok((self.keep(entry, wanted)?, Found::Running));
            }
            MachineState::Suspended => {
                let phase = self.phase(name, "resuming");
                provider.resume(&dir).await.map_err(failed(name))?;
                phase.done("resumed");
                return Ok((self.keep(entry, wanted)?, Found::Running));
            }
            MachineState::Absent => forget_the_layer(entry)?,
            MachineState::Stopped => {}
        }
        // It lies on the disk that is about to be written to.
        self.end_packing(entry).await?;
        check_networks(config, entry.record.provider)?;
        let phase = self.phase(name, "starting");
        make_folders(name, &wanted)?;
        write_json(&dir.spec(), &wanted)?;
        let observer = self.observer(name);
        provider.create(&dir, &wanted, &observer).await.map_err(failed(name))?;
        tokio::select! {
            started = provider.start(&dir, &wanted, &observer) => started.map_err(failed(name))?,
            () = self.cancel.cancelled() => return Err(self.interrupted(entry).await),
        }
        phase.done("started");
        Ok((wanted, Found::Stopped))
    }

    /// Leaves a running machine as it is, and says where its Vmfile has moved on.
    fn keep(&self, entry: &Entry, wanted: MachineSpec) -> Result<MachineSpec, Error> {
        let running: MachineSpec = read_json(&entry.dir.spec())?.unwrap_or_else(|| wanted.clone());
        let drift = spec::drift(&running, &wanted);
        if !drift.is_empty() {
            let name = &entry.record.name;
            let what = drift.join(", ");
            self.warn(
                name,
                format!(
                    "the Vmfile has changed since it started ({what}); `posada reload {name}` applies it"
                ),
            );
        }
        Ok(running)
    }

    /// The error of an operation that the user stopped, with the truth about the machine.
    pub(crate) async fn interrupted(&self, entry: &Entry) -> Error {
        let state = self.state(entry).await.unwrap_or(MachineState::Stopped);
        Error::Interrupted { machine: entry.record.name.clone(), state }
    }
}

/// Forgets what was true of a writable layer that is gone: a `destroy` that was cut off removes the layer first.
fn forget_the_layer(entry: &Entry) -> Result<(), Error> {
    for path in [entry.dir.provision(), entry.dir.adopted()] {
        remove_file(&path)?;
    }
    Ok(())
}

/// The error of a machine that was started and ended before it was ready.
fn died(entry: &Entry) -> Error {
    let what = "the machine stopped before it was ready".to_owned();
    Error::provider(&entry.record.name)(ProviderError::Machine { what, console: console_tail(entry) })
}

/// The machines called `names` with all they depend on, or every machine; in file order.
pub(super) fn select<'a>(vmfile: &'a Vmfile, names: &[String]) -> Result<Vec<&'a MachineConfig>, Error> {
    if names.is_empty() {
        return Ok(vmfile.machines.iter().collect());
    }
    let mut wanted = Vec::new();
    for name in names {
        let config = vmfile.machines.iter().find(|config| config.name.as_str() == name).ok_or_else(|| {
            Error::UnknownMachine {
                name: name.clone(),
                known: vmfile.names().map(ToString::to_string).collect(),
            }
        })?;
        wanted.push(config.name.clone());
    }
    let mut at = 0;
    while at < wanted.len() {
        if let Some(config) = vmfile.machine(&wanted[at]) {
            for needed in &config.depends_on {
                if !wanted.contains(needed) {
                    wanted.push(needed.clone());
                }
            }
        }
        at += 1;
    }
    Ok(vmfile.machines.iter().filter(|config| wanted.contains(&config.name)).collect())
}

/// Whether a box is there, or might be, in a form that another backend runs.
fn may_run_otherwise(error: &Error) -> bool {
    use BoxError::{MissingForm, MissingVersion, NoKernel, NoWayIn, NotOffered};
    matches!(
        error,
        Error::Box(MissingForm { .. } | NoKernel(_) | NoWayIn(_) | MissingVersion { .. } | NotOffered { .. })
    )
}

/// Refuses what the backend cannot do before anything is made.
fn check_networks(config: &MachineConfig, provider: ProviderKind) -> Result<(), Error> {
    let unsupported = config.networks.iter().find_map(|network| match network {
        Network::Forward(_) => None,
        Network::Private(_) => None,
        Network::Bridged(_) => Some("bridged networks"),
    });
    match unsupported {
        Some(what) => {
            let error = ProviderError::Unsupported { provider, what: what.to_owned() };
            Err(Error::provider(&config.name)(error))
        }
        None => Ok(()),
    }
}

/// Makes the synced folders that are to be made, and misses the others before the machine does.
fn make_folders(machine: &posada_provider_api::MachineName, spec: &MachineSpec) -> Result<(), Error> {
    for folder in &spec.folders {
        if folder.source.is_dir() {
            continue;
        }
        if !folder.create {
            return Err(Error::provider(machine)(ProviderError::Host {
                what: format!("the synced folder {} is no directory on the host", folder.source.display()),
                remedy: "make it, correct `source`, or set `create: true`".to_owned(),
            }));
        }
        fs_err::create_dir_all(&folder.source).map_err(|error| {
            Error::provider(machine)(ProviderError::Host {
                what: format!("the synced folder cannot be made: {error}"),
                remedy: "make it by hand, or correct `source`".to_owned(),
            })
        })?;
    }
    Ok(())
}
