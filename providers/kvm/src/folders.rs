//! A machine's synced folders, from before its process is confined to its last boot.

use posada_provider_api::{MachineSpec, ProviderError};
use posada_vmm::config::{Folder, Owners};
use posada_vmm::fuse::Root;

use crate::changes::Teller;
use crate::seed;

/// The user and group of a login user where the box has one: the first person of a system.
const FIRST_PERSON: (u32, u32) = (1000, 1000);

/// The folders on the host, in the order of the spec, pinned: the process that has left its rights behind may not walk
/// the way to them any more, where that leads through somebody's private home.
pub(crate) struct Folders(Vec<Pinned>);

struct Pinned {
    root: Root,
    owner: (u32, u32),
    read_only: bool,
}

impl Folders {
    /// Pins the folders of a machine.
    ///
    /// # Errors
    /// [`ProviderError::Host`] where one is not there, or may not be entered.
    pub(crate) fn open(spec: &MachineSpec) -> Result<Self, ProviderError> {
        let open = |folder: &posada_provider_api::SyncedFolder| {
            let pinned = Root::open(&folder.source).and_then(|root| Ok((root.owner()?, root)));
            let (owner, root) = pinned.map_err(|error| ProviderError::Host {
                what: format!("the synced folder {} cannot be used: {error}", folder.source.display()),
                remedy: "make it, or correct `source`".to_owned(),
            })?;
            Ok(Pinned { root, owner, read_only: folder.read_only })
        };
        spec.folders.iter().map(open).collect::<Result<_, _>>().map(Self)
    }

    /// The same for the monitor; the guest hears by `teller` of what changes in them.
    pub(crate) fn devices(&self, spec: &MachineSpec, teller: &Teller) -> Vec<Folder> {
        let guest = if spec.access.user == "root" { (0, 0) } else { FIRST_PERSON };
        let device = |(index, folder): (usize, &Pinned)| Folder {
            tag: seed::folder_tag(index),
            root: folder.root.clone(),
            read_only: folder.read_only,
            owners: Owners { host: folder.owner, guest },
            changes: Some(teller.listener(seed::folder_tag(index))),
        };
        self.0.iter().enumerate().map(device).collect()
    }
}
