//! A machine as a provider sees it from outside: what is asked of its supervisor, whatever the backend.
//!
//! Holds nothing of the machine: the truth is the machine's directory and its supervisor.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use posada_provider_api::{
    Console, ForwardedPort, MachineDir, MachineState, Observer, ProviderError, Silent, SshEndpoint,
    StopRequest, Stopped,
};

use crate::protocol::{Request, Status};
use crate::{Client, liveness, spawn};

/// How the supervisors of one backend are started and asked.
#[derive(Debug, Clone)]
pub struct Remote {
    exe: PathBuf,
    entry: &'static str,
}

impl Remote {
    /// Supervisors that are `exe` executed again with the hidden word `entry`.
    #[must_use]
    pub fn new(exe: PathBuf, entry: &'static str) -> Self {
        Self { exe, entry }
    }

    /// Our own binary.
    #[must_use]
    pub fn exe(&self) -> &Path {
        &self.exe
    }

    /// Starts the machine in `dir`, or joins a start that is under way, and returns when it runs. `launcher` gives
    /// the words to put before a supervisor's own, see [`spawn::start`].
    ///
    /// # Errors
    /// What the supervisor says; [`ProviderError::Machine`] where it dies.
    pub async fn start(
        &self,
        launcher: fn() -> &'static [&'static str],
        dir: &MachineDir,
        observer: &dyn Observer,
    ) -> Result<(), ProviderError> {
        loop {
            let (exe, entry, at) = (self.exe.clone(), self.entry, dir.clone());
            let ours = blocking(move || {
                spawn::start(launcher(), &exe, entry, &at).map_err(internal("start the supervisor"))
            })
            .await?;
            let client = Client::new(dir);
            match client.ask(Request::Watch, observer).await {
                Err(ProviderError::State { .. }) if ours => return Err(client.died()),
                // One that others started failed, or was about to end: a new one can be had when it is gone.
                Err(_) if !ours => {
                    liveness::ended(dir).await.map_err(internal("wait for the supervisor"))?;
                }
                watched => return watched.map(drop),
            }
        }
    }

    /// Stops the machine and returns when its supervisor is gone and `clean`, which undoes what a killed one may
    /// have left, is done.
    ///
    /// # Errors
    /// What the supervisor says, and what `clean` does.
    pub async fn stop(
        &self,
        dir: &MachineDir,
        request: StopRequest,
        clean: impl FnOnce() -> Result<(), ProviderError> + Send + 'static,
    ) -> Result<Stopped, ProviderError> {
        let patience = match request {
            StopRequest::Graceful(patience) => millis(patience),
            StopRequest::Forced => 0,
        };
        let began = Instant::now();
        let stopped = Client::new(dir).stop(patience).await?;
        blocking(clean).await?;
        Ok(Stopped {
            forced: stopped.is_some_and(|stopped| stopped.forced),
            took_ms: millis(began.elapsed()),
        })
    }

    /// Freezes the machine.
    ///
    /// # Errors
    /// What the supervisor says.
    pub async fn suspend(&self, dir: &MachineDir) -> Result<(), ProviderError> {
        Client::new(dir).ask(Request::Suspend, &Silent).await.map(drop)
    }

    /// Lets the machine go on.
    ///
    /// # Errors
    /// What the supervisor says.
    pub async fn resume(&self, dir: &MachineDir) -> Result<(), ProviderError> {
        Client::new(dir).ask(Request::Resume, &Silent).await.map(drop)
    }

    /// What the machine is doing; it exists where it has a writable layer.
    ///
    /// # Errors
    /// [`ProviderError::Internal`] where it cannot be read.
    pub async fn state(&self, dir: &MachineDir) -> Result<MachineState, ProviderError> {
        if liveness::is_alive(dir).map_err(internal("read the machine's liveness"))?
            && let Some(status) = Client::new(dir).status().await?
        {
            return Ok(status.state);
        }
        Ok(if dir.top().exists() { MachineState::Stopped } else { MachineState::Absent })
    }

    /// The forwards in force.
    ///
    /// # Errors
    /// [`ProviderError::State`] where the machine does not run.
    pub async fn forwards(&self, dir: &MachineDir) -> Result<Vec<ForwardedPort>, ProviderError> {
        Ok(running(dir).await?.forwards)
    }

    /// Where sshd is reached from the host.
    ///
    /// # Errors
    /// [`ProviderError::State`] where the machine does not run.
    pub async fn ssh_endpoint(&self, dir: &MachineDir) -> Result<SshEndpoint, ProviderError> {
        let status = running(dir).await?;
        let port = status.ssh_port.ok_or_else(|| not_running(status.state))?;
        Ok(SshEndpoint { address: (Ipv4Addr::LOCALHOST, port).into() })
    }

    /// A stream to a TCP port of the machine as soon as something listens there.
    ///
    /// # Errors
    /// What the supervisor says.
    pub async fn connect(
        &self,
        dir: &MachineDir,
        port: u16,
        patience: Duration,
        observer: &dyn Observer,
    ) -> Result<OwnedFd, ProviderError> {
        let request = Request::Connect { port, patience_ms: millis(patience) };
        let (_, fd) = Client::new(dir).ask(request, observer).await?;
        fd.ok_or_else(|| ProviderError::Internal { what: "the supervisor sent no connection".to_owned() })
    }

    /// A stream to the machine's console.
    ///
    /// # Errors
    /// What the supervisor says.
    pub async fn console(&self, dir: &MachineDir) -> Result<Console, ProviderError> {
        let (_, fd) = Client::new(dir).ask(Request::Console, &Silent).await?;
        fd.map(|stream| Console { stream })
            .ok_or_else(|| ProviderError::Internal { what: "the supervisor sent no console".to_owned() })
    }
}

/// Runs what blocks (system calls on many files) away from the runtime's threads.
///
/// # Errors
/// Those of `work`.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ProviderError> + Send + 'static,
) -> Result<T, ProviderError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| ProviderError::Internal { what: format!("a helper thread failed: {error}") })?
}

async fn running(dir: &MachineDir) -> Result<Status, ProviderError> {
    match Client::new(dir).status().await? {
        Some(status) if status.state == MachineState::Stopped => Err(not_running(status.state)),
        Some(status) => Ok(status),
        None => Err(not_running(MachineState::Stopped)),
    }
}

fn not_running(is: MachineState) -> ProviderError {
    ProviderError::State { is, must: "running" }
}

fn internal(doing: &'static str) -> impl FnOnce(io::Error) -> ProviderError {
    move |error| ProviderError::Internal { what: format!("{doing}: {error}") }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
