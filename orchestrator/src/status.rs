//! What there is and what it is doing: read from truth, every time.

use posada_provider_api::{ForwardedPort, MachineState, ProviderKind};
use serde::Serialize;

use crate::error::Error;
use crate::orchestrator::Orchestrator;
use crate::project::Project;
use crate::session::is_not_running;
use crate::state::Entry;
use crate::vmfile::Vmfile;

/// How one machine is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MachineStatus {
    /// Its name.
    pub name: String,
    /// Its identity, where it has been made.
    pub id: Option<String>,
    /// What it is doing.
    pub state: MachineState,
    /// The backend it lives on.
    pub provider: Option<ProviderKind>,
    /// Its box: `debian/12 20261122`.
    pub r#box: Option<String>,
    /// The forwards in force.
    pub forwards: Vec<ForwardedPort>,
    /// Its project's directory.
    pub project: std::path::PathBuf,
    /// Whether that directory is still there.
    pub project_exists: bool,
    /// Whether the project's Vmfile still has it; `None` where that was not looked at.
    pub in_vmfile: Option<bool>,
    /// When it was made, seconds since 1970.
    pub created_at: Option<u64>,
}

impl Orchestrator {
    /// The machines of the project: those its Vmfile has, in file order, then those it no longer has.
    ///
    /// # Errors
    /// [`Error::UnknownMachine`], [`Error::Damaged`].
    pub async fn status(
        &self,
        project: &Project,
        vmfile: Option<&Vmfile>,
        names: &[String],
    ) -> Result<Vec<MachineStatus>, Error> {
        let existing = self.machines.of_project(project)?;
        let mut all = Vec::new();
        for name in vmfile.iter().flat_map(|vmfile| vmfile.names()) {
            all.push(match existing.iter().find(|entry| entry.record.name == *name) {
                Some(entry) => MachineStatus { in_vmfile: Some(true), ..self.status_of(entry).await? },
                None => not_created(name.to_string(), project),
            });
        }
        for entry in &existing {
            if !all.iter().any(|status| status.name == entry.record.name.as_str()) {
                let in_vmfile = vmfile.map(|_| false);
                all.push(MachineStatus { in_vmfile, ..self.status_of(entry).await? });
            }
        }
        if let Some(name) = names.iter().find(|name| !all.iter().any(|status| status.name == **name)) {
            let known = all.into_iter().map(|status| status.name).collect();
            return Err(Error::UnknownMachine { name: name.clone(), known });
        }
        all.retain(|status| names.is_empty() || names.contains(&status.name));
        Ok(all)
    }

    /// Every machine of this user, and what could not be read of others.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub async fn global_status(&self) -> Result<(Vec<MachineStatus>, Vec<Error>), Error> {
        let (entries, mut damaged) = self.machines.list()?;
        let mut all = Vec::new();
        for entry in &entries {
            match self.status_of(entry).await {
                Ok(status) => all.push(status),
                Err(error) => damaged.push(error),
            }
        }
        Ok((all, damaged))
    }

    async fn status_of(&self, entry: &Entry) -> Result<MachineStatus, Error> {
        let record = &entry.record;
        let state = self.state(entry).await?;
        let (state, forwards) = match state {
            MachineState::Running | MachineState::Suspended => match self.ports(entry).await {
                Ok(forwards) => (state, forwards),
                // It ended between the two questions.
                Err(error) if is_not_running(&error) => (MachineState::Stopped, Vec::new()),
                Err(error) => return Err(error),
            },
            MachineState::Absent | MachineState::Stopped => (state, Vec::new()),
        };
        Ok(MachineStatus {
            name: record.name.to_string(),
            id: Some(record.id.to_string()),
            state,
            provider: Some(record.provider),
            r#box: Some(format!("{} {}", record.box_name, record.box_version)),
            forwards,
            project: record.project.path.clone(),
            project_exists: record.project.path.is_dir(),
            in_vmfile: None,
            created_at: Some(record.created_at),
        })
    }

    /// The forwards in force on a running machine.
    ///
    /// # Errors
    /// [`Error::Provider`] where it does not run.
    pub async fn ports(&self, entry: &Entry) -> Result<Vec<ForwardedPort>, Error> {
        let provider = self.provider(entry);
        provider.forwards(&entry.dir).await.map_err(Error::provider(&entry.record.name))
    }
}

fn not_created(name: String, project: &Project) -> MachineStatus {
    MachineStatus {
        name,
        id: None,
        state: MachineState::Absent,
        provider: None,
        r#box: None,
        forwards: Vec::new(),
        project: project.root.clone(),
        project_exists: true,
        in_vmfile: Some(true),
        created_at: None,
    }
}
