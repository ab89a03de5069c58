//! One vCPU: runs guest code until it needs the monitor, and can be called out of it.

use std::cell::Cell;
use std::os::unix::thread::JoinHandleExt;
use std::ptr;
use std::sync::Arc;
use std::thread::JoinHandle;

use kvm_bindings::{KVM_SYSTEM_EVENT_CRASH, KVM_SYSTEM_EVENT_RESET, KVM_SYSTEM_EVENT_SHUTDOWN, kvm_run};
use kvm_ioctls::{VcpuExit, VcpuFd};

use super::HypervisorError;
use crate::bus::Bus;
use crate::machine::Exit;
use crate::memory::GuestRam;

thread_local! {
    /// The shared page of this thread's vCPU, for the signal handler.
    static RUN: Cell<*mut kvm_run> = const { Cell::new(ptr::null_mut()) };
}

/// The signal by which vCPU threads are called: real-time, so that nothing else in a process uses it by chance.
fn signal() -> libc::c_int {
    libc::SIGRTMIN()
}

extern "C" fn called(_: libc::c_int) {
    RUN.with(|run| {
        let run = run.get();
        if !run.is_null() {
            // SAFETY: the pointer is this thread's and points to the mapped page of a vCPU that lives until it is
            // cleared; the kernel reads the byte when it enters the guest
            // (Documentation/virt/kvm/api.rst, KVM_CAP_IMMEDIATE_EXIT).
            unsafe { ptr::addr_of_mut!((*run).immediate_exit).write_volatile(1) };
        }
    });
}

/// Calls a vCPU's thread out of the guest.
pub struct Kicker;

impl Kicker {
    /// Makes calls possible in this process. Legal any number of times.
    ///
    /// # Errors
    /// Where the handler cannot be set.
    pub fn prepare() -> Result<(), HypervisorError> {
        // SAFETY: a zeroed `sigaction` is a valid one, and the handler only writes a byte of this thread's own.
        let result = unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = called as extern "C" fn(libc::c_int) as usize;
            libc::sigaction(signal(), &action, ptr::null_mut())
        };
        match result {
            0 => Ok(()),
            _ => Err(HypervisorError::Call {
                doing: "handle a signal",
                source: std::io::Error::last_os_error(),
            }),
        }
    }

    /// Calls the vCPU that runs in `thread`, which leaves the guest, or does not enter it, and returns from
    /// [`Vcpu::run`].
    pub fn kick(thread: &JoinHandle<()>) {
        // SAFETY: the thread has not been joined, so its handle is valid; the signal has a handler (`prepare`).
        unsafe { libc::pthread_kill(thread.as_pthread_t(), signal()) };
    }
}

/// Why [`Vcpu::run`] has returned.
#[derive(Debug, PartialEq, Eq)]
pub enum Ended {
    /// It was called.
    Kicked,
    /// The machine is to end.
    Exit(Exit),
}

/// A virtual CPU.
pub struct Vcpu {
    index: u8,
    // Goes before the memory it works on.
    fd: VcpuFd,
    _ram: Arc<GuestRam>,
}

impl Vcpu {
    pub(super) fn new(index: u8, fd: VcpuFd, ram: Arc<GuestRam>) -> Self {
        Self { index, fd, _ram: ram }
    }

    /// Its number, which is also its APIC's.
    #[must_use]
    pub fn index(&self) -> u8 {
        self.index
    }

    /// The underlying handle, for what an architecture sets up.
    #[must_use]
    pub fn handle(&self) -> &VcpuFd {
        &self.fd
    }

    /// Lets [`Kicker::kick`] reach this vCPU; to be called on its thread.
    pub fn enter_thread(&mut self) {
        let run: *mut kvm_run = self.fd.get_kvm_run();
        RUN.with(|cell| cell.set(run));
    }

    /// The opposite of [`enter_thread`](Self::enter_thread), before the vCPU is dropped.
    pub fn leave_thread(&mut self) {
        RUN.with(|cell| cell.set(ptr::null_mut()));
    }

    /// Tells the guest's clock that it was stopped, so that its watchdogs do not bark.
    pub fn was_paused(&self) {
        // A guest that does not use the clock has nothing to be told.
        let _ = self.fd.kvmclock_ctrl();
    }

    /// Runs guest code; port and memory-mapped accesses go to `ports` and `mmio`. Returns when it was kicked, when
    /// `over` says so after an access, or when the guest cannot go on.
    pub fn run(&mut self, ports: &Bus, mmio: &Bus, over: impl Fn() -> bool) -> Ended {
        loop {
            match self.fd.run() {
                Ok(VcpuExit::IoOut(port, data)) => ports.write(u64::from(port), data),
                Ok(VcpuExit::IoIn(port, data)) => ports.read(u64::from(port), data),
                Ok(VcpuExit::MmioWrite(address, data)) => mmio.write(address, data),
                Ok(VcpuExit::MmioRead(address, data)) => mmio.read(address, data),
                Ok(VcpuExit::Shutdown) => return Ended::Exit(Exit::Reset),
                Ok(VcpuExit::SystemEvent(KVM_SYSTEM_EVENT_SHUTDOWN, _)) => {
                    return Ended::Exit(Exit::PoweredOff);
                }
                Ok(VcpuExit::SystemEvent(KVM_SYSTEM_EVENT_RESET, _)) => return Ended::Exit(Exit::Reset),
                Ok(VcpuExit::SystemEvent(KVM_SYSTEM_EVENT_CRASH, _)) => return Ended::Exit(Exit::Panicked),
                Ok(VcpuExit::Intr | VcpuExit::Hlt | VcpuExit::IoapicEoi(_)) => {}
                Ok(VcpuExit::FailEntry(reason, cpu)) => {
                    return failed(format!(
                        "KVM could not enter the guest on CPU {cpu} (reason {reason:#x})"
                    ));
                }
                Ok(VcpuExit::InternalError) => {
                    return failed(format!("KVM gave up at {}", self.whereabouts()));
                }
                Ok(exit) => {
                    let exit = format!("{exit:?}");
                    return failed(format!("KVM left the guest for a reason unknown here: {exit}"));
                }
                Err(error) if error.errno() == libc::EINTR => {
                    self.fd.set_kvm_immediate_exit(0);
                    return Ended::Kicked;
                }
                Err(error) if error.errno() == libc::EAGAIN => {}
                Err(error) => return failed(format!("KVM cannot run the guest: {error}")),
            }
            if over() {
                return Ended::Kicked;
            }
        }
    }

    /// Where the vCPU stands and what KVM says of it, for people.
    fn whereabouts(&mut self) -> String {
        let at = self.fd.get_regs().map_or_else(|_| "?".to_owned(), |regs| format!("{:#x}", regs.rip));
        let run = self.fd.get_kvm_run();
        // SAFETY: after KVM_EXIT_INTERNAL_ERROR the union holds `internal`.
        let suberror = unsafe { run.__bindgen_anon_1.internal.suberror };
        let meaning = match suberror {
            1 => "an instruction it cannot emulate",
            2 => "simultaneous exceptions",
            3 => "an event it could not deliver",
            4 => "an exit it did not expect",
            _ => "an error unknown here",
        };
        format!("{at}: {meaning}")
    }
}

fn failed(what: String) -> Ended {
    Ended::Exit(Exit::Failed(what))
}
