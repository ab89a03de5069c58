//! Putting a machine together.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use super::control::Control;
use super::plug::Plug;
use super::{Exit, VmError};
use crate::arch::current::power::{
    PanicPort, PowerBlock, PowerListener, PowerRequest, ResetControl, ResetLine,
};
use crate::arch::current::{acpi, boot, cpu, layout};
use crate::bus::{Bus, SharedDevice};
use crate::config::VmConfig;
use crate::hypervisor::{self, Irqs, Kvm, KvmVm, Vcpu};
use crate::legacy::Serial;
use crate::pci::PciSegment;

/// Where KVM is.
pub const KVM: &str = "/dev/kvm";

/// A machine that is ready to start.
pub struct Vm {
    pub(super) name: String,
    pub(super) control: Arc<Control>,
    pub(super) vcpus: Vec<Vcpu>,
    pub(super) parts: Parts,
}

/// What a machine consists of besides its vCPUs.
pub(super) struct Parts {
    pub(super) ports: Arc<Bus>,
    pub(super) mmio: Arc<Bus>,
    // The segment's devices use the machine in KVM, and go before it.
    _segment: PciSegment,
    _vm: KvmVm,
}

impl Vm {
    /// Puts a machine together as `config` says: memory, devices, kernel; nothing of it runs yet.
    ///
    /// # Errors
    /// [`VmError`].
    pub fn build(config: VmConfig) -> Result<Self, VmError> {
        let kvm = Kvm::open(Path::new(KVM))?;
        let profile = cpu::CpuProfile::of_host(kvm.handle(), config.cpus)?;
        let layout = layout::Layout::new(config.memory, profile.address_bits())?;
        let ram = hypervisor::allocate(&layout.regions())?;
        let vm = kvm.create(ram.clone())?;
        let irqs = Irqs::new(vm.handle().clone()).map_err(VmError::device("interrupt routes"))?;
        let control = Arc::new(Control::default());
        let (ports, mmio) = (Arc::new(Bus::default()), Arc::new(Bus::default()));

        let segment = PciSegment::new(layout::PCI_32, layout.pci_64());
        let serial = serial(config.serial, &irqs)?;
        let power = power(&control, &irqs);
        let reset_control = Arc::new(Mutex::new(ResetControl::new(listener(&control))));
        let on_ports: [(_, SharedDevice); 5] = [
            (layout::COM1_PORTS, serial),
            (layout::POWER_PORTS, power),
            (layout::I8042_PORTS, Arc::new(Mutex::new(ResetLine::new(listener(&control))))),
            (layout::PVPANIC_PORTS, Arc::new(Mutex::new(PanicPort::new(listener(&control))))),
            (layout::PCI_CONFIG_PORTS, segment.ports_with_reset(reset_control)),
        ];
        for (range, device) in on_ports {
            ports.insert(range, device)?;
        }
        mmio.insert(layout::ECAM, segment.ecam())?;
        let mut plug = Plug::new(segment, &vm, irqs, &mmio);
        plug.all(config.devices, config.cpus)?;
        let segment = plug.done();

        let rsdp = acpi::write_tables(&ram, &layout, config.cpus)?;
        let loaded = boot::load_files(&ram, &layout, rsdp, &config.boot)?;
        cpu::write_boot_tables(&ram, &loaded.entry).map_err(boot::BootError::from)?;
        let mut vcpus = Vec::with_capacity(config.cpus.into());
        for index in 0..config.cpus {
            let vcpu = vm.vcpu(index)?;
            cpu::configure(vcpu.handle(), index, &profile, &loaded.entry)?;
            vcpus.push(vcpu);
        }
        let parts = Parts { ports, mmio, _segment: segment, _vm: vm };
        Ok(Self { name: config.name, control, vcpus, parts })
    }
}

fn serial(socket: std::os::fd::OwnedFd, irqs: &Arc<Irqs>) -> Result<SharedDevice, VmError> {
    let line = irqs.line(layout::COM1_GSI).map_err(VmError::device("serial line"))?;
    let serial = Serial::new(socket, Box::new(move || line.trigger()));
    Ok(Arc::new(Mutex::new(serial.map_err(VmError::device("serial line"))?)))
}

/// The power registers, with the button in `control` wired to them.
fn power(control: &Arc<Control>, irqs: &Arc<Irqs>) -> SharedDevice {
    let irqs = irqs.clone();
    let sci = move |high| {
        // The line is one of the machine's own; KVM refuses only lines that are not.
        let _ = irqs.set_level(layout::SCI_GSI, high);
    };
    let block = Arc::new(Mutex::new(PowerBlock::new(Box::new(sci), listener(control))));
    let button = block.clone();
    control.set_button(Box::new(move || {
        button.lock().unwrap_or_else(PoisonError::into_inner).press_power_button();
    }));
    block
}

/// Ends the machine as its guest asks. Does not keep it.
fn listener(control: &Arc<Control>) -> PowerListener {
    let control = Arc::downgrade(control);
    Arc::new(move |request| {
        if let Some(control) = control.upgrade() {
            control.end(match request {
                PowerRequest::PowerOff => Exit::PoweredOff,
                PowerRequest::Reset => Exit::Reset,
                PowerRequest::Panicked => Exit::Panicked,
            });
        }
    })
}
