//! From what a Vmfile says and what a box holds to what a provider is asked for.

use posada_box_catalog::{BoxError, Form, StoredBox};
use posada_provider_api::{GuestAccess, MachineSpec, ProviderKind};
use posada_provisioners::MachineKeys;

use crate::state::Entry;
use crate::vmfile::MachineConfig;

/// The complete description of a machine.
pub(crate) fn build(
    entry: &Entry,
    config: &MachineConfig,
    stored: &StoredBox,
    keys: &MachineKeys,
) -> Result<MachineSpec, BoxError> {
    Ok(MachineSpec {
        id: entry.record.id.clone(),
        name: config.name.clone(),
        hostname: config.hostname.clone(),
        cpus: config.cpus,
        memory: config.memory,
        disk: config.disk,
        pids: None,
        layers: vec![stored.layer(form(entry.record.provider))?],
        access: GuestAccess {
            user: config.ssh.username.clone().unwrap_or_else(|| stored.metadata.user.clone()),
            authorized_key: keys.login.public_line.clone(),
            host_key: keys.host.private_pem.to_string(),
            host_key_public: keys.host.public_line.clone(),
        },
        folders: config.synced_folders.clone(),
        networks: config.networks.clone(),
        env: config.env.clone(),
        graceful_timeout: config.graceful_timeout,
    })
}

/// What the machines of this backend are made from.
pub(crate) fn form(kind: ProviderKind) -> Form {
    match kind {
        ProviderKind::Container => Form::Rootfs,
        ProviderKind::Kvm => Form::Disk,
    }
}

/// What differs between the description a machine runs with and the one its Vmfile gives now, in words.
pub(crate) fn drift(running: &MachineSpec, wanted: &MachineSpec) -> Vec<&'static str> {
    [
        (running.hostname != wanted.hostname, "hostname"),
        (running.cpus != wanted.cpus, "cpus"),
        (running.memory != wanted.memory, "memory"),
        (running.disk != wanted.disk, "disk"),
        (running.access.user != wanted.access.user, "ssh user"),
        (running.folders != wanted.folders, "synced folders"),
        (running.networks != wanted.networks, "networks"),
        (running.env != wanted.env, "env"),
    ]
    .into_iter()
    .filter_map(|(differs, what)| differs.then_some(what))
    .collect()
}
