//! Devices from their configuration, plugged into PCI slots in the order the guest numbers them by.

use std::io;
use std::sync::Arc;

use rustix::process::{Resource, getrlimit};

use super::VmError;
use crate::block::FaultSink;
use crate::bus::Bus;
use crate::config::{Devices, NicBackend};
use crate::fuse::Limits;
use crate::hypervisor::{Irqs, KvmIoEvents, KvmVm, Vectors};
use crate::interrupt::VectorSource;
use crate::memory::GuestRam;
use crate::pci::PciSegment;
use crate::virtio::VirtioDevice;
use crate::virtio::balloon::Balloon;
use crate::virtio::blk::Blk;
use crate::virtio::console::Console;
use crate::virtio::fs::Fs;
use crate::virtio::net::{Net, Wire};
use crate::virtio::rng::Rng;
use crate::virtio::transport::{IoEvents, VirtioPci};
use crate::virtio::vsock::Vsock;

/// How many folders within a synced one are watched. All of a user's programs share what inotify gives that user
/// (`fs.inotify.max_user_watches`), and one with a large tree is to leave something to the others.
const MOST_WATCHED: usize = 8192;

/// Takes devices and plugs them in.
pub(super) struct Plug<'a> {
    segment: PciSegment,
    slot: u8,
    ram: Arc<GuestRam>,
    vectors: Arc<dyn VectorSource>,
    io_events: Arc<dyn IoEvents>,
    mmio: &'a Arc<Bus>,
}

impl<'a> Plug<'a> {
    /// Plugs into `segment`, whose slot 0 is its host bridge.
    pub(super) fn new(segment: PciSegment, vm: &KvmVm, irqs: Arc<Irqs>, mmio: &'a Arc<Bus>) -> Self {
        Self {
            segment,
            slot: 1,
            ram: vm.ram().clone(),
            vectors: Arc::new(Vectors(irqs)),
            io_events: Arc::new(KvmIoEvents::new(vm.handle().clone())),
            mmio,
        }
    }

    /// Plugs in all of `devices`.
    pub(super) fn all(&mut self, devices: Devices, cpus: u8) -> Result<(), VmError> {
        for (disk, letter) in devices.disks.iter().zip('a'..) {
            let faults = devices.faults.clone();
            let sink =
                faults.map(|tell| FaultSink::new(Box::new(move |fault| tell.tell(&fault.to_string()))));
            self.add(Blk::open(disk, &format!("vd{letter}"), cpus, sink)?)?;
        }
        for nic in devices.nics {
            let wire = match nic.backend {
                NicBackend::Tap(fd) => Wire::tap(fd),
                NicBackend::Frames(fd) => Wire::frames(fd),
            };
            self.add(Net::new(wire.map_err(VmError::device("network interface"))?, nic.mac, nic.mtu))?;
        }
        let limits = Limits::for_descriptors(descriptors() / devices.folders.len().max(1));
        for folder in &devices.folders {
            let called = || format!("folder {}", folder.root.path().display());
            let fs = Fs::new(folder, limits);
            let mut fs = fs.map_err(|source| VmError::Device { device: called(), source })?;
            if let Some(listener) = &folder.changes
                && let Err(error) = fs.watch(listener.clone(), MOST_WATCHED)
                && let Some(faults) = &devices.faults
            {
                faults.tell(&format!("what the host changes in {} is not noticed: {error}", called()));
            }
            self.add(fs)?;
        }
        if devices.balloon {
            self.add(Balloon::new().0)?;
        }
        if devices.console.is_some() || !devices.ports.is_empty() {
            let console = Console::new(devices.console, devices.ports);
            self.add(console.map_err(VmError::device("console"))?.0)?;
        }
        if let Some(vsock) = devices.vsock {
            let vsock = Vsock::new(vsock.cid, vsock.path).map_err(io::Error::other);
            self.add(vsock.map_err(VmError::device("vsock"))?)?;
        }
        self.add(Rng::new())
    }

    fn add(&mut self, device: impl VirtioDevice + 'static) -> Result<(), VmError> {
        let (ram, vectors, io_events) = (self.ram.clone(), self.vectors.clone(), self.io_events.clone());
        let function = VirtioPci::new(Box::new(device), ram, vectors, io_events, self.mmio);
        self.segment.add(self.slot, function)?;
        self.slot += 1;
        Ok(())
    }

    /// The segment, with what was plugged in.
    pub(super) fn done(self) -> PciSegment {
        self.segment
    }
}

/// How many descriptors all folders may take: what this process may have, less what its other parts need.
fn descriptors() -> usize {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(limit / 4 * 3).unwrap_or(usize::MAX).min(1 << 20)
}
