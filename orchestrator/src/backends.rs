//! The backends this host has, and which of them a machine is made on.

use posada_container::ContainerProvider;
use posada_provider_api::{Availability, MachineName, Provider, ProviderError, ProviderKind};

use crate::error::Error;
use crate::host::Host;
use crate::vmfile::ProviderChoice;

/// Why this version cannot run virtual machines.
const NO_KVM: &str = "the built-in virtual machine monitor is not part of this version";

/// The backends.
#[derive(Debug, Clone)]
pub(crate) struct Backends {
    container: ContainerProvider,
}

impl Backends {
    pub(crate) fn new(host: &Host) -> Self {
        Self { container: ContainerProvider::new(host.exe.clone()) }
    }

    /// The backend of this kind.
    pub(crate) fn get(&self, kind: ProviderKind) -> Result<&dyn Provider, ProviderError> {
        match kind {
            ProviderKind::Container => Ok(&self.container),
            ProviderKind::Kvm => Err(ProviderError::Host {
                what: NO_KVM.to_owned(),
                remedy: "use `provider: container`, or leave it out".to_owned(),
            }),
        }
    }

    /// Every backend of this version.
    pub(crate) fn all(&self) -> [&dyn Provider; 1] {
        [&self.container]
    }

    /// The backend a new machine is made on, and in words why that one.
    pub(crate) async fn choose(
        &self,
        machine: &MachineName,
        choice: ProviderChoice,
    ) -> Result<(ProviderKind, &'static str), Error> {
        let kind = match choice {
            ProviderChoice::Kvm => {
                self.get(ProviderKind::Kvm).map_err(Error::provider(machine))?;
                ProviderKind::Kvm
            }
            ProviderChoice::Container | ProviderChoice::Auto => ProviderKind::Container,
        };
        match self.get(kind).map_err(Error::provider(machine))?.availability().await {
            Availability::Usable if choice == ProviderChoice::Auto => {
                Ok((kind, "this version has no KVM monitor"))
            }
            Availability::Usable => Ok((kind, "the Vmfile asks for it")),
            Availability::Unusable { reason, remedy } => Err(Error::NoProvider {
                machine: machine.clone(),
                reasons: vec![format!("{kind}: {reason}")],
                remedies: vec![remedy],
            }),
        }
    }
}
