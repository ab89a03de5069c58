//! The container backend as the rest of Posada sees it. It keeps nothing itself: the truth is the machine's
//! directory and its supervisor.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use posada_provider_api::{
    Availability, Console, Content, Features, ForwardedPort, MachineDir, MachineSpec, MachineState, Observer,
    Provider, ProviderError, ProviderKind, SnapshotOp, SshEndpoint, StopRequest, Stopped,
};
use posada_supervisor::Remote;
use posada_supervisor::remote::blocking;

use crate::{scope, supervise};

/// The Linux system container backend.
#[derive(Debug, Clone)]
pub struct ContainerProvider(Remote);

impl ContainerProvider {
    /// One whose helpers are run by executing `exe` again.
    #[must_use]
    pub fn new(exe: PathBuf) -> Self {
        Self(Remote::new(exe, supervise::ENTRY))
    }
}

#[async_trait]
impl Provider for ContainerProvider {
    fn kind(&self) -> ProviderKind {
        ProviderKind::Container
    }

    fn features(&self) -> Features {
        Features { suspend: true, snapshot: false, own_cache: false }
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
        let (exe, dir, spec) = (self.0.exe().to_owned(), dir.clone(), spec.clone());
        blocking(move || crate::create(&exe, &dir, &spec)).await
    }

    async fn start(
        &self,
        dir: &MachineDir,
        _: &MachineSpec,
        observer: &dyn Observer,
    ) -> Result<(), ProviderError> {
        self.0.start(scope::launcher, dir, observer).await
    }

    async fn stop(&self, dir: &MachineDir, request: StopRequest) -> Result<Stopped, ProviderError> {
        let (exe, at) = (self.0.exe().to_owned(), dir.clone());
        self.0.stop(dir, request, move || crate::cleanup(&exe, &at)).await
    }

    async fn suspend(&self, dir: &MachineDir) -> Result<(), ProviderError> {
        self.0.suspend(dir).await
    }

    async fn resume(&self, dir: &MachineDir) -> Result<(), ProviderError> {
        self.0.resume(dir).await
    }

    async fn snapshot(&self, _: &MachineDir, _: SnapshotOp) -> Result<(), ProviderError> {
        Err(ProviderError::Unsupported { provider: ProviderKind::Container, what: "snapshots".to_owned() })
    }

    async fn destroy(&self, dir: &MachineDir) -> Result<(), ProviderError> {
        self.stop(dir, StopRequest::Forced).await?;
        let (exe, at) = (self.0.exe().to_owned(), dir.clone());
        blocking(move || crate::remove_top(&exe, &at)).await
    }

    async fn content(&self, dir: &MachineDir, spec: &MachineSpec) -> Result<Content, ProviderError> {
        let (dir, spec) = (dir.clone(), spec.clone());
        blocking(move || crate::content(&dir, &spec)).await
    }

    async fn state(&self, dir: &MachineDir) -> Result<MachineState, ProviderError> {
        self.0.state(dir).await
    }

    async fn forwards(&self, dir: &MachineDir) -> Result<Vec<ForwardedPort>, ProviderError> {
        self.0.forwards(dir).await
    }

    async fn ssh_endpoint(&self, dir: &MachineDir) -> Result<SshEndpoint, ProviderError> {
        self.0.ssh_endpoint(dir).await
    }

    async fn connect(
        &self,
        dir: &MachineDir,
        port: u16,
        patience: Duration,
        observer: &dyn Observer,
    ) -> Result<OwnedFd, ProviderError> {
        self.0.connect(dir, port, patience, observer).await
    }

    async fn console(&self, dir: &MachineDir) -> Result<Console, ProviderError> {
        self.0.console(dir).await
    }
}
