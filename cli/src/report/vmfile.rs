//! Faults of a Vmfile, each with its line quoted.

use std::fmt;

use miette::{
    Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, Severity, SourceCode,
    ThemeCharacters, ThemeStyles,
};
use posada_orchestrator::vmfile::{Faults, VmfileFault};
use serde_json::{Value, json};

use crate::printer::style::Palette;

/// All faults, one below the other, and how many they are.
pub fn render(faults: &Faults, palette: Palette) -> String {
    let source = NamedSource::new(
        faults.source_text().file().display().to_string(),
        faults.source_text().text().to_owned(),
    );
    let theme = GraphicalTheme {
        characters: if palette.unicode { ThemeCharacters::unicode() } else { ThemeCharacters::ascii() },
        styles: if palette.colors { ThemeStyles::ansi() } else { ThemeStyles::none() },
    };
    let handler = GraphicalReportHandler::new_themed(theme).with_links(false).with_width(100);
    let mut text = String::new();
    for fault in faults {
        // The handler only fails where the string cannot grow.
        let _ = handler.render_report(&mut text, &Shown { fault, source: &source });
    }
    text.push_str(&palette.bad("error:"));
    text.push(' ');
    text.push_str(&summary(faults));
    text
}

/// How many faults there are, in which file.
pub fn summary(faults: &Faults) -> String {
    let file = faults.source_text().file().display();
    match faults.len() {
        1 => format!("there is a fault in {file}"),
        count => format!("there are {count} faults in {file}"),
    }
}

/// Each fault with its place.
pub fn as_json(faults: &Faults) -> Value {
    faults
        .iter()
        .map(|fault| {
            json!({
                "message": fault.message,
                "hint": fault.hint,
                "file": fault.place.file,
                "line": fault.place.line,
                "column": fault.place.column,
                "offset": fault.span.start,
                "length": fault.span.len(),
            })
        })
        .collect()
}

struct Shown<'a> {
    fault: &'a VmfileFault,
    source: &'a NamedSource<String>,
}

impl fmt::Debug for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.fault, f)
    }
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.fault.message)
    }
}

impl std::error::Error for Shown<'_> {}

impl Diagnostic for Shown<'_> {
    fn severity(&self) -> Option<Severity> {
        Some(Severity::Error)
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.fault.hint.as_ref().map(|hint| Box::new(hint) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(self.source)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let main = LabeledSpan::new_primary_with_span(None, self.fault.span.clone());
        let related = self
            .fault
            .related
            .iter()
            .map(|related| LabeledSpan::new_with_span(Some(related.label.clone()), related.span.clone()));
        Some(Box::new(std::iter::once(main).chain(related)))
    }
}
