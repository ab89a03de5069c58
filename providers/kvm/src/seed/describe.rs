//! From a machine's spec to what its seed says.

use posada_provider_api::{MachineSpec, Network, SyncedFolder};
use posada_templates::{Addressing, Changes, Nic, SeedFolder, SeedInput};

use super::SeedError;
use crate::changes::PORT;

/// Tag of the virtio file system device for folder number `index` of a machine's spec (virtio 1.2 §5.11.4: at most
/// 36 bytes).
#[must_use]
pub fn folder_tag(index: usize) -> String {
    format!("folder{index}")
}

/// What the seed of a machine says.
pub(super) fn describe(spec: &MachineSpec) -> Result<SeedInput, SeedError> {
    Ok(SeedInput {
        machine: spec.id.clone(),
        hostname: spec.hostname.clone(),
        access: spec.access.clone(),
        env: spec.env.clone(),
        nics: nics(spec),
        folders: spec
            .folders
            .iter()
            .enumerate()
            .map(|(index, one)| folder(index, one))
            .collect::<Result<_, _>>()?,
        changes: (!spec.folders.is_empty())
            .then(|| Changes { port: PORT.to_owned(), raising: posada_vmm::fuse::RAISING }),
    })
}

/// `eth0` to the NAT, and one for each further network that has a cable, as in a container: `eth1` and on. Their MAC
/// addresses are [`MachineId::mac`](posada_provider_api::MachineId::mac) of the same number.
fn nics(spec: &MachineSpec) -> Vec<Nic> {
    let given = |(ip, prefix)| Addressing::Static(ip, prefix);
    let further = spec.networks.iter().filter_map(|network| match network {
        Network::Forward(_) => None,
        Network::Private(private) => {
            Some(private.ip.map_or(Addressing::Dhcp, |ip| given((ip, private.prefix))))
        }
        Network::Bridged(bridged) => Some(bridged.ip.map_or(Addressing::Dhcp, given)),
    });
    (0..=u8::MAX)
        .zip(std::iter::once(Addressing::Nat).chain(further))
        .map(|(index, addressing)| Nic { name: format!("eth{index}"), mac: spec.id.mac(index), addressing })
        .collect()
}

fn folder(index: usize, folder: &SyncedFolder) -> Result<SeedFolder, SeedError> {
    let target = folder.target.to_str();
    let target = target.ok_or_else(|| SeedError::Target(folder.target.display().to_string()))?;
    Ok(SeedFolder { tag: folder_tag(index), target: target.to_owned(), read_only: folder.read_only })
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;
    use std::path::Path;
    use std::time::Duration;

    use posada_provider_api::{Forward, GuestAccess, MachineId, MachineName, PrivateNetwork, Protocol};

    use super::*;
    use crate::seed::{seed, volume};

    fn spec() -> MachineSpec {
        let forward = Forward {
            guest: 80,
            host: 0,
            host_ip: [127, 0, 0, 1].into(),
            protocol: Protocol::Tcp,
            auto_correct: false,
            name: None,
        };
        let private = PrivateNetwork { name: "lan".into(), ip: Some([10, 1, 0, 7].into()), prefix: 16 };
        MachineSpec {
            id: MachineId::parse("web-3f9a1c20").unwrap(),
            name: MachineName::new("web").unwrap(),
            hostname: "web".into(),
            cpus: None,
            memory: None,
            disk: None,
            pids: None,
            layers: Vec::new(),
            access: GuestAccess {
                user: "debian".into(),
                authorized_key: "ssh-ed25519 AAAA".into(),
                host_key: "PRIVATE".into(),
                host_key_public: "ssh-ed25519 BBBB".into(),
            },
            folders: ["/srv/a", "/srv/b"]
                .map(|target| SyncedFolder {
                    source: "/host".into(),
                    target: target.into(),
                    read_only: target == "/srv/b",
                    create: false,
                })
                .into(),
            networks: vec![Network::Forward(forward), Network::Private(private)],
            env: [("A".to_owned(), "1".to_owned()), ("B".to_owned(), "\"".to_owned())].into(),
            graceful_timeout: Duration::from_secs(30),
        }
    }

    #[test]
    fn interfaces_are_numbered_as_a_containers_are() {
        let spec = spec();
        let nics = nics(&spec);
        let [first, second] = nics.as_slice() else { panic!("{nics:?}") };
        assert_eq!(
            (first.name.as_str(), first.mac, first.addressing),
            ("eth0", spec.id.mac(0), Addressing::Nat)
        );
        let given = Addressing::Static([10, 1, 0, 7].into(), 16);
        assert_eq!((second.name.as_str(), second.mac, second.addressing), ("eth1", spec.id.mac(1), given));
    }

    #[test]
    fn folders_are_known_by_their_place() {
        let folders = describe(&spec()).unwrap().folders;
        let found: Vec<_> =
            folders.iter().map(|f| (f.tag.as_str(), f.target.as_str(), f.read_only)).collect();
        assert_eq!(found, [("folder0", "/srv/a", false), ("folder1", "/srv/b", true)]);
        assert!(folder_tag(usize::MAX).len() <= 36);
    }

    #[test]
    fn a_volume_holds_the_key_and_tells_what_it_could_not() {
        let made = volume(&seed(&spec()).unwrap(), 0).unwrap();
        assert!(made.image.windows(7).any(|window| window == b"PRIVATE"));
        assert!(!format!("{made:?}").contains("PRIVATE"));
        assert!(matches!(made.warnings.as_slice(), [one] if one.starts_with("`B` ")), "{made:?}");
        assert_eq!(made, volume(&seed(&spec()).unwrap(), 0).unwrap());
        assert_ne!(made, volume(&seed(&spec()).unwrap(), 1).unwrap(), "another instance");
    }

    #[test]
    fn a_target_that_is_no_text_is_told() {
        let mut spec = spec();
        spec.folders[0].target = Path::new(std::ffi::OsStr::from_bytes(b"/srv/\xff")).into();
        assert!(matches!(seed(&spec), Err(SeedError::Target(_))));
    }
}
