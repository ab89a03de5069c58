//! Who has which address in a private network: one file, guarded by a kernel lock, written whole.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::path::Path;

use posada_provider_api::{Fault, FaultKind, MachineId, PrivateNetwork};
use serde::{Deserialize, Serialize};

const FILE: &str = "leases.json";
const NEW: &str = "leases.json.new";
const LOCK: &str = "leases.lock";

/// Prefix length of a network that nobody has given addresses.
const PREFIX: u8 = 24;

/// A machine's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// The address.
    pub address: Ipv4Addr,
    /// Prefix length of its network.
    pub prefix: u8,
}

/// Why a machine cannot have an address.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// Another machine has it.
    #[error("address {address} of network `{network}` belongs to machine {holder}")]
    Taken {
        /// The address.
        address: Ipv4Addr,
        /// The network's name.
        network: String,
        /// Whose it is.
        holder: MachineId,
    },
    /// It is none that a machine of the network can have.
    #[error("address {address} is not one of a machine in network `{network}`, which is {subnet}/{prefix}")]
    Outside {
        /// The address.
        address: Ipv4Addr,
        /// The network's name.
        network: String,
        /// The network's own address.
        subnet: Ipv4Addr,
        /// Its prefix length.
        prefix: u8,
    },
    /// All addresses are taken.
    #[error("network `{0}` has no free address")]
    Full(String),
    /// The file cannot be read or written.
    #[error("cannot keep the addresses of network `{network}`")]
    File {
        /// The network's name.
        network: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl Fault for LeaseError {
    fn kind(&self) -> FaultKind {
        match self {
            Self::Taken { .. } | Self::Outside { .. } | Self::Full(_) => FaultKind::Config,
            Self::File { .. } => FaultKind::Environment,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Taken { holder, .. } => Some(format!(
                "give one of them another `ip`, or destroy {holder} if it is not needed any more"
            )),
            Self::Outside { .. } => {
                Some("give all machines of a network an `ip` of the same subnet, or none of them".to_owned())
            }
            Self::Full(_) => {
                Some("destroy machines that are not needed any more, or use another network".to_owned())
            }
            Self::File { .. } => None,
        }
    }
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    subnet: Option<Subnet>,
    leases: BTreeMap<MachineId, Ipv4Addr>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Subnet {
    address: Ipv4Addr,
    prefix: u8,
}

impl Subnet {
    fn around(address: Ipv4Addr, prefix: u8) -> Self {
        let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
        Self { address: Ipv4Addr::from_bits(address.to_bits() & mask), prefix }
    }

    /// One out of 10.128.0.0/9 that depends on nothing but the network's name.
    fn named(name: &str) -> Self {
        // FNV-1a: the same in every release, which std's hashers do not promise.
        let hash = name
            .bytes()
            .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
        let [high, low, ..] = hash.to_be_bytes();
        Self { address: Ipv4Addr::new(10, 128 | high, low, 0), prefix: PREFIX }
    }

    /// Addresses that machines can have. The first one is left out: people expect a gateway or the host there.
    fn hosts(self) -> impl Iterator<Item = Ipv4Addr> {
        let first = u64::from(self.address.to_bits());
        let size = 1_u64 << (32 - u32::from(self.prefix.min(32)));
        (first + 2..first + size.saturating_sub(1)).map(|bits| Ipv4Addr::from_bits(bits as u32))
    }

    fn has(self, address: Ipv4Addr) -> bool {
        let last = self.address.to_bits() | u32::MAX.checked_shr(self.prefix.into()).unwrap_or(0);
        Self::around(address, self.prefix) == self && address != self.address && address.to_bits() != last
    }
}

/// Gives the machine `id` an address in `network`: the one it asks for, the one it has, or a free one. The table is
/// in the directory `dir`, made where it is missing, which must outlive the host's restarts.
///
/// # Errors
/// [`LeaseError`]
pub fn assign(dir: &Path, network: &PrivateNetwork, id: &MachineId) -> Result<Lease, LeaseError> {
    let failed = |source| LeaseError::File { network: network.name.clone(), source };
    fs_err::create_dir_all(dir).map_err(failed)?;
    let _lock = lock(dir).map_err(failed)?;
    let mut table = read(dir).map_err(failed)?;
    let others = table.leases.keys().any(|other| other != id);
    let subnet = match (network.ip, table.subnet) {
        // Nobody else is there to be in disagreement.
        (Some(ip), _) if !others => Subnet::around(ip, network.prefix),
        (_, Some(subnet)) => subnet,
        (Some(ip), None) => Subnet::around(ip, network.prefix),
        (None, None) => Subnet::named(&network.name),
    };
    let had = table.leases.get(id).copied().filter(|address| subnet.has(*address));
    let address = match network.ip {
        Some(address) if !subnet.has(address) || network.prefix != subnet.prefix => {
            let (name, Subnet { address: subnet, prefix }) = (network.name.clone(), subnet);
            return Err(LeaseError::Outside { address, network: name, subnet, prefix });
        }
        Some(address) => {
            if let Some((holder, _)) =
                table.leases.iter().find(|(other, held)| **held == address && *other != id)
            {
                let (network, holder) = (network.name.clone(), holder.clone());
                return Err(LeaseError::Taken { address, network, holder });
            }
            address
        }
        None => had
            .or_else(|| subnet.hosts().find(|free| !table.leases.values().any(|held| held == free)))
            .ok_or_else(|| LeaseError::Full(network.name.clone()))?,
    };
    table.subnet = Some(subnet);
    table.leases.insert(id.clone(), address);
    write(dir, &table).map_err(failed)?;
    Ok(Lease { address, prefix: subnet.prefix })
}

/// Takes the address of the machine `id` back; no error where it has none.
///
/// # Errors
/// Where the table cannot be read or written.
pub fn release(dir: &Path, id: &MachineId) -> io::Result<()> {
    if !dir.try_exists()? {
        return Ok(());
    }
    let _lock = lock(dir)?;
    let mut table = read(dir)?;
    if table.leases.remove(id).is_none() {
        return Ok(());
    }
    if table.leases.is_empty() {
        return fs_err::remove_file(dir.join(FILE));
    }
    write(dir, &table)
}

fn lock(dir: &Path) -> io::Result<fs_err::File> {
    let lock = fs_err::File::create(dir.join(LOCK))?;
    lock.file().lock()?;
    Ok(lock)
}

fn read(dir: &Path) -> io::Result<Table> {
    match fs_err::read(dir.join(FILE)) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|e| {
            io::Error::new(io::ErrorKind::InvalidData, format!("{}: {e}", dir.join(FILE).display()))
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Table::default()),
        Err(error) => Err(error),
    }
}

fn write(dir: &Path, table: &Table) -> io::Result<()> {
    let mut file = fs_err::File::create(dir.join(NEW))?;
    file.write_all(&serde_json::to_vec_pretty(table)?)?;
    file.sync_all()?;
    fs_err::rename(dir.join(NEW), dir.join(FILE))
}

#[cfg(test)]
mod tests {
    use posada_provider_api::MachineName;

    use super::*;

    fn machine(name: &str, random: u32) -> MachineId {
        MachineId::from_parts(&MachineName::new(name).unwrap(), random)
    }

    fn network(ip: Option<[u8; 4]>, prefix: u8) -> PrivateNetwork {
        PrivateNetwork { name: "back".to_owned(), ip: ip.map(Ipv4Addr::from), prefix }
    }

    #[test]
    fn asked_for_addresses_are_kept_and_free_ones_fill_the_gaps() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("networks/back");
        let lease = |net: &PrivateNetwork, id: &MachineId| {
            assign(&dir, net, id).map(|l| (l.address.octets(), l.prefix))
        };
        let (web, db, cache) = (machine("web", 1), machine("db", 2), machine("cache", 3));
        assert_eq!(lease(&network(Some([192, 168, 56, 2]), 24), &web).unwrap(), ([192, 168, 56, 2], 24));
        assert_eq!(lease(&network(None, 24), &db).unwrap(), ([192, 168, 56, 3], 24));
        assert_eq!(lease(&network(None, 24), &db).unwrap(), ([192, 168, 56, 3], 24), "the same again");
        let taken = lease(&network(Some([192, 168, 56, 3]), 24), &cache).unwrap_err();
        assert_eq!(
            taken.to_string(),
            "address 192.168.56.3 of network `back` belongs to machine db-00000002"
        );
        for outside in [[10, 1, 1, 1], [192, 168, 56, 0], [192, 168, 56, 255]] {
            let error = lease(&network(Some(outside), 24), &cache).unwrap_err();
            assert!(matches!(error, LeaseError::Outside { .. }), "{error}");
        }
        release(&dir, &web).unwrap();
        release(&dir, &web).unwrap();
        assert_eq!(lease(&network(None, 24), &cache).unwrap(), ([192, 168, 56, 2], 24));
        release(&dir, &db).unwrap();
        release(&dir, &cache).unwrap();
        assert!(!dir.join(FILE).exists());
    }

    #[test]
    fn a_network_without_addresses_gets_some_by_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let lease = assign(dir.path(), &network(None, 24), &machine("web", 1)).unwrap();
        assert_eq!((lease.address.octets()[0], lease.address.octets()[3], lease.prefix), (10, 2, 24));
        assert!(lease.address.octets()[1] >= 128);
        // Alone in it, a machine may move it.
        let moved = assign(dir.path(), &network(Some([192, 168, 1, 9]), 24), &machine("web", 1)).unwrap();
        assert_eq!(moved.address, Ipv4Addr::new(192, 168, 1, 9));
    }

    #[test]
    fn a_full_network_says_so() {
        let dir = tempfile::tempdir().unwrap();
        assign(dir.path(), &network(Some([10, 9, 8, 1]), 30), &machine("a", 1)).unwrap();
        assign(dir.path(), &network(None, 30), &machine("b", 2)).unwrap();
        let error = assign(dir.path(), &network(None, 30), &machine("c", 3)).unwrap_err();
        assert_eq!(error.to_string(), "network `back` has no free address");
    }

    #[test]
    fn twenty_at_once_get_twenty_addresses() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path();
        let addresses: std::collections::BTreeSet<_> = std::thread::scope(|scope| {
            let leases: Vec<_> = (0..20)
                .map(|n| scope.spawn(move || assign(path, &network(None, 24), &machine("m", n)).unwrap()))
                .collect();
            leases.into_iter().map(|lease| lease.join().unwrap().address).collect()
        });
        assert_eq!(addresses.len(), 20);
    }

    #[test]
    fn a_damaged_table_is_told_not_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        fs_err::write(dir.path().join(FILE), "{").unwrap();
        let error = assign(dir.path(), &network(None, 24), &machine("web", 1)).unwrap_err();
        assert_eq!(error.to_string(), "cannot keep the addresses of network `back`");
        assert_eq!(fs_err::read_to_string(dir.path().join(FILE)).unwrap(), "{");
    }
}
