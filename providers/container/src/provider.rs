//! The container backend as the rest of Posada sees it. It keeps nothing itself: the truth is the machine's
//! directory and its supervisor.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use posada_provider_api::{
    Availability, Console, Features, ForwardedPort, MachineDir, MachineSpec, MachineState, Observer,
    Provider, ProviderError, ProviderKind, Silent, SnapshotOp, SshEndpoint, StopRequest, Stopped,
};
use posada_supervisor::protocol::{Request, Status};
use posada_supervisor::{Client, liveness, spawn};

use crate::{scope, supervise};

/// The Linux system container backend.
#[derive(Debug, Clone)]
pub struct ContainerProvider {
    exe: PathBuf,
}

impl ContainerProvider {
    /// One whose helpers are run by executing `exe` again.
    #[must_use]
    pub fn new(exe: PathBuf) -> Self {
        Self { exe }
    }

    async fn running(&self, dir: &MachineDir) -> Result<Status, ProviderError> {
        match Client::new(dir).status().await? {
            Some(status) if status.state == MachineState::Stopped => Err(not_running(status.state)),
            Some(status) => Ok(status),
            None => Err(not_running(MachineState::Stopped)),
        }
    }

    /// Runs what blocks (system calls on many files) away from the runtime's threads.
    async fn blocking<T: Send + 'static>(
        work: impl FnOnce() -> Result<T, ProviderError> + Send + 'static,
    ) -> Result<T, ProviderError> {
        tokio::task::spawn_blocking(work)
            .await
            .map_err(|error| ProviderError::Internal { what: format!("a helper thread failed: {error}") })?
    }
}

#[async_trait]
impl Provider for ContainerProvider {
    fn kind(&self) -> ProviderKind {
        ProviderKind::Container
    }

    fn features(&self) -> Features {
        Features { suspend: true, snapshot: false }
    }

    async fn availability(&self) -> Availability {
        crate::availability().await
    }

    async fn create(
        &self,
        dir: &MachineDir,
        spec: &MachineSpec,
        observer: &dyn Observer,
    ) -> Result<(), ProviderError> {
        if spec.disk.is_some() {
            observer
                .warn("`disk` is not enforced on containers: they write to the file system of POSADA_HOME");
        }
        let (exe, dir, spec) = (self.exe.clone(), dir.clone(), spec.clone());
        Self::blocking(move || crate::create(&exe, &dir, &spec)).await
    }

    async fn start(
        &self,
        dir: &MachineDir,
        _: &MachineSpec,
        observer: &dyn Observer,
    ) -> Result<(), ProviderError> {
        loop {
            let (exe, at) = (self.exe.clone(), dir.clone());
            let ours = Self::blocking(move || {
                spawn::start(scope::launcher(), &exe, supervise::ENTRY, &at).map_err(|error| {
                    ProviderError::Internal { what: format!("start the supervisor: {error}") }
                })
            })
            .await?;
            let client = Client::new(dir);
            match client.ask(Request::Watch, observer).await {
                Err(ProviderError::State { .. }) if ours => return Err(client.died()),
                // One that others started failed, or was about to end: a new one can be had when it is gone.
                Err(_) if !ours => liveness::ended(dir).await.map_err(|error| ProviderError::Internal {
                    what: format!("wait for the supervisor: {error}"),
                })?,
                watched => return watched.map(drop),
            }
        }
    }

    async fn stop(&self, dir: &MachineDir, request: StopRequest) -> Result<Stopped, ProviderError> {
        let patience = match request {
            StopRequest::Graceful(patience) => u64::try_from(patience.as_millis()).unwrap_or(u64::MAX),
            StopRequest::Forced => 0,
        };
        let began = Instant::now();
        let stopped = Client::new(dir).stop(patience).await?;
        let (exe, at) = (self.exe.clone(), dir.clone());
        // Where the supervisor was killed, this is what ends what it left.
        Self::blocking(move || crate::cleanup(&exe, &at)).await?;
        let took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        Ok(Stopped { forced: stopped.is_some_and(|stopped| stopped.forced), took_ms })
    }

    async fn suspend(&self, dir: &MachineDir) -> Result<(), ProviderError> {
        Client::new(dir).ask(Request::Suspend, &Silent).await.map(drop)
    }

    async fn resume(&self, dir: &MachineDir) -> Result<(), ProviderError> {
        Client::new(dir).ask(Request::Resume, &Silent).await.map(drop)
    }

    async fn snapshot(&self, _: &MachineDir, _: SnapshotOp) -> Result<(), ProviderError> {
        Err(ProviderError::Unsupported { provider: ProviderKind::Container, what: "snapshots".to_owned() })
    }

    async fn destroy(&self, dir: &MachineDir) -> Result<(), ProviderError> {
        self.stop(dir, StopRequest::Forced).await?;
        let (exe, at) = (self.exe.clone(), dir.clone());
        Self::blocking(move || crate::remove_top(&exe, &at)).await
    }

    async fn state(&self, dir: &MachineDir) -> Result<MachineState, ProviderError> {
        let unreadable =
            |error| ProviderError::Internal { what: format!("read the machine's liveness: {error}") };
        if liveness::is_alive(dir).map_err(unreadable)?
            && let Some(status) = Client::new(dir).status().await?
        {
            return Ok(status.state);
        }
        Ok(if dir.top().exists() { MachineState::Stopped } else { MachineState::Absent })
    }

    async fn forwards(&self, dir: &MachineDir) -> Result<Vec<ForwardedPort>, ProviderError> {
        Ok(self.running(dir).await?.forwards)
    }

    async fn ssh_endpoint(&self, dir: &MachineDir) -> Result<SshEndpoint, ProviderError> {
        let status = self.running(dir).await?;
        let port = status.ssh_port.ok_or_else(|| not_running(status.state))?;
        Ok(SshEndpoint { address: (std::net::Ipv4Addr::LOCALHOST, port).into() })
    }

    async fn connect(
        &self,
        dir: &MachineDir,
        port: u16,
        patience: Duration,
        observer: &dyn Observer,
    ) -> Result<OwnedFd, ProviderError> {
        let patience_ms = u64::try_from(patience.as_millis()).unwrap_or(u64::MAX);
        let (_, fd) = Client::new(dir).ask(Request::Connect { port, patience_ms }, observer).await?;
        fd.ok_or_else(|| ProviderError::Internal { what: "the supervisor sent no connection".to_owned() })
    }

    async fn console(&self, dir: &MachineDir) -> Result<Console, ProviderError> {
        let (_, fd) = Client::new(dir).ask(Request::Console, &Silent).await?;
        fd.map(|stream| Console { stream })
            .ok_or_else(|| ProviderError::Internal { what: "the supervisor sent no console".to_owned() })
    }
}

fn not_running(is: MachineState) -> ProviderError {
    ProviderError::State { is, must: "running" }
}
