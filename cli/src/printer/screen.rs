//! Standard error: lines that stay, and below them, on a terminal, one live line for each thing in progress.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::style::{MachineColors, Palette, width};

/// How often a live line is redrawn.
const TICK: Duration = Duration::from_millis(100);

/// Standard error.
pub struct Screen {
    palette: Palette,
    surface: Surface,
    names: Mutex<Names>,
}

enum Surface {
    Lines(Mutex<Box<dyn Write + Send>>),
    Live { all: MultiProgress, lines: Mutex<BTreeMap<String, ProgressBar>> },
}

#[derive(Default)]
struct Names {
    colors: MachineColors,
    width: usize,
}

impl Screen {
    /// Writes lines to `err`; without one, draws on the terminal that standard error is.
    pub fn new(err: Option<Box<dyn Write + Send>>, palette: Palette) -> Self {
        let surface = match err {
            Some(err) => Surface::Lines(Mutex::new(err)),
            None => Surface::Live {
                all: MultiProgress::with_draw_target(ProgressDrawTarget::stderr()),
                lines: Mutex::default(),
            },
        };
        Self { palette, surface, names: Mutex::default() }
    }

    /// How text looks here.
    pub fn palette(&self) -> Palette {
        self.palette
    }

    /// Writes a line that stays, above the live ones.
    pub fn line(&self, text: &str) {
        match &self.surface {
            Surface::Lines(err) => {
                // Where standard error is gone there is nobody to tell.
                let _ = locked(err).write_all(format!("{text}\n").as_bytes());
            }
            Surface::Live { all, .. } => {
                let _ = all.println(text);
            }
        }
    }

    /// Writes bytes as they are.
    pub fn raw(&self, bytes: &[u8]) {
        match &self.surface {
            Surface::Lines(err) => {
                let _ = locked(err).write_all(bytes);
            }
            Surface::Live { .. } => self.suspend(|| {
                let _ = std::io::stderr().write_all(bytes);
            }),
        }
    }

    /// Makes room for the names of machines before the first of them is shown, so that columns line up.
    pub fn expect_machines<'a>(&self, names: impl IntoIterator<Item = &'a str>) {
        let mut known = locked(&self.names);
        for name in names {
            known.width = known.width.max(width(name));
            known.colors.of(name);
        }
    }

    /// How many machines have been told of.
    pub fn machines(&self) -> usize {
        locked(&self.names).colors.count()
    }

    /// The machine's name in its colour, padded so that what follows lines up.
    pub fn name(&self, machine: &str) -> String {
        let mut known = locked(&self.names);
        known.width = known.width.max(width(machine));
        let pad = known.width - width(machine);
        let mut text = self.palette.machine(machine, known.colors.of(machine));
        let _ = write!(text, "{:pad$}", "");
        text
    }

    /// Shows `text` as what is going on under `key`. Without a terminal this is told only by its end.
    pub fn begin(&self, key: &str, text: &str) {
        if let Surface::Live { all, lines } = &self.surface {
            let mut lines = locked(lines);
            let bar = lines.entry(key.to_owned()).or_insert_with(|| {
                let bar = all.add(ProgressBar::new_spinner());
                bar.enable_steady_tick(TICK);
                bar
            });
            bar.set_style(self.spinner());
            bar.reset_elapsed();
            bar.set_message(text.to_owned());
        }
    }

    /// Shows how far what is going on under `key` has come, in bytes.
    pub fn advance(&self, key: &str, text: &str, done: u64, total: Option<u64>) {
        if let Surface::Live { all, lines } = &self.surface {
            let mut lines = locked(lines);
            let bar = lines.entry(key.to_owned()).or_insert_with(|| {
                let bar = all.add(ProgressBar::new_spinner());
                bar.enable_steady_tick(TICK);
                bar
            });
            if bar.length() != total || bar.message() != text {
                bar.set_style(if total.is_some() { self.bar() } else { self.counter() });
                match total {
                    Some(total) => bar.set_length(total),
                    None => bar.unset_length(),
                }
                bar.set_message(text.to_owned());
            }
            bar.set_position(done);
        }
    }

    /// What was going on under `key` is over.
    pub fn end(&self, key: &str) {
        if let Surface::Live { all, lines } = &self.surface
            && let Some(bar) = locked(lines).remove(key)
        {
            bar.finish_and_clear();
            all.remove(&bar);
        }
    }

    /// Takes all live lines away.
    pub fn clear(&self) {
        if let Surface::Live { all, lines } = &self.surface {
            for bar in std::mem::take(&mut *locked(lines)).into_values() {
                bar.finish_and_clear();
            }
            let _ = all.clear();
        }
    }

    /// Runs `work`, which writes to the terminal by another way, with the live lines out of its way.
    pub fn suspend<R>(&self, work: impl FnOnce() -> R) -> R {
        match &self.surface {
            Surface::Live { all, lines } if !locked(lines).is_empty() => all.suspend(work),
            _ => work(),
        }
    }

    fn spinner(&self) -> ProgressStyle {
        self.styled("{spinner} {wide_msg} {elapsed}")
    }

    fn bar(&self) -> ProgressStyle {
        self.styled("{spinner} {msg}  {bar:24} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec}  {eta} left")
    }

    fn counter(&self) -> ProgressStyle {
        self.styled("{spinner} {msg}  {binary_bytes} {binary_bytes_per_sec}")
    }

    fn styled(&self, template: &str) -> ProgressStyle {
        let style =
            ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner());
        if self.palette.unicode {
            style.tick_chars("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏ ").progress_chars("━╸─")
        } else {
            style.tick_chars("-\\|/ ").progress_chars("=>-")
        }
    }
}

fn locked<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
