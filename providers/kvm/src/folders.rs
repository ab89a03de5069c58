//! A machine's synced folders, from before its process is confined to its last boot.

use posada_provider_api::{MachineSpec, ProviderError};
use posada_vmm::config::{Folder, Owners};
use posada_vmm::fuse::Root;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

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
    /// Pins the folders of a machine, and lets this process have as many files open as it may.
    ///
    /// # Errors
    /// [`ProviderError::Host`] where one is not there, or may not be entered.
    pub(crate) fn open(spec: &MachineSpec) -> Result<Self, ProviderError> {
        let open = |folder: &posada_provider_api::SyncedFolder| -> Result<Pinned, ProviderError> {
            let pinned = Root::open(&folder.source).and_then(|root| Ok((root.owner()?, root)));
            let (owner, root) = pinned.map_err(|error| ProviderError::Host {
                what: format!("the synced folder {} cannot be used: {error}", folder.source.display()),
                remedy: "make it, or correct `source`".to_owned(),
            })?;
            Ok(Pinned { root, owner, read_only: folder.read_only })
        };
        let folders = spec.folders.iter().map(open).collect::<Result<_, ProviderError>>()?;
        if !spec.folders.is_empty() {
            raise_hard_limit();
        }
        Ok(Self(folders))
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

/// Each file of a folder that the guest remembers is an open one of this process. Where the hard limit is not this
/// process's to raise, it is what there is; the soft one is as high already.
fn raise_hard_limit() {
    let most = fs_err::read_to_string("/proc/sys/fs/nr_open").ok().and_then(|text| text.trim().parse().ok());
    let limit = getrlimit(Resource::Nofile);
    if most > limit.maximum {
        let _ = setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most });
    }
}
