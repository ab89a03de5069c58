//! The one place that writes to the terminal.
//!
//! Results (a table, a configuration, a schema) go to standard output; the narration of what is going on goes
//! to standard error, as lines, or as live lines where that is a terminal. With `--json` standard output gets one
//! JSON object a line, each with an `event`, and standard error nothing.

pub mod narrate;
pub mod sanitize;
pub mod screen;
pub mod style;

use std::io::{self, IsTerminal as _, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use serde_json::Value;

use screen::Screen;
use style::Palette;

/// For whom the output is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// People.
    Text,
    /// Programs: JSON lines.
    Json,
}

/// How much is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verbosity {
    /// Results, warnings and errors.
    Quiet,
    /// What was done.
    Normal,
    /// Also what is being done, and machines' consoles while they start.
    Verbose,
}

/// Whether colours are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum ColorChoice {
    /// Where the output is a terminal and `NO_COLOR` is not set.
    #[default]
    Auto,
    /// In any case.
    Always,
    /// Not at all.
    Never,
}

/// What the user chose of the output.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// For whom.
    pub format: Format,
    /// How much.
    pub verbosity: Verbosity,
    /// In colour or not.
    pub color: ColorChoice,
}

/// Writes everything. Clones write to the same place.
#[derive(Clone)]
pub struct Printer(Arc<Inner>);

struct Inner {
    settings: Settings,
    out_palette: Palette,
    out: Mutex<Box<dyn Write + Send>>,
    /// Set when whoever read standard output has gone.
    closed: AtomicBool,
    screen: Screen,
}

/// Where the two streams go.
pub struct Streams {
    /// Standard output.
    pub out: Box<dyn Write + Send>,
    /// Standard error; `None` draws live lines on the terminal that it is.
    pub err: Option<Box<dyn Write + Send>>,
    /// How standard output may look.
    pub out_palette: Palette,
    /// How standard error may look.
    pub err_palette: Palette,
}

impl Printer {
    /// Writes to the standard streams.
    #[must_use]
    pub fn standard(settings: Settings) -> Self {
        let unicode = std::env::var_os("TERM").is_none_or(|term| term != "linux");
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let choice = match settings.color {
            ColorChoice::Auto => anstream::ColorChoice::Auto,
            ColorChoice::Always => anstream::ColorChoice::Always,
            ColorChoice::Never => anstream::ColorChoice::Never,
        };
        choice.write_global();
        let palette = |choice| Palette { colors: choice != anstream::ColorChoice::Never, unicode };
        let live = io::stderr().is_terminal()
            && !dumb
            && settings.format == Format::Text
            && settings.verbosity > Verbosity::Quiet;
        Self::with_streams(
            settings,
            Streams {
                out: Box::new(io::stdout()),
                err: if live { None } else { Some(Box::new(io::stderr())) },
                out_palette: palette(anstream::AutoStream::choice(&io::stdout())),
                err_palette: palette(anstream::AutoStream::choice(&io::stderr())),
            },
        )
    }

    /// Writes to the streams given.
    #[must_use]
    pub fn with_streams(settings: Settings, streams: Streams) -> Self {
        let Streams { out, err, out_palette, err_palette } = streams;
        Self(Arc::new(Inner {
            settings,
            out_palette,
            out: Mutex::new(out),
            closed: AtomicBool::new(false),
            screen: Screen::new(err, err_palette),
        }))
    }

    /// Whether the output is JSON lines.
    #[must_use]
    pub fn is_json(&self) -> bool {
        self.0.settings.format == Format::Json
    }

    /// How much is told.
    #[must_use]
    pub fn verbosity(&self) -> Verbosity {
        self.0.settings.verbosity
    }

    /// How text on standard output looks.
    #[must_use]
    pub fn palette(&self) -> Palette {
        self.0.out_palette
    }

    /// How text on standard error looks.
    #[must_use]
    pub fn err_palette(&self) -> Palette {
        self.0.screen.palette()
    }

    /// Whether whoever read standard output has gone: then nothing more needs to be found out for them.
    #[must_use]
    pub fn closed(&self) -> bool {
        self.0.closed.load(Ordering::Relaxed)
    }

    /// A line of the result, for people; nothing with `--json`.
    pub fn line(&self, text: &str) {
        if !self.is_json() {
            self.write_out(format!("{text}\n").as_bytes());
        }
    }

    /// A result as it is, without a line end of ours, for people; nothing with `--json`.
    pub fn raw(&self, bytes: &[u8]) {
        if !self.is_json() {
            self.write_out(bytes);
        }
    }

    /// What something else wrote to its standard error, as it is; nothing with `--json`.
    pub fn raw_err(&self, bytes: &[u8]) {
        if !self.is_json() {
            self.0.screen.raw(bytes);
        }
    }

    /// One JSON line; nothing without `--json`. `event` must serialise to an object with an `event`, which is
    /// written first.
    pub fn json(&self, event: &impl Serialize) {
        if self.is_json() {
            match json_line(event) {
                Ok(line) => self.write_out(line.as_bytes()),
                Err(error) => self.0.screen.line(&format!("an event could not be written: {error}")),
            }
        }
    }

    /// A line of narration; nothing with `--json` or `--quiet`.
    pub fn note(&self, text: &str) {
        if !self.is_json() && self.verbosity() > Verbosity::Quiet {
            self.0.screen.line(text);
        }
    }

    /// Something the user should know although all goes on; also with `--quiet`.
    pub fn warn(&self, text: &str) {
        if self.is_json() {
            self.json(&serde_json::json!({"event": "warning", "machine": null, "message": text}));
        } else {
            self.0.screen.line(&format!("{} {text}", self.err_palette().warning("warning:")));
        }
    }

    /// Lines for people about an error, also with `--quiet`; nothing with `--json`.
    pub fn complain(&self, text: &str) {
        if !self.is_json() {
            self.0.screen.line(text);
        }
    }

    /// Makes room for the names of the machines that will be told of.
    pub fn expect_machines<'a>(&self, names: impl IntoIterator<Item = &'a str>) {
        self.0.screen.expect_machines(names);
    }

    /// Takes the live lines away, so that something else can have the terminal.
    pub fn clear(&self) {
        self.0.screen.clear();
    }

    pub(crate) fn screen(&self) -> &Screen {
        &self.0.screen
    }

    fn write_out(&self, bytes: &[u8]) {
        if self.closed() {
            return;
        }
        self.0.screen.suspend(|| {
            let mut out = self.0.out.lock().unwrap_or_else(PoisonError::into_inner);
            if out.write_all(bytes).and_then(|()| out.flush()).is_err() {
                self.0.closed.store(true, Ordering::Relaxed);
            }
        });
    }
}

fn json_line(event: &impl Serialize) -> serde_json::Result<String> {
    let mut line = serde_json::to_string(event)?;
    if !line.starts_with("{\"event\"") {
        let mut fields: serde_json::Map<String, Value> = serde_json::from_str(&line)?;
        let name = fields.remove("event").unwrap_or(Value::Null);
        let rest = serde_json::to_string(&fields)?;
        let comma = if fields.is_empty() { "" } else { "," };
        line = format!("{{\"event\":{name}{comma}{}", &rest[1..]);
    }
    line.push('\n');
    Ok(line)
}

/// Says `text` on standard error and takes no lock for it: for the moment before the process ends at once,
/// whatever the rest of it is doing.
pub fn last_words(text: &str) {
    let line = format!("\r\x1b[K{text}\n");
    let bytes = if io::stderr().is_terminal() { line.as_bytes() } else { &line.as_bytes()[4..] };
    // Nobody is left to be told of a failure.
    let _ = rustix::io::write(rustix::stdio::stderr(), bytes);
}

#[cfg(test)]
pub mod testing {
    //! A printer that writes to memory.

    use super::*;

    /// What was written to a stream.
    #[derive(Clone, Default)]
    pub struct Sheet(Arc<Mutex<Vec<u8>>>);

    impl Sheet {
        /// All of it.
        pub fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for Sheet {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A printer without colours, and the sheets its standard output and error go to.
    pub fn printer(format: Format, verbosity: Verbosity) -> (Printer, Sheet, Sheet) {
        let (out, err) = (Sheet::default(), Sheet::default());
        let palette = Palette { colors: false, unicode: true };
        let printer = Printer::with_streams(
            Settings { format, verbosity, color: ColorChoice::Never },
            Streams {
                out: Box::new(out.clone()),
                err: Some(Box::new(err.clone())),
                out_palette: palette,
                err_palette: palette,
            },
        );
        (printer, out, err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use testing::printer;

    #[test]
    fn results_and_narration_go_their_own_ways() {
        let (printer, out, err) = printer(Format::Text, Verbosity::Normal);
        printer.line("result");
        printer.note("narration");
        printer.warn("careful");
        printer.json(&serde_json::json!({"event": "result"}));
        assert_eq!(out.text(), "result\n");
        assert_eq!(err.text(), "narration\nwarning: careful\n");
    }

    #[test]
    fn json_is_all_there_is() {
        let (printer, out, err) = printer(Format::Json, Verbosity::Normal);
        printer.line("result");
        printer.note("narration");
        printer.complain("error");
        printer.warn("careful");
        printer.json(&serde_json::json!({"event": "result"}));
        assert_eq!(
            out.text(),
            "{\"event\":\"warning\",\"machine\":null,\"message\":\"careful\"}\n{\"event\":\"result\"}\n"
        );
        assert_eq!(err.text(), "");
    }

    #[test]
    fn the_event_comes_first() {
        assert_eq!(
            json_line(&serde_json::json!({"b": 1, "event": "x", "a": {"event": 2}})).unwrap(),
            "{\"event\":\"x\",\"a\":{\"event\":2},\"b\":1}\n"
        );
        assert_eq!(json_line(&serde_json::json!({"event": "x"})).unwrap(), "{\"event\":\"x\"}\n");
    }

    #[test]
    fn quiet_keeps_results_warnings_and_errors() {
        let (printer, out, err) = printer(Format::Text, Verbosity::Quiet);
        printer.line("result");
        printer.note("narration");
        printer.warn("careful");
        printer.complain("error");
        assert_eq!(out.text(), "result\n");
        assert_eq!(err.text(), "warning: careful\nerror\n");
    }

    #[test]
    fn a_reader_that_went_away_is_no_error() {
        struct Gone;
        impl Write for Gone {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let palette = Palette { colors: false, unicode: true };
        let printer = Printer::with_streams(
            Settings { format: Format::Text, verbosity: Verbosity::Normal, color: ColorChoice::Never },
            Streams {
                out: Box::new(Gone),
                err: Some(Box::new(io::sink())),
                out_palette: palette,
                err_palette: palette,
            },
        );
        assert!(!printer.closed());
        printer.line("result");
        printer.line("more");
        assert!(printer.closed());
    }
}
