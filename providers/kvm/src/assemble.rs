//! From a machine's description to what the monitor is handed, and what serves it at the other ends of its cables.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use posada_network::nat::{Nat, NatConfig};
use posada_network::private::{self, Private};
use posada_provider_api::network::management;
use posada_provider_api::{MachineDir, MachineSpec, Network, ProviderError, ProviderKind, Seeding};
use posada_vmm::config::{
    Boot, Devices, Disk, DiskFormat, FaultListener, Folder, Nic, NicBackend, Port, VmConfig,
};

use crate::bottom::Bottom;
use crate::changes::Teller;
use crate::facts::Facts;
use crate::folders::Folders;
use crate::memory::{self, HostMemory};
use crate::top::Top;
use crate::{boot, cable, changes, cmdline, failure, instance, seed};

/// Where the host names its name servers (resolv.conf(5)).
pub(crate) const RESOLV_CONF: &str = "/etc/resolv.conf";

/// The most virtual CPUs the monitor gives a machine.
const MAX_CPUS: u32 = 32;

/// One boot of a machine: what the monitor is to build, and who serves it.
pub(crate) struct Assembly {
    pub(crate) config: VmConfig,
    pub(crate) ends: Ends,
    /// What the user should know.
    pub(crate) warnings: Vec<String>,
}

/// Who serves a machine from one boot to the next.
pub(crate) struct Ends {
    /// The host's end of the serial line.
    pub(crate) console: OwnedFd,
    pub(crate) nat: Nat,
    pub(crate) private: Vec<Private>,
}

/// Puts together the next boot of the machine in `dir` with its `folders`; `faults` hears of what fails on the host while it runs.
///
/// # Errors
/// [`ProviderError::Host`] where the host has not what it asks for, [`ProviderError::Box`] where its box or its disk
/// cannot be booted.
pub(crate) fn assemble(
    dir: &MachineDir,
    spec: &MachineSpec,
    folders: &Folders,
    faults: FaultListener,
) -> Result<Assembly, ProviderError> {
    // A machine may have been made where this was no question: on another host, or before a change of firmware.
    if let Some((what, remedy)) = Facts::here().obstacle() {
        return Err(ProviderError::Host { what, remedy: remedy.to_owned() });
    }
    let bottom = Bottom::of(spec)?;
    let top = Top::of(dir);
    let mut warnings = Vec::new();
    let (memory, warning) = memory::plan(spec.memory, HostMemory::read())?;
    warnings.extend(warning);
    let (source, warning) = boot::source(&top, &bottom)?;
    warnings.extend(warning);
    let mut disks = vec![Disk {
        path: top.disk(),
        format: DiskFormat::Qcow2,
        backing: bottom.images().map(Path::to_owned).collect(),
        read_only: false,
        serial: "root".to_owned(),
    }];
    if bottom.seeding == Seeding::CloudInit {
        let seed = seed::seed(spec).map_err(failure::seed)?;
        let attempt = instance::begin(&top.instance(), &seed.instance_id)?;
        let seed = seed::volume(&seed, attempt).map_err(failure::seed)?;
        top.write_seed(&seed.image)?;
        warnings.extend(seed.warnings);
        disks.push(Disk {
            path: top.seed(),
            format: DiskFormat::Raw,
            backing: Vec::new(),
            read_only: true,
            serial: "seed".to_owned(),
        });
    }
    let (serial, console) = cable::bytes().map_err(refused("make a serial cable"))?;
    let (nics, nat, private) = network(dir, spec)?;
    let (ports, folders) = shared(spec, folders)?;
    let config = VmConfig {
        name: spec.name.to_string(),
        cpus: cpus(spec.cpus)?,
        memory,
        boot: Boot {
            kernel: source.kernel,
            initrd: source.initrd,
            cmdline: cmdline::complete(&source.cmdline, bottom.seeding),
        },
        serial,
        devices: Devices {
            disks,
            nics,
            folders,
            ports,
            balloon: true,
            faults: Some(faults),
            ..Devices::default()
        },
    };
    top.set_booted()?;
    Ok(Assembly { config, ends: Ends { console, nat, private }, warnings })
}

fn cpus(wanted: Option<u32>) -> Result<u8, ProviderError> {
    match wanted.unwrap_or(1) {
        cpus @ 1..=MAX_CPUS => Ok(cpus as u8),
        cpus => Err(ProviderError::Host {
            what: format!("a virtual machine cannot have {cpus} CPUs"),
            remedy: format!("set `cpus` to {MAX_CPUS} or fewer"),
        }),
    }
}

/// The management network first, then one interface for each private one, numbered as the seed numbers them.
fn network(dir: &MachineDir, spec: &MachineSpec) -> Result<(Vec<Nic>, Nat, Vec<Private>), ProviderError> {
    if spec.networks.iter().any(|network| matches!(network, Network::Bridged(_))) {
        let what = "bridged networks".to_owned();
        return Err(ProviderError::Unsupported { provider: ProviderKind::Kvm, what });
    }
    let plug = |index: u8, mtu| {
        let (theirs, ours) = cable::frames().map_err(refused("make a network cable"))?;
        Ok::<_, ProviderError>((
            Nic { mac: spec.id.mac(index), mtu, backend: NicBackend::Frames(theirs) },
            ours,
        ))
    };
    let (nic, cable) = plug(0, management::MTU)?;
    let config = NatConfig::new(nic.mac, spec.hostname.clone(), RESOLV_CONF);
    let nat = Nat::start(cable, config).map_err(refused("start the user-mode NAT"))?;
    let (mut nics, mut private) = (vec![nic], Vec::new());
    for (index, network) in (1..=u8::MAX).zip(spec.private_networks()) {
        let (nic, cable) = plug(index, private::MTU)?;
        let meeting = dir.networks().join(&network.name).join("switch");
        private.push(Private::join(&meeting, &spec.id, cable).map_err(refused("join a private network"))?);
        nics.push(nic);
    }
    Ok((nics, nat, private))
}

/// The folders, and the port by which the guest hears of what changes in them.
fn shared(spec: &MachineSpec, folders: &Folders) -> Result<(Vec<Port>, Vec<Folder>), ProviderError> {
    if spec.folders.is_empty() {
        return Ok(Default::default());
    }
    let (theirs, ours) = cable::bytes().map_err(refused("make a cable"))?;
    let port = Port { name: changes::PORT.to_owned(), stream: theirs };
    Ok((vec![port], folders.devices(spec, &Teller::new(ours))))
}

fn refused(doing: &'static str) -> impl FnOnce(io::Error) -> ProviderError {
    move |error| failure::io(doing, &error)
}
