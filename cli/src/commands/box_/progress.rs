//! What long work on a box tells, as lines that are alive while it lasts.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use posada_box_catalog::Progress;
use serde_json::json;

use crate::printer::style;
use crate::printer::{Printer, Verbosity};

/// How many bytes lie between two JSON lines at least.
const STEP: u64 = 4 << 20;

/// Shows what is done to one box.
pub struct Shown<'a> {
    printer: &'a Printer,
    subject: String,
    now: Mutex<Option<Phase>>,
}

struct Phase {
    text: String,
    total: Option<u64>,
    done: u64,
    /// What of it needed no work.
    resumed: u64,
    began: Instant,
}

impl Phase {
    /// Bytes a second so far, and how many seconds are left by that.
    fn rate(&self) -> (Option<u64>, Option<u64>) {
        let seconds = self.began.elapsed().as_secs_f64();
        let rate = (seconds > 0.0).then(|| ((self.done - self.resumed) as f64 / seconds) as u64);
        let left = self.total.map(|total| total.saturating_sub(self.done));
        let left = left.zip(rate.filter(|rate| *rate > 0)).map(|(left, rate)| left.div_ceil(rate));
        (rate, left)
    }
}

impl<'a> Shown<'a> {
    /// Shows what is done to `subject`.
    pub fn new(printer: &'a Printer, subject: impl Into<String>) -> Self {
        Self { printer, subject: subject.into(), now: Mutex::new(None) }
    }

    /// The last phase has ended well.
    pub fn finish(&self) {
        self.end(&mut self.now());
    }

    fn end(&self, now: &mut Option<Phase>) {
        let Some(phase) = now.take() else { return };
        let (printer, took) = (self.printer, phase.began.elapsed());
        let palette = printer.err_palette();
        printer.screen().end(&self.subject);
        let took_text = palette.faint(&style::duration(took));
        let size = match phase.done {
            0 => String::new(),
            done => format!("  {}", palette.faint(&style::bytes(done))),
        };
        printer.note(&format!("{} {}  {}{size}  {took_text}", palette.tick(), self.subject, phase.text));
        printer.json(&json!({
            "event": "done",
            "machine": null,
            "what": format!("{} {}", phase.text, self.subject),
            "took_ms": u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        }));
    }

    fn now(&self) -> MutexGuard<'_, Option<Phase>> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Progress for Shown<'_> {
    fn phase(&self, text: &str, total: Option<u64>) {
        let mut now = self.now();
        // The same phase, told of once more, goes on.
        if total.is_none() && now.as_ref().is_some_and(|phase| phase.text == text && phase.total.is_none()) {
            return;
        }
        self.end(&mut now);
        self.printer.screen().begin(&self.subject, &format!("{}  {text}", self.subject));
        if self.printer.verbosity() == Verbosity::Verbose {
            self.printer.note(&format!("· {}  {text}", self.subject));
        }
        self.printer.json(&json!({
            "event": "phase", "machine": null, "phase": format!("{text} {}", self.subject),
        }));
        *now = Some(Phase { text: text.to_owned(), total, done: 0, resumed: 0, began: Instant::now() });
    }

    fn advance(&self, bytes: u64) {
        let mut now = self.now();
        let Some(phase) = now.as_mut() else { return };
        let before = phase.done;
        phase.done += bytes;
        let text = format!("{}  {}", self.subject, phase.text);
        self.printer.screen().advance(&self.subject, &text, phase.done, phase.total);
        if before / STEP != phase.done / STEP {
            let (bytes_per_second, seconds_left) = phase.rate();
            self.printer.json(&json!({
                "event": "progress",
                "machine": null,
                "subject": self.subject,
                "done": phase.done,
                "total": phase.total,
                "bytes_per_second": bytes_per_second,
                "seconds_left": seconds_left,
            }));
        }
    }

    fn resume(&self, bytes: u64) {
        if let Some(phase) = self.now().as_mut() {
            phase.done += bytes;
            phase.resumed += bytes;
        }
        self.printer.note(&format!("· {}  goes on after {}", self.subject, style::bytes(bytes)));
    }

    fn warn(&self, text: &str) {
        self.printer.warn(text);
    }
}

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        // A phase that failed leaves no line of its own: its error does.
        self.printer.screen().end(&self.subject);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::printer::Format;
    use crate::printer::testing::printer;

    #[test]
    fn phases_become_lines_when_they_end() {
        let (printer, _, err) = printer(Format::Text, Verbosity::Normal);
        let shown = Shown::new(&printer, "debian/12");
        shown.phase("unpacking", Some(2048));
        shown.advance(2048);
        shown.phase("storing", None);
        assert!(err.text().starts_with("✔ debian/12  unpacking  2.0 KiB  0.0"), "{}", err.text());
        assert_eq!(err.text().lines().count(), 1);
        shown.finish();
        assert_eq!(err.text().lines().count(), 2);
    }

    #[test]
    fn programs_see_how_far_it_has_come() {
        let (printer, out, _) = printer(Format::Json, Verbosity::Normal);
        let shown = Shown::new(&printer, "debian/12");
        shown.phase("unpacking", Some(10 << 20));
        for _ in 0..10 {
            shown.advance(1 << 20);
        }
        shown.finish();
        let events: Vec<serde_json::Value> =
            out.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let names: Vec<&str> = events.iter().map(|event| event["event"].as_str().unwrap()).collect();
        assert_eq!(names, ["phase", "progress", "progress", "done"]);
        assert_eq!(events[2]["done"], 8 << 20);
    }
}
