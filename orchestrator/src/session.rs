//! Logged-in SSH sessions to machines, and what the system's ssh needs to make its own.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use posada_provider_api::{GuestAccess, MachineSpec, MachineState, Observer, ProviderError};
use posada_provisioners::keys::{KNOWN_HOSTS, LOGIN_KEY};
use posada_provisioners::{Cancel as Switch, Login, Ssh, TransportError};
use posada_templates::SshHost;
use serde::{Deserialize, Serialize};

use crate::error::{Error, OnMachine};
use crate::orchestrator::{Orchestrator, blocking};
use crate::project::Project;
use crate::state::{Entry, read_json, write_json};
use crate::vmfile::{BOOT_TIMEOUT, SshConfig};

/// The port sshd listens on in a machine.
const SSH_PORT: u16 = 22;

/// How many lines of the console's log an SSH error shows.
const CONSOLE_TAIL: usize = 20;

impl Orchestrator {
    /// Logs into a running machine of the project, as soon as its sshd answers.
    ///
    /// # Errors
    /// [`Error::Provider`] where it does not run, [`Error::Ssh`] where SSH does not come.
    pub async fn connect(&self, entry: &Entry) -> Result<Ssh, Error> {
        let spec: MachineSpec = read_json(&entry.dir.spec())?
            .ok_or_else(|| Error::NotCreated { machine: entry.record.name.clone() })?;
        let patience = self.patience(entry)?;
        self.log_in(entry, &spec.access, patience, &posada_provider_api::Silent).await
    }

    pub(crate) async fn log_in(
        &self,
        entry: &Entry,
        access: &GuestAccess,
        patience: Duration,
        observer: &dyn Observer,
    ) -> Result<Ssh, Error> {
        let pem = fs_err::read_to_string(entry.dir.ssh().join(LOGIN_KEY))
            .map_err(Error::io("read the login key"))?;
        let login = Login {
            user: access.user.clone(),
            private_key_pem: pem,
            host_key_public: access.host_key_public.clone(),
            deadline: Instant::now() + patience,
        };
        let connect = move |stream, switch| Ssh::connect(stream, &login, switch);
        self.open_session(entry, patience, observer, connect).await
    }

    /// A session with the machine's sshd, which `connect` makes of a stream to it.
    pub(crate) async fn open_session<T: Send + 'static>(
        &self,
        entry: &Entry,
        patience: Duration,
        observer: &dyn Observer,
        connect: impl FnOnce(OwnedFd, Switch) -> Result<T, TransportError> + Send + 'static,
    ) -> Result<T, Error> {
        let stream = self.dial(entry, SSH_PORT, patience, observer).await?;
        let switch = self.switch()?;
        let of = entry.record.name.clone();
        let connect = move || connect(stream, switch).map_err(OnMachine::new(&of)).map_err(Error::Ssh);
        match blocking(connect).await {
            Err(Error::Ssh(on)) if matches!(on.error, TransportError::Interrupted) => {
                Err(self.interrupted(entry).await)
            }
            Err(Error::Ssh(mut on)) => {
                on.console = console_tail(entry);
                Err(Error::Ssh(on))
            }
            other => other,
        }
    }

    /// A stream to a port of the machine, as soon as something listens there.
    pub(crate) async fn dial(
        &self,
        entry: &Entry,
        port: u16,
        patience: Duration,
        observer: &dyn Observer,
    ) -> Result<OwnedFd, Error> {
        tokio::select! {
            stream = self.provider(entry).connect(&entry.dir, port, patience, observer) => {
                stream.map_err(Error::provider(&entry.record.name))
            }
            () = self.cancel.cancelled() => Err(self.interrupted(entry).await),
        }
    }

    /// A switch for blocking work that is thrown when the user wants to stop.
    pub(crate) fn switch(&self) -> Result<Switch, Error> {
        let switch = Switch::new().map_err(Error::io("make an event"))?;
        let (cancel, thrown) = (self.cancel.clone(), switch.clone());
        tokio::spawn(async move {
            cancel.cancelled().await;
            thrown.cancel();
        });
        Ok(switch)
    }

    /// What the system's ssh needs to log into the machines called `names`, or all that run.
    ///
    /// # Errors
    /// [`Error::UnknownMachine`]; [`Error::Provider`] where a named one does not run.
    pub async fn ssh_hosts(&self, project: &Project, names: &[String]) -> Result<Vec<SshHost>, Error> {
        let mut hosts = Vec::new();
        for entry in self.existing(project, names)? {
            if names.is_empty() && self.state(&entry).await? != MachineState::Running {
                continue;
            }
            hosts.push(self.ssh_host(&entry).await?);
        }
        Ok(hosts)
    }

    /// Whether the Vmfile, at the last `up`, asked for the caller's agent to be passed on.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Io`].
    pub fn forwards_agent(&self, entry: &Entry) -> Result<bool, Error> {
        let wishes: Option<ClientWishes> = read_json(&client_wishes(entry))?;
        Ok(wishes.unwrap_or_default().forward_agent)
    }

    /// How long the Vmfile, at the last `up`, gave the machine to boot.
    pub(crate) fn patience(&self, entry: &Entry) -> Result<Duration, Error> {
        let wishes: Option<ClientWishes> = read_json(&client_wishes(entry))?;
        Ok(wishes.and_then(|wishes| wishes.boot_seconds).map_or(BOOT_TIMEOUT, Duration::from_secs))
    }

    /// Keeps what the Vmfile wishes of those who log in; `posada ssh` works without a Vmfile.
    pub(crate) fn keep_wishes(&self, entry: &Entry, config: &SshConfig) -> Result<(), Error> {
        let path = client_wishes(entry);
        let boot_seconds = Some(config.boot_timeout.as_secs());
        let wishes = ClientWishes { forward_agent: config.forward_agent, boot_seconds };
        let kept: Option<ClientWishes> = read_json(&path)?;
        if kept.unwrap_or_default() == wishes { Ok(()) } else { write_json(&path, &wishes) }
    }

    /// What the system's ssh needs to log into this machine.
    ///
    /// # Errors
    /// [`Error::Provider`] where it does not run.
    pub async fn ssh_host(&self, entry: &Entry) -> Result<SshHost, Error> {
        let name = &entry.record.name;
        let endpoint = self.provider(entry).ssh_endpoint(&entry.dir).await.map_err(Error::provider(name))?;
        let spec: MachineSpec =
            read_json(&entry.dir.spec())?.ok_or_else(|| Error::NotCreated { machine: name.clone() })?;
        Ok(SshHost {
            name: name.to_string(),
            host_name: endpoint.address.ip().to_string(),
            port: endpoint.address.port(),
            user: spec.access.user,
            identity_file: entry.dir.ssh().join(LOGIN_KEY),
            known_hosts: entry.dir.ssh().join(KNOWN_HOSTS),
            host_key_alias: entry.record.id.to_string(),
            forward_agent: self.forwards_agent(entry)?,
        })
    }

    /// A stream to the machine's console.
    ///
    /// # Errors
    /// [`Error::Provider`] where it does not run.
    pub async fn console(&self, entry: &Entry) -> Result<OwnedFd, Error> {
        let console = self.provider(entry).console(&entry.dir).await;
        Ok(console.map_err(Error::provider(&entry.record.name))?.stream)
    }
}

/// `ssh/client.json`: how the caller's side is to log in. No part of the spec, as the machine knows nothing of it:
/// a change needs no restart.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct ClientWishes {
    forward_agent: bool,
    /// Absent where an older posada wrote it.
    #[serde(default)]
    boot_seconds: Option<u64>,
}

fn client_wishes(entry: &Entry) -> PathBuf {
    entry.dir.ssh().join("client.json")
}

/// The last lines of the console's log, without what a terminal would act on.
pub(crate) fn console_tail(entry: &Entry) -> Vec<String> {
    let log = fs_err::read(entry.dir.console_log()).unwrap_or_default();
    let end = &log[log.len().saturating_sub(16 * 1024)..];
    let lines: Vec<String> =
        String::from_utf8_lossy(end).lines().map(posada_supervisor::console::plain).collect();
    lines[lines.len().saturating_sub(CONSOLE_TAIL)..].to_vec()
}

/// Whether an error says that the machine does not run.
pub(crate) fn is_not_running(error: &Error) -> bool {
    matches!(error, Error::Provider(on) if matches!(on.error, ProviderError::State { .. }))
}
