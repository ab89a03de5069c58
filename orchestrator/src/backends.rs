//! The backends this host has, and which of them a machine is made on.

use posada_container::ContainerProvider;
use posada_kvm::KvmProvider;
use posada_provider_api::{Availability, MachineName, Provider, ProviderKind};

use crate::error::Error;
use crate::host::Host;
use crate::vmfile::ProviderChoice;

/// The backends.
#[derive(Debug, Clone)]
pub(crate) struct Backends {
    kvm: KvmProvider,
    container: ContainerProvider,
}

/// A backend that a new machine can be made on, and in words why that one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) kind: ProviderKind,
    pub(crate) why: String,
}

impl Backends {
    pub(crate) fn new(host: &Host) -> Self {
        Self { kvm: KvmProvider::new(host.exe.clone()), container: ContainerProvider::new(host.exe.clone()) }
    }

    /// The backend of this kind.
    pub(crate) fn get(&self, kind: ProviderKind) -> &dyn Provider {
        match kind {
            ProviderKind::Kvm => &self.kvm,
            ProviderKind::Container => &self.container,
        }
    }

    /// Every backend of this version, the preferred one first.
    pub(crate) fn all(&self) -> [&dyn Provider; 2] {
        [&self.kvm, &self.container]
    }

    /// The backends that a new machine can be made on, the preferred one first; never empty. Whether its box can run
    /// there is another question.
    ///
    /// # Errors
    /// [`Error::NoProvider`], with what is in the way of each that was asked for.
    pub(crate) async fn candidates(
        &self,
        machine: &MachineName,
        choice: ProviderChoice,
    ) -> Result<Vec<Candidate>, Error> {
        let mut looked_at = Vec::new();
        for provider in self.all() {
            let is_wanted = match choice {
                ProviderChoice::Auto => true,
                ProviderChoice::Kvm => provider.kind() == ProviderKind::Kvm,
                ProviderChoice::Container => provider.kind() == ProviderKind::Container,
            };
            if is_wanted {
                looked_at.push((provider.kind(), provider.availability().await));
            }
        }
        judge(machine, choice, &looked_at)
    }
}

fn judge(
    machine: &MachineName,
    choice: ProviderChoice,
    looked_at: &[(ProviderKind, Availability)],
) -> Result<Vec<Candidate>, Error> {
    let (mut candidates, mut reasons, mut remedies) = (Vec::new(), Vec::new(), Vec::new());
    for (kind, availability) in looked_at {
        match availability {
            Availability::Usable => {
                let why = match (choice, kind) {
                    (ProviderChoice::Kvm | ProviderChoice::Container, _) => "it was asked for".to_owned(),
                    (ProviderChoice::Auto, ProviderKind::Kvm) => "this host runs virtual machines".to_owned(),
                    (ProviderChoice::Auto, ProviderKind::Container) => reasons.join("; "),
                };
                candidates.push(Candidate { kind: *kind, why });
            }
            Availability::Unusable { reason, remedy } => {
                reasons.push(format!("{kind}: {reason}"));
                remedies.push(remedy.clone());
            }
        }
    }
    if candidates.is_empty() {
        return Err(Error::NoProvider { machine: machine.clone(), reasons, remedies });
    }
    Ok(candidates)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unusable(reason: &str) -> Availability {
        Availability::Unusable { reason: reason.to_owned(), remedy: format!("mend {reason}") }
    }

    fn judged(
        choice: ProviderChoice,
        looked_at: &[(ProviderKind, Availability)],
    ) -> Result<Vec<(ProviderKind, String)>, Error> {
        let machine = MachineName::new("web").unwrap();
        let found = judge(&machine, choice, looked_at)?;
        Ok(found.into_iter().map(|candidate| (candidate.kind, candidate.why)).collect())
    }

    #[test]
    fn virtual_machines_come_first_where_they_run() {
        use ProviderKind::{Container, Kvm};
        let both = [(Kvm, Availability::Usable), (Container, Availability::Usable)];
        let found = judged(ProviderChoice::Auto, &both).unwrap();
        assert_eq!(found[0], (Kvm, "this host runs virtual machines".to_owned()));
        assert_eq!(found[1].0, Container);

        let one = [(Kvm, unusable("no /dev/kvm")), (Container, Availability::Usable)];
        assert_eq!(judged(ProviderChoice::Auto, &one).unwrap(), [(Container, "kvm: no /dev/kvm".to_owned())]);
        let asked = [(Container, Availability::Usable)];
        assert_eq!(
            judged(ProviderChoice::Container, &asked).unwrap(),
            [(Container, "it was asked for".to_owned())]
        );
    }

    #[test]
    fn where_none_can_be_used_every_reason_is_told() {
        use ProviderKind::{Container, Kvm};
        let none = [(Kvm, unusable("no /dev/kvm")), (Container, unusable("no cgroups"))];
        let Err(Error::NoProvider { reasons, remedies, .. }) = judged(ProviderChoice::Auto, &none) else {
            panic!("it was chosen");
        };
        assert_eq!(reasons, ["kvm: no /dev/kvm", "container: no cgroups"]);
        assert_eq!(remedies, ["mend no /dev/kvm", "mend no cgroups"]);
    }
}
