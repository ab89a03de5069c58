//! The KVM backend as the rest of Posada sees it. It keeps nothing itself: the truth is the machine's directory and
//! its supervisor.

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

#[cfg(target_arch = "x86_64")]
use posada_provider_api::{Seeding, Settings};

use crate::bottom::Bottom;
use crate::facts::Facts;
use crate::supervise;
use crate::top::Top;

/// The backend of virtual machines.
#[derive(Debug, Clone)]
pub struct KvmProvider(Remote);

impl KvmProvider {
    /// One whose supervisors are `exe` executed again.
    #[must_use]
    pub fn new(exe: PathBuf) -> Self {
        Self(Remote::new(exe, supervise::ENTRY))
    }
}

#[async_trait]
impl Provider for KvmProvider {
    fn kind(&self) -> ProviderKind {
        ProviderKind::Kvm
    }

    fn features(&self) -> Features {
        Features { suspend: true, snapshot: false, own_cache: true }
    }

    async fn availability(&self) -> Availability {
        Facts::here().availability()
    }

    #[cfg(target_arch = "x86_64")]
    fn settings(&self, spec: &MachineSpec) -> Result<Settings, ProviderError> {
        match spec.seeding() {
            Some(Seeding::InsecureKey) => crate::seed::settings(spec).map_err(crate::failure::seed),
            _ => Ok(Settings::default()),
        }
    }

    async fn create(
        &self,
        dir: &MachineDir,
        spec: &MachineSpec,
        observer: &dyn Observer,
    ) -> Result<(), ProviderError> {
        let (top, spec) = (Top::of(dir), spec.clone());
        let warning = blocking(move || top.complete(&Bottom::of(&spec)?, spec.disk)).await?;
        if let Some(warning) = warning {
            observer.warn(&warning);
        }
        Ok(())
    }

    async fn start(
        &self,
        dir: &MachineDir,
        _: &MachineSpec,
        observer: &dyn Observer,
    ) -> Result<(), ProviderError> {
        self.0.start(|| &[], dir, observer).await
    }

    async fn stop(&self, dir: &MachineDir, request: StopRequest) -> Result<Stopped, ProviderError> {
        // All that a monitor makes outside of the directory is its own process's.
        self.0.stop(dir, request, || Ok(())).await
    }

    async fn suspend(&self, dir: &MachineDir) -> Result<(), ProviderError> {
        self.0.suspend(dir).await
    }

    async fn resume(&self, dir: &MachineDir) -> Result<(), ProviderError> {
        self.0.resume(dir).await
    }

    async fn snapshot(&self, _: &MachineDir, _: SnapshotOp) -> Result<(), ProviderError> {
        Err(ProviderError::Unsupported { provider: ProviderKind::Kvm, what: "snapshots".to_owned() })
    }

    async fn destroy(&self, dir: &MachineDir) -> Result<(), ProviderError> {
        self.stop(dir, StopRequest::Forced).await?;
        let top = Top::of(dir);
        blocking(move || top.remove()).await
    }

    async fn content(&self, dir: &MachineDir, _: &MachineSpec) -> Result<Content, ProviderError> {
        Ok(Content::Disk(Top::of(dir).disk()))
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
