//! The addresses of machines in their private networks, kept as long as the machine exists.

use std::io;

use posada_network::private::leases;
use posada_provider_api::{MachineDir, MachineId, MachineSpec, Network};

use crate::error::{Error, OnMachine};

/// Gives the machine its address in each of its private networks: the one its Vmfile names, the one it has, or a
/// free one.
pub(super) fn assign(dir: &MachineDir, spec: &mut MachineSpec) -> Result<(), Error> {
    let (id, name) = (spec.id.clone(), spec.name.clone());
    for network in &mut spec.networks {
        if let Network::Private(network) = network {
            let table = dir.networks().join(&network.name);
            let lease = leases::assign(&table, network, &id)
                .map_err(OnMachine::new(&name))
                .map_err(Error::Address)?;
            (network.ip, network.prefix) = (Some(lease.address), lease.prefix);
        }
    }
    Ok(())
}

/// Takes all addresses of the machine back, also those of networks that its Vmfile no longer names.
pub(super) fn release(dir: &MachineDir, id: &MachineId) -> Result<(), Error> {
    let tables = match fs_err::read_dir(dir.networks()) {
        Ok(tables) => tables,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Error::io("list the private networks")(error)),
    };
    for table in tables {
        let table = table.map_err(Error::io("list the private networks"))?;
        leases::release(&table.path(), id).map_err(Error::io("take an address back"))?;
    }
    Ok(())
}
