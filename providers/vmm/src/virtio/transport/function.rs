//! The PCI function of a virtio device.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::IoEvents;
use super::common::Common;
use super::identity::identity;
use super::layout::{self, BAR, BAR_SIZE, MAX_QUEUES, MAX_VECTORS, MSIX, Region, pci_cfg, region};
use super::notify::Kicks;
use super::signals::Signals;
use super::state::DeviceState;
use crate::bus::{Bus, BusDevice};
use crate::interrupt::VectorSource;
use crate::memory::GuestRam;
use crate::pci::{BarKind, BarMap, ConfigSpace, Msix, PciFunction, touches};
use crate::virtio::VirtioDevice;

/// A virtio device on PCI, to be added to a [`PciSegment`](crate::pci::PciSegment). Dropping it stops the device.
pub struct VirtioPci {
    // Dropped before the device, so that no access comes to one that ends.
    bars: BarMap,
    state: DeviceState,
    common: Common,
    config: ConfigSpace,
    msix: Arc<Msix>,
    /// Where MSI-X's message control is.
    msix_control: usize,
    /// Where the capability for access through configuration space begins.
    access: usize,
}

impl VirtioPci {
    /// Shows `device`. Its vectors, one for each queue and one for its configuration, come from `vectors` when the
    /// driver asks for them; its BAR appears on `bus` when the guest enables it.
    ///
    /// # Panics
    /// Where it has more than 1024 queues.
    #[must_use]
    pub fn new(
        device: Box<dyn VirtioDevice>,
        ram: Arc<GuestRam>,
        vectors: Arc<dyn VectorSource>,
        io_events: Arc<dyn IoEvents>,
        bus: &Arc<Bus>,
    ) -> Arc<Mutex<Self>> {
        let queues = device.queues().len();
        assert!(queues <= usize::from(MAX_QUEUES), "{queues} queues");
        let mut config = ConfigSpace::new(identity(device.kind()));
        let msix = Arc::new(Msix::new((queues as u16 + 1).min(MAX_VECTORS), vectors));
        let msix_control = msix.add_capability(&mut config, MSIX);
        let access = layout::add_capabilities(&mut config, queues);
        let signals = Arc::new(Signals::new(queues, msix.clone()));
        let state = DeviceState::new(device, ram, signals, Kicks::new(io_events));
        let mut bars = BarMap::new(bus);
        Arc::new_cyclic(|itself: &Weak<Mutex<Self>>| {
            let window = Arc::new(Mutex::new(Window(itself.clone())));
            bars.add(&mut config, usize::from(BAR), BarKind::Memory64, BAR_SIZE, window);
            Mutex::new(Self { bars, state, common: Common::default(), config, msix, msix_control, access })
        })
    }

    fn read_bar(&mut self, offset: u64, data: &mut [u8]) {
        data.fill(0);
        let Some((region, offset)) = region(offset) else { return };
        match region {
            Region::Common => self.common.read(&mut self.state, offset, data),
            Region::Isr if offset == 0 => data[0] = self.state.signals.take_isr(),
            Region::Isr | Region::Notify => {}
            Region::Device => self.state.device.read_config(offset as u64, data),
            Region::Table => self.msix.read_table(offset, data),
            Region::Pending => self.msix.read_pending(offset, data),
        }
    }

    fn write_bar(&mut self, offset: u64, data: &[u8]) {
        let Some((region, offset)) = region(offset) else { return };
        match region {
            Region::Common => self.common.write(&mut self.state, offset, data),
            Region::Isr | Region::Pending => {}
            Region::Device => self.state.device.write_config(offset as u64, data),
            Region::Notify => self.state.kicks.ring(offset),
            Region::Table => self.msix.write_table(offset, data),
        }
    }

    /// What the driver has set for access through configuration space: offset in the BAR and length, if they make
    /// sense (virtio 1.2, section 4.1.4.9).
    fn accessed(&self) -> Option<(u64, usize)> {
        let bar = self.config.u16(self.access + pci_cfg::BAR) as u8;
        let offset = self.config.u32(self.access + pci_cfg::OFFSET);
        let length = self.config.u32(self.access + pci_cfg::LENGTH);
        let sound = bar == BAR && matches!(length, 1 | 2 | 4) && offset.is_multiple_of(length);
        (sound && u64::from(offset) < BAR_SIZE).then_some((offset.into(), length as usize))
    }

    fn accesses(&self, offset: usize, length: usize) -> bool {
        touches(offset, length, self.access + pci_cfg::DATA, 4)
    }
}

impl PciFunction for VirtioPci {
    fn read_config(&mut self, offset: usize, data: &mut [u8]) {
        if self.accesses(offset, data.len())
            && let Some((at, length)) = self.accessed()
        {
            let mut value = [0; 4];
            self.read_bar(at, &mut value[..length]);
            self.config.set(self.access + pci_cfg::DATA, &value);
        }
        self.config.read(offset, data);
    }

    fn write_config(&mut self, offset: usize, data: &[u8]) {
        self.config.write(offset, data);
        if BarMap::concerns(offset, data.len()) && self.bars.sync(&self.config) {
            self.state.kicks.place(self.bars.mapped(usize::from(BAR)));
        }
        if touches(offset, data.len(), self.msix_control, 2) {
            self.msix.set_control(self.config.u16(self.msix_control));
        }
        if self.accesses(offset, data.len())
            && let Some((at, length)) = self.accessed()
        {
            let value = self.config.u32(self.access + pci_cfg::DATA).to_le_bytes();
            self.write_bar(at, &value[..length]);
        }
    }
}

/// The BAR on the bus. It does not keep the function, which ends with its segment.
struct Window(Weak<Mutex<VirtioPci>>);

impl BusDevice for Window {
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        if let Some(function) = self.0.upgrade() {
            function.lock().unwrap_or_else(PoisonError::into_inner).read_bar(offset, data);
        }
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        if let Some(function) = self.0.upgrade() {
            function.lock().unwrap_or_else(PoisonError::into_inner).write_bar(offset, data);
        }
    }
}
