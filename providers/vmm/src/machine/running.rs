//! A started machine: its vCPU threads.

use std::io;
use std::sync::Arc;

use super::control::Control;
use super::vm::{Parts, Vm};
use super::{Exit, Handle, VmError};
use crate::bus::Bus;
use crate::hypervisor::{Ended, Kicker, Vcpu};
use crate::jail;
use crate::worker::ThreadKind;

/// A machine that runs. Dropping it ends the machine and everything it holds.
pub struct Running {
    control: Arc<Control>,
    // Devices and buses: they go after the vCPUs that use them.
    _parts: Parts,
}

impl Vm {
    /// Lets the machine run.
    ///
    /// # Errors
    /// Where threads cannot be had.
    pub fn start(self) -> Result<Running, VmError> {
        let Self { vcpus, parts, control, name } = self;
        Kicker::prepare()?;
        // From here on a drop ends what was started.
        let running = Running { control, _parts: parts };
        let mut threads = Vec::with_capacity(vcpus.len());
        for vcpu in vcpus {
            let (control, parts) = (running.control.clone(), &running._parts);
            let (ports, mmio) = (parts.ports.clone(), parts.mmio.clone());
            let called = format!("vcpu{}:{name}", vcpu.index());
            match jail::spawn(ThreadKind::Vcpu, &called, move || live(vcpu, &ports, &mmio, &control)) {
                Ok(thread) => threads.push(thread),
                Err(error) => {
                    running.control.adopt(threads);
                    return Err(no_thread(error));
                }
            }
        }
        running.control.adopt(threads);
        Ok(running)
    }
}

fn no_thread(source: io::Error) -> VmError {
    VmError::Device { device: "vCPU".to_owned(), source }
}

fn live(mut vcpu: Vcpu, ports: &Bus, mmio: &Bus, control: &Control) {
    vcpu.enter_thread();
    // A call that came before now found nobody: what it was about is looked at first.
    loop {
        match control.checkpoint() {
            (false, _) => break,
            (true, true) => vcpu.was_paused(),
            (true, false) => {}
        }
        match vcpu.run(ports, mmio, || control.is_interrupted()) {
            Ended::Exit(exit) => control.end(exit),
            Ended::Kicked => {}
        }
    }
    vcpu.leave_thread();
}

impl Running {
    /// A hold on the machine.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle(self.control.clone())
    }

    /// Waits until the machine has ended, and says how. Blocks the thread.
    #[must_use]
    pub fn wait(&self) -> Exit {
        self.control.wait()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.control.end(Exit::Killed);
        for thread in self.control.release() {
            // A panic in there has been told by the panic hook already.
            let _ = thread.join();
        }
    }
}
