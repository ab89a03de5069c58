//! Interrupt lines and message-signalled vectors: each is an event descriptor that the kernel turns into an
//! interrupt (KVM_IRQFD), by a table that says which (KVM_SET_GSI_ROUTING).

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use kvm_bindings::{
    KVM_IRQ_ROUTING_IRQCHIP, KVM_IRQ_ROUTING_MSI, KVM_IRQCHIP_IOAPIC, KVM_IRQCHIP_PIC_MASTER,
    KVM_IRQCHIP_PIC_SLAVE, KvmIrqRouting, kvm_irq_routing_entry, kvm_irq_routing_irqchip,
    kvm_irq_routing_msi,
};
use kvm_ioctls::VmFd;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::interrupt::{MsiMessage, Vector, VectorSource};

/// Pins of the I/O APIC; vectors come behind them.
const PINS: u32 = 24;
/// Routes KVM takes (KVM_MAX_IRQ_ROUTES).
const MOST: u32 = 4096;

/// All interrupt routes of a machine.
pub struct Irqs {
    vm: Arc<VmFd>,
    routes: Mutex<Routes>,
}

#[derive(Default)]
struct Routes {
    given: u32,
    /// By GSI.
    messages: BTreeMap<u32, MsiMessage>,
}

impl Irqs {
    /// The routes of `vm`, which has interrupt controllers.
    ///
    /// # Errors
    /// What KVM says.
    pub fn new(vm: Arc<VmFd>) -> io::Result<Arc<Self>> {
        let irqs = Self { vm, routes: Mutex::default() };
        irqs.set(&Routes::default())?;
        Ok(Arc::new(irqs))
    }

    /// An edge-triggered line to pin `gsi` of the I/O APIC.
    ///
    /// # Errors
    /// What KVM says.
    pub fn line(&self, gsi: u32) -> io::Result<Line> {
        let event = EventFd::new(EFD_NONBLOCK)?;
        self.vm.register_irqfd(&event, gsi)?;
        Ok(Line(event))
    }

    /// Sets the level of pin `gsi`.
    ///
    /// # Errors
    /// What KVM says.
    pub fn set_level(&self, gsi: u32, high: bool) -> io::Result<()> {
        Ok(self.vm.set_irq_line(gsi, high)?)
    }

    fn route(&self, gsi: u32, message: Option<MsiMessage>) -> io::Result<()> {
        let mut routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        let before = match message {
            Some(message) => routes.messages.insert(gsi, message),
            None => routes.messages.remove(&gsi),
        };
        if before == message {
            return Ok(());
        }
        self.set(&routes)
    }

    fn set(&self, routes: &Routes) -> io::Result<()> {
        let entries: Vec<_> = pins().chain(routes.messages.iter().map(|(&gsi, m)| msi(gsi, *m))).collect();
        let table = KvmIrqRouting::from_entries(&entries).map_err(io::Error::other)?;
        Ok(self.vm.set_gsi_routing(&table)?)
    }
}

/// The lines: the first sixteen also lead to the old controllers.
fn pins() -> impl Iterator<Item = kvm_irq_routing_entry> {
    let chip = |gsi, irqchip, pin| {
        let mut entry =
            kvm_irq_routing_entry { gsi, type_: KVM_IRQ_ROUTING_IRQCHIP, ..kvm_irq_routing_entry::default() };
        entry.u.irqchip = kvm_irq_routing_irqchip { irqchip, pin };
        entry
    };
    let old = (0..16).map(move |gsi| match gsi {
        0..8 => chip(gsi, KVM_IRQCHIP_PIC_MASTER, gsi),
        _ => chip(gsi, KVM_IRQCHIP_PIC_SLAVE, gsi - 8),
    });
    // The timer is wired to pin 2, as on a PC; pin 2 of the old controllers is their cascade.
    let io_apic = (0..PINS).filter(|gsi| *gsi != 2).map(move |gsi| match gsi {
        0 => chip(0, KVM_IRQCHIP_IOAPIC, 2),
        _ => chip(gsi, KVM_IRQCHIP_IOAPIC, gsi),
    });
    old.filter(|entry| entry.gsi != 2).chain(io_apic)
}

fn msi(gsi: u32, message: MsiMessage) -> kvm_irq_routing_entry {
    let mut entry =
        kvm_irq_routing_entry { gsi, type_: KVM_IRQ_ROUTING_MSI, ..kvm_irq_routing_entry::default() };
    entry.u.msi = kvm_irq_routing_msi {
        address_lo: message.address as u32,
        address_hi: (message.address >> 32) as u32,
        data: message.data,
        ..kvm_irq_routing_msi::default()
    };
    entry
}

/// Gives out vectors. A type of its own, as vectors hold on to the routes they are in.
pub struct Vectors(pub Arc<Irqs>);

impl VectorSource for Vectors {
    fn vector(&self) -> io::Result<Arc<dyn Vector>> {
        let event = EventFd::new(EFD_NONBLOCK)?;
        let gsi = {
            let mut routes = self.0.routes.lock().unwrap_or_else(PoisonError::into_inner);
            if PINS + routes.given >= MOST {
                return Err(io::Error::other("KVM has no interrupt routes left"));
            }
            routes.given += 1;
            PINS + routes.given - 1
        };
        self.0.vm.register_irqfd(&event, gsi)?;
        Ok(Arc::new(IrqVector { irqs: self.0.clone(), gsi, event }))
    }
}

struct IrqVector {
    irqs: Arc<Irqs>,
    gsi: u32,
    event: EventFd,
}

impl Vector for IrqVector {
    fn route(&self, message: Option<MsiMessage>) -> io::Result<()> {
        self.irqs.route(self.gsi, message)
    }

    fn trigger(&self) {
        // Only an event that is signalled 2^64 - 2 times over and never heard takes no more.
        let _ = self.event.write(1);
    }
}

/// An edge-triggered interrupt line.
#[derive(Debug)]
pub struct Line(EventFd);

impl Line {
    /// Pulses the line.
    pub fn trigger(&self) {
        // As above.
        let _ = self.0.write(1);
    }
}
