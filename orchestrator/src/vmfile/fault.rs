//! What is wrong with a Vmfile: all of it at once, each fault at its place.

use std::fmt;
use std::ops::Range;

use posada_provider_api::{Fault, FaultKind};
use posada_provisioners::Place;

use super::source::Source;

/// One thing that is wrong with a Vmfile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VmfileFault {
    /// What is wrong, naming the value.
    pub message: String,
    /// What would be right, or what to do next.
    pub hint: Option<String>,
    /// Where it stands.
    pub place: Place,
    /// The same in bytes of the text; never more than one line, may be empty.
    pub span: Range<usize>,
    /// Other places that belong to it, such as the first of two equal keys.
    pub related: Vec<Related>,
}

/// Another place that belongs to a fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Related {
    /// What stands there: `first here`.
    pub label: String,
    /// Where that is.
    pub place: Place,
    /// The same in bytes of the text; never more than one line, may be empty.
    pub span: Range<usize>,
}

/// The most faults that are told of one file.
pub const MAX_FAULTS: usize = 100;

/// Everything that is wrong with a Vmfile, in the order of the file: at least one fault, and of a file that is
/// beyond reading the first [`MAX_FAULTS`].
#[derive(Debug, Clone, PartialEq)]
pub struct Faults {
    source: Source,
    faults: Vec<VmfileFault>,
    more: usize,
}

impl Faults {
    /// The faults, in the order of the file.
    pub fn iter(&self) -> std::slice::Iter<'_, VmfileFault> {
        self.faults.iter()
    }

    /// How many there are.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "there is always one")]
    pub fn len(&self) -> usize {
        self.faults.len()
    }

    /// How many more there are than are told.
    #[must_use]
    pub fn more(&self) -> usize {
        self.more
    }

    /// The text they are in, and its file.
    #[must_use]
    pub fn source_text(&self) -> &Source {
        &self.source
    }
}

impl<'a> IntoIterator for &'a Faults {
    type Item = &'a VmfileFault;
    type IntoIter = std::slice::Iter<'a, VmfileFault>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl std::error::Error for Faults {}

impl Fault for Faults {
    fn kind(&self) -> FaultKind {
        FaultKind::Config
    }

    fn hint(&self) -> Option<String> {
        Some("`posada validate` checks the file and starts nothing".to_owned())
    }
}

/// Plain text for places without colours: each fault with its place, its line and a caret.
impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.faults.iter().enumerate() {
            if index > 0 {
                f.write_str("\n\n")?;
            }
            write!(f, "{}: {}", fault.place, fault.message)?;
            self.quote(f, &fault.span, "")?;
            for related in &fault.related {
                self.quote(f, &related.span, &related.label)?;
            }
            if let Some(hint) = &fault.hint {
                write!(f, "\n  = {hint}")?;
            }
        }
        if self.more > 0 {
            write!(f, "\n\n{}: {} more faults follow", self.source.file().display(), self.more)?;
        }
        Ok(())
    }
}

/// Longest quoted line, characters.
const QUOTE_WIDTH: usize = 160;

impl Faults {
    fn quote(&self, f: &mut fmt::Formatter<'_>, span: &Range<usize>, label: &str) -> fmt::Result {
        let (number, start, line) = self.source.line(span.start);
        let printable = |text: &str| -> String {
            text.chars()
                .map(|c| match c {
                    '\t' => ' ',
                    c if c.is_control() => '\u{fffd}',
                    c => c,
                })
                .collect()
        };
        let before = (span.start - start).min(line.len());
        let skipped = line[..before].chars().count().saturating_sub(QUOTE_WIDTH / 2);
        let shown: String = line.chars().skip(skipped).take(QUOTE_WIDTH).collect();
        let blank = line[..before].chars().count() - skipped;
        let marked = line[before..(span.end - start).clamp(before, line.len())].chars().count();
        let marked = marked.clamp(1, QUOTE_WIDTH - blank.min(QUOTE_WIDTH - 1));
        let number = number.to_string();
        let gutter = " ".repeat(number.len());
        write!(f, "\n{number} | {}", printable(&shown))?;
        write!(f, "\n{gutter} | {}{}", " ".repeat(blank), "^".repeat(marked))?;
        if label.is_empty() { Ok(()) } else { write!(f, " {label}") }
    }
}

/// Collects faults while a Vmfile is read.
#[derive(Debug)]
pub(super) struct Collector {
    source: Source,
    faults: Vec<VmfileFault>,
}

impl Collector {
    pub(super) fn new(source: Source) -> Self {
        Self { source, faults: Vec::new() }
    }

    pub(super) fn source(&self) -> &Source {
        &self.source
    }

    pub(super) fn is_empty(&self) -> bool {
        self.faults.is_empty()
    }

    /// Notes a fault at `span`, which may be cut to its first line.
    pub(super) fn push(&mut self, span: &Range<usize>, message: impl Into<String>) -> Noted<'_> {
        let span = self.source.first_line(span);
        self.faults.push(VmfileFault {
            message: message.into(),
            hint: None,
            place: self.source.place(span.start),
            span,
            related: Vec::new(),
        });
        Noted { index: self.faults.len() - 1, collector: self }
    }

    /// Whether so many were noted that it is not worth searching for what each was meant to be.
    pub(super) fn many(&self) -> bool {
        self.len() >= MAX_FAULTS
    }

    /// How many were noted so far.
    pub(super) fn len(&self) -> usize {
        self.faults.len()
    }

    /// `Ok` where nothing was noted.
    pub(super) fn finish(self) -> Result<(), Faults> {
        if self.is_empty() { Ok(()) } else { Err(self.into_faults()) }
    }

    /// All that was noted, which is something. A fault in an aliased node is told once.
    pub(super) fn into_faults(mut self) -> Faults {
        self.faults.sort_by(|a, b| {
            (a.span.start, a.span.end, &a.message).cmp(&(b.span.start, b.span.end, &b.message))
        });
        self.faults.dedup_by(|a, b| a.span == b.span && a.message == b.message);
        let more = self.faults.len().saturating_sub(MAX_FAULTS);
        self.faults.truncate(MAX_FAULTS);
        Faults { source: self.source, faults: self.faults, more }
    }
}

/// A fault just noted, to which more can be said.
pub(super) struct Noted<'a> {
    collector: &'a mut Collector,
    index: usize,
}

impl Noted<'_> {
    /// What would be right, or what to do next.
    pub(super) fn hint(self, hint: impl Into<String>) -> Self {
        self.collector.faults[self.index].hint = Some(hint.into());
        self
    }

    /// The same, where there may be nothing to say.
    pub(super) fn maybe_hint(self, hint: Option<String>) -> Self {
        match hint {
            Some(hint) => self.hint(hint),
            None => self,
        }
    }

    /// Another place that belongs to the fault.
    pub(super) fn related(self, span: &Range<usize>, label: impl Into<String>) -> Self {
        let span = self.collector.source.first_line(span);
        let place = self.collector.source.place(span.start);
        self.collector.faults[self.index].related.push(Related { label: label.into(), place, span });
        self
    }
}
