//! Machines whose box has no cloud-init: nothing in them takes up who they are to be, so they are told over SSH.
//!
//! ```text
//!   no ssh/adopted.json ── Vagrant's key ──► lets in ──► own host key, own login key ──► adopted.json ──► settings
//!                                     └────► refused ──► own login key lets in ────────────┘
//! ```
//! The keys come once, the settings (host name, environment, addresses, folders) at each start. Killed at any point, the
//! next `up` goes on: as long as the machine was not given its keys whole, the insecure one lets in.

use std::time::{Duration, Instant};

use posada_provider_api::{GuestAccess, MachineSpec, Observer, Seeding};
use posada_provisioners::{
    AdoptError, INSECURE_KEY, INSECURE_USER, Login, Ssh, TransportError, adopt, apply,
};
use serde::{Deserialize, Serialize};

use crate::error::{Error, OnMachine};
use crate::orchestrator::{Orchestrator, blocking};
use crate::state::{Entry, read_json, write_json};

/// `ssh/adopted.json`: the machine has its own keys. Absent where that is not known yet.
#[derive(Debug, Serialize, Deserialize)]
struct Adopted {
    /// Fingerprint of the host key it showed at first contact; `None` where whoever saw it was killed.
    first_host_key: Option<String>,
}

impl Orchestrator {
    /// Sees to it that the machine has its own keys and is told its settings, where its box asks for that.
    ///
    /// # Errors
    /// [`Error::Provider`], [`Error::Ssh`], [`Error::Adopt`], [`Error::Settings`].
    pub(super) async fn introduce(
        &self,
        entry: &Entry,
        spec: &MachineSpec,
        patience: Duration,
        observer: &dyn Observer,
    ) -> Result<(), Error> {
        if spec.seeding() != Some(Seeding::InsecureKey) {
            return Ok(());
        }
        let deadline = Instant::now() + patience;
        // Whoever may log in later, this user can become root.
        let access = GuestAccess { user: INSECURE_USER.to_owned(), ..spec.access.clone() };
        let known = entry.dir.adopted();
        if read_json::<Adopted>(&known)?.is_none() {
            let first_host_key = self.adopt(entry, &spec.access, &access, deadline, observer).await?;
            write_json(&known, &Adopted { first_host_key })?;
        }
        let ssh = self.log_in(entry, &access, left(deadline), observer).await?;
        self.tell_settings(entry, spec, ssh).await
    }

    /// First contact; returns the fingerprint that was seen. `access` is what the machine is to have, `own` the same for
    /// the user whom the insecure key lets in.
    async fn adopt(
        &self,
        entry: &Entry,
        access: &GuestAccess,
        own: &GuestAccess,
        deadline: Instant,
        observer: &dyn Observer,
    ) -> Result<Option<String>, Error> {
        let name = &entry.record.name;
        let phase = self.phase(name, "waiting for first contact over SSH");
        let login = Login {
            user: INSECURE_USER.to_owned(),
            private_key_pem: INSECURE_KEY.to_owned(),
            host_key_public: String::new(),
            deadline,
        };
        let connect = move |stream, switch| Ssh::connect_unpinned(stream, &login, switch);
        let (mut ssh, shown) = match self.open_session(entry, left(deadline), observer, connect).await {
            Ok(contact) => contact,
            Err(Error::Ssh(on)) if matches!(on.error, TransportError::AuthRefused { .. }) => {
                return match self.log_in(entry, own, left(deadline), observer).await {
                    Ok(_) => Ok(None),
                    Err(Error::Ssh(on)) if matches!(on.error, TransportError::AuthRefused { .. }) => {
                        Err(Error::Adopt(OnMachine::new(name)(AdoptError::Closed)))
                    }
                    Err(error) => Err(error),
                };
            }
            Err(error) => return Err(error),
        };
        let access = access.clone();
        let given = blocking(move || Ok(adopt(&mut ssh, &access))).await?;
        match given {
            Ok(()) => {}
            Err(AdoptError::Transport(TransportError::Interrupted)) => {
                return Err(self.interrupted(entry).await);
            }
            // It goes on where its connection ends: whether it took them, its own key tells.
            Err(error @ AdoptError::Transport(_)) => {
                if self.log_in(entry, own, left(deadline), observer).await.is_err() {
                    return Err(Error::Adopt(OnMachine::new(name)(error)));
                }
            }
            Err(error) => return Err(Error::Adopt(OnMachine::new(name)(error))),
        }
        phase.done(format!("has its own keys; at first contact it showed the host key {shown}"));
        Ok(Some(shown))
    }

    /// Makes the machine's settings. One that fails is told and is no reason not to use the machine.
    async fn tell_settings(&self, entry: &Entry, spec: &MachineSpec, mut ssh: Ssh) -> Result<(), Error> {
        let name = &entry.record.name;
        let told = self.provider(entry).settings(spec).map_err(Error::provider(name))?;
        for warning in told.warnings {
            self.warn(name, warning);
        }
        let commands: Vec<_> = told.settings.iter().map(|setting| setting.command.clone()).collect();
        let refused = match blocking(move || Ok(apply(&mut ssh, &commands))).await? {
            Err(error) if error.is_interrupted() => return Err(self.interrupted(entry).await),
            done => done.map_err(OnMachine::new(name)).map_err(Error::Settings)?,
        };
        for one in refused {
            let what = told.settings.get(one.index).map_or("a setting", |setting| setting.what.as_str());
            self.warn(name, format!("{what} could not be set in the machine: {}", one.said));
        }
        Ok(())
    }
}

fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}
