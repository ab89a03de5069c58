//! What a machine stands on: the box's disk, or a machine's disk over it.

use std::path::Path;

use posada_provider_api::{BootSource, Layer, MachineSpec, ProviderError, Seeding};

/// The layers that a machine writes above, and what is known of them.
#[derive(Debug, Clone)]
pub(crate) struct Bottom<'a> {
    pub(crate) disk: &'a Path,
    /// What that one lies on, the next one first.
    pub(crate) below: Vec<&'a Path>,
    pub(crate) boot: Option<&'a BootSource>,
    pub(crate) seeding: Seeding,
}

impl<'a> Bottom<'a> {
    /// All images that the machine's own lies on, the next one first.
    pub(crate) fn images(&self) -> impl Iterator<Item = &'a Path> + '_ {
        std::iter::once(self.disk).chain(self.below.iter().copied())
    }

    /// Those of a machine.
    ///
    /// # Errors
    /// [`ProviderError::Box`] where it has no disk.
    pub(crate) fn of(spec: &'a MachineSpec) -> Result<Self, ProviderError> {
        // The topmost layer holds all that lies below it, as disks are images of the whole.
        let disk = |layer: &'a Layer| match layer {
            Layer::Disk { path, .. } => Some(path.as_path()),
            Layer::Tree { .. } => None,
        };
        match spec.layers.last() {
            Some(Layer::Disk { path, format: _, boot, seeding }) => {
                let below = spec.layers.iter().rev().skip(1).filter_map(disk).collect();
                Ok(Self { disk: path, below, boot: boot.as_ref(), seeding: *seeding })
            }
            Some(Layer::Tree { .. }) | None => Err(ProviderError::Box {
                what: "it holds no disk image, and virtual machines are made from one".to_owned(),
                remedy: "use `provider: container`, or a box with a disk image".to_owned(),
            }),
        }
    }
}
