//! Ctrl-C and its kin: the first asks the running operation to end cleanly, the second ends the process at once.
//!
//! The signals are taken by a thread that does nothing else, so that they are heard whatever the rest is doing.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use nix::sys::signal::{SigSet, SigmaskHow, Signal, pthread_sigmask};

use crate::exit::ExitStatus;
use crate::failure::{CliError, Result};
use crate::printer::{Printer, last_words};

/// What listens for signals.
pub struct Interrupt {
    received: Arc<AtomicI32>,
}

impl Interrupt {
    /// Listens from now on, to the end of the process; at the first signal says `saying` and calls `cancel`.
    /// To be called before other threads exist: they inherit that these signals are not for them.
    ///
    /// # Errors
    /// [`CliError::Internal`] where the system has no thread to give.
    pub fn listen(
        printer: &Printer,
        saying: Option<&'static str>,
        cancel: impl Fn() + Send + 'static,
    ) -> Result<Self> {
        let mut signals = SigSet::empty();
        for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
            signals.add(signal);
        }
        pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&signals), None)
            .map_err(|errno| CliError::internal("cannot listen for signals")(errno.into()))?;
        let received = Arc::new(AtomicI32::new(0));
        std::thread::Builder::new()
            .name("signals".to_owned())
            .spawn({
                let (received, printer) = (received.clone(), printer.clone());
                move || {
                    while let Ok(signal) = signals.wait() {
                        if received.swap(signal as i32, Ordering::SeqCst) != 0 {
                            force(signal);
                        }
                        cancel();
                        if printer.is_json() {
                            printer.json(&serde_json::json!({
                                "event": "interrupted", "signal": signal.as_str(),
                            }));
                        } else {
                            saying.iter().for_each(|text| printer.complain(text));
                        }
                    }
                }
            })
            .map_err(CliError::internal("cannot listen for signals"))?;
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

/// Ends the process without waiting for anything: the state directory tells the next run where this one was.
fn force(signal: Signal) -> ! {
    crate::terminal::restore();
    last_words("stopped at once; `posada status` shows where things are, `posada up` goes on from there");
    // SAFETY: `_exit` takes no lock, runs no handler and does not return.
    unsafe { nix::libc::_exit(ExitStatus::signal(signal as i32).code().into()) }
}
