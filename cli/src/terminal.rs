//! The terminal in raw mode, and back again whatever happens.

use std::os::fd::AsFd;
use std::sync::{Mutex, PoisonError};

use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcsetattr};

use crate::failure::{CliError, Result};

/// How the terminal was before it was made raw, for those who have to restore it from elsewhere.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

/// The terminal that standard input is, in raw mode for as long as this lives.
pub struct Raw(());

impl Raw {
    /// Puts the terminal into raw mode: what is typed comes at once, byte by byte, and Ctrl-C is a byte.
    ///
    /// # Errors
    /// [`CliError::Usage`] where standard input is no terminal.
    pub fn enter() -> Result<Self> {
        let stdin = std::io::stdin();
        if !isatty(&stdin) {
            return Err(CliError::usage(
                "standard input is not a terminal",
                "`posada log` shows what the console printed; `posada ssh -c` runs a command",
            )
            .into());
        }
        let failed = |errno: rustix::io::Errno| CliError::host("the terminal cannot be set up", errno.into());
        let before = tcgetattr(&stdin).map_err(failed)?;
        let mut raw = before.clone();
        raw.make_raw();
        *BEFORE.lock().unwrap_or_else(PoisonError::into_inner) = Some(before);
        // The release build aborts on a panic: no destructor would run.
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            restore();
            previous(info);
        }));
        tcsetattr(&stdin, OptionalActions::Flush, &raw).map_err(failed)?;
        Ok(Self(()))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        restore();
    }
}

/// Puts the terminal back to how it was; nothing where it was not changed.
pub fn restore() {
    // Not waited for: the holder of the lock is on its way to the same.
    if let Ok(mut before) = BEFORE.try_lock()
        && let Some(before) = before.take()
    {
        // Where the terminal has gone there is nothing to restore.
        let _ = tcsetattr(std::io::stdin().as_fd(), OptionalActions::Drain, &before);
    }
}
