//! Ctrl-C and its kin: the first asks the running operation to end cleanly, the second ends the process at once.
//!
//! ```text
//! signal ──► handler ──► pipe ──► a thread that does nothing else ──► another that says so and cancels
//!                                              └── the second time ──► _exit
//! ```
//! The thread hears them whatever the rest is doing. Signals are handled, not blocked: programs that are started
//! meanwhile would inherit a blocked signal, and could not be terminated.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::{IntoRawFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use nix::libc;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

use crate::exit::ExitStatus;
use crate::failure::{CliError, Result};
use crate::printer::{Printer, last_words};

/// The end of the pipe that the handler writes to.
static PIPE: AtomicI32 = AtomicI32::new(-1);
/// Whose signals they are: not those of a child that has not begun its own program yet.
static OWNER: AtomicI32 = AtomicI32::new(0);

/// What listens for signals.
pub struct Interrupt {
    received: Arc<AtomicI32>,
}

impl Interrupt {
    /// Listens from now on, to the end of the process; at the first signal says `saying` and calls `cancel` with it. A
    /// signal that the process was started to ignore, as by nohup(1), stays ignored.
    ///
    /// # Errors
    /// [`CliError::Internal`] where the system has no pipe or thread to give.
    pub fn listen(
        printer: &Printer,
        saying: Option<&'static str>,
        cancel: impl Fn(Signal) + Send + 'static,
    ) -> Result<Self> {
        let what = "cannot listen for signals";
        let (reader, writer) = std::io::pipe().map_err(CliError::internal(what))?;
        // Open to the end of the process, as the handler is there that long.
        PIPE.store(OwnedFd::from(writer).into_raw_fd(), Ordering::SeqCst);
        OWNER.store(nix::unistd::getpid().as_raw(), Ordering::SeqCst);
        let received = Arc::new(AtomicI32::new(0));
        let (first, heard) = std::sync::mpsc::channel();
        let thread = |name: &str| std::thread::Builder::new().name(name.to_owned());
        thread("signals")
            .spawn({
                let received = received.clone();
                move || {
                    let mut signals = File::from(OwnedFd::from(reader));
                    let mut number = [0_u8];
                    while signals.read_exact(&mut number).is_ok() {
                        let Ok(signal) = Signal::try_from(i32::from(number[0])) else { continue };
                        if received.swap(signal as i32, Ordering::SeqCst) != 0 {
                            force(signal);
                        }
                        // Who takes it lives as long as the process.
                        let _ = first.send(signal);
                    }
                }
            })
            .map_err(CliError::internal(what))?;
        let printer = printer.clone();
        // What is said comes before what it leads to, and may have to wait for whoever reads the output. That
        // must not keep the second signal from being heard.
        thread("interrupt")
            .spawn(move || {
                for signal in heard {
                    printer.json(&serde_json::json!({"event": "interrupted", "signal": signal.as_str()}));
                    saying.iter().for_each(|text| printer.complain(text));
                    cancel(signal);
                }
            })
            .map_err(CliError::internal(what))?;
        for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
            handle(signal).map_err(|errno| CliError::internal(what)(errno.into()))?;
        }
        Ok(Self { received })
    }

    /// The status to end with, where a signal has come.
    #[must_use]
    pub fn exit_status(&self) -> Option<ExitStatus> {
        match self.received.load(Ordering::SeqCst) {
            0 => None,
            number => Some(ExitStatus::signal(number)),
        }
    }
}

fn handle(signal: Signal) -> nix::Result<()> {
    let ours = SigAction::new(SigHandler::Handler(on_signal), SaFlags::SA_RESTART, SigSet::empty());
    // SAFETY: the handler makes only calls that signal-safety(7) allows, and touches only atomics.
    let before = unsafe { sigaction(signal, &ours) }?;
    if matches!(before.handler(), SigHandler::SigIgn) {
        // SAFETY: puts back what was there.
        unsafe { sigaction(signal, &before) }?;
    }
    Ok(())
}

extern "C" fn on_signal(number: libc::c_int) {
    // SAFETY: getpid, write and the errno they may change are safe in a handler (signal-safety(7)); the pipe is
    // never closed.
    unsafe {
        let errno = libc::__errno_location();
        let before = *errno;
        if libc::getpid() == OWNER.load(Ordering::SeqCst) {
            let byte = number as u8;
            libc::write(PIPE.load(Ordering::SeqCst), (&raw const byte).cast(), 1);
        }
        *errno = before;
    }
}

/// Ends the process without waiting for anything: the state directory tells the next run where this one was.
fn force(signal: Signal) -> ! {
    crate::terminal::restore();
    last_words("stopped at once; `posada status` shows where things are, `posada up` goes on from there");
    // SAFETY: `_exit` takes no lock, runs no handler and does not return.
    unsafe { libc::_exit(ExitStatus::signal(signal as i32).code().into()) }
}
