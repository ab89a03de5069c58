//! `destroy`: nothing of a machine is left, on the host or on disk.

use std::time::Instant;

use posada_provider_api::{MachineId, MachineState};

use super::addresses;
use crate::error::Error;
use crate::event::Event;
use crate::orchestrator::{Orchestrator, blocking, millis};
use crate::project::Project;
use crate::state::Entry;

impl Orchestrator {
    /// The machines that `destroy` with these names would remove: for asking first.
    ///
    /// # Errors
    /// [`Error::UnknownMachine`].
    pub fn destroyable(&self, project: &Project, names: &[String]) -> Result<Vec<Entry>, Error> {
        self.existing(project, names)
    }

    /// Ends the machines and removes all there is of them. Legal in every state they can be in.
    ///
    /// # Errors
    /// What could not be removed, machine by machine.
    pub async fn destroy(&self, entries: Vec<Entry>) -> Result<(), Error> {
        let of = self.clone();
        self.each_of(entries, move |entry| {
            let of = of.clone();
            async move { of.destroy_one(&entry).await }
        })
        .await
    }

    /// Removes a machine whose record cannot be read: every backend removes what it finds.
    ///
    /// # Errors
    /// [`Error::UnknownMachine`] where there is no such directory; what could not be removed.
    pub async fn destroy_damaged(&self, id: &MachineId) -> Result<(), Error> {
        let dir = self.machines.dir(id);
        if !dir.path().is_dir() {
            return Err(Error::UnknownMachine { name: id.to_string(), known: Vec::new() });
        }
        for provider in self.backends.all() {
            for dir in [&dir.packing(), &dir] {
                provider.destroy(dir).await.map_err(|source| Error::Damaged {
                    path: dir.path().to_owned(),
                    what: source.to_string(),
                })?;
            }
        }
        let (machines, id) = (self.machines.clone(), id.clone());
        blocking(move || {
            addresses::release(&dir, &id)?;
            machines.remove(&dir)
        })
        .await
    }

    async fn destroy_one(&self, entry: &Entry) -> Result<(), Error> {
        let began = Instant::now();
        let Some(_lock) = self.lock(entry).await? else { return Ok(()) };
        let name = &entry.record.name;
        self.begin(name, "destroying");
        self.end_packing(entry).await?;
        self.provider(entry).destroy(&entry.dir).await.map_err(Error::provider(name))?;
        let (machines, dir, id) = (self.machines.clone(), entry.dir.clone(), entry.record.id.clone());
        blocking(move || {
            addresses::release(&dir, &id)?;
            machines.remove(&dir)
        })
        .await?;
        self.tell(Event::Machine {
            machine: name.clone(),
            state: MachineState::Absent,
            took_ms: millis(began),
            forwards: Vec::new(),
            message: None,
        });
        Ok(())
    }
}
