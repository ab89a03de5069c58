//! What a machine stands on: the box's disk.

use std::path::Path;

use posada_provider_api::{BootSource, Layer, MachineSpec, ProviderError, Seeding};

/// The lowest layer of a machine, and what is known of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bottom<'a> {
    pub(crate) disk: &'a Path,
    pub(crate) boot: Option<&'a BootSource>,
    pub(crate) seeding: Seeding,
}

impl<'a> Bottom<'a> {
    /// That of a machine.
    ///
    /// # Errors
    /// [`ProviderError::Box`] where it has no disk.
    pub(crate) fn of(spec: &'a MachineSpec) -> Result<Self, ProviderError> {
        // The topmost layer holds all that lies below it, as disks are images of the whole.
        match spec.layers.last() {
            Some(Layer::Disk { path, format: _, boot, seeding }) => {
                Ok(Self { disk: path, boot: boot.as_ref(), seeding: *seeding })
            }
            Some(Layer::Tree { .. }) | None => Err(ProviderError::Box {
                what: "it holds no disk image, and virtual machines are made from one".to_owned(),
                remedy: "use `provider: container`, or a box with a disk image".to_owned(),
            }),
        }
    }
}
