//! Colours, marks and the small forms of text: durations, sizes, tables.

use std::time::Duration;

use owo_colors::{AnsiColors, OwoColorize, Style};

/// How the parts of the output look. Without colours every method returns its text as it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Palette {
    /// Whether escape sequences are written.
    pub colors: bool,
    /// Whether marks beyond ASCII are written.
    pub unicode: bool,
}

impl Palette {
    /// Something that went well.
    #[must_use]
    pub fn good(&self, text: &str) -> String {
        self.paint(text, Style::new().green())
    }

    /// Something to know.
    #[must_use]
    pub fn warning(&self, text: &str) -> String {
        self.paint(text, Style::new().yellow().bold())
    }

    /// Something that failed.
    #[must_use]
    pub fn bad(&self, text: &str) -> String {
        self.paint(text, Style::new().red().bold())
    }

    /// What matters on a line.
    #[must_use]
    pub fn strong(&self, text: &str) -> String {
        self.paint(text, Style::new().bold())
    }

    /// What matters least on a line.
    #[must_use]
    pub fn faint(&self, text: &str) -> String {
        self.paint(text, Style::new().dimmed())
    }

    /// What the user can type or open.
    #[must_use]
    pub fn offer(&self, text: &str) -> String {
        self.paint(text, Style::new().cyan())
    }

    /// A machine's name in its colour.
    #[must_use]
    pub fn machine(&self, text: &str, color: AnsiColors) -> String {
        self.paint(text, Style::new().color(color))
    }

    /// The mark before a finished phase.
    #[must_use]
    pub fn tick(&self) -> String {
        self.good(if self.unicode { "✔" } else { "+" })
    }

    /// The mark before a failed phase.
    #[must_use]
    pub fn cross(&self) -> String {
        self.bad(if self.unicode { "✘" } else { "x" })
    }

    /// The mark before a warning in a table.
    #[must_use]
    pub fn bang(&self) -> String {
        self.warning("!")
    }

    /// What stands between a machine's name and what it printed.
    #[must_use]
    pub fn bar(&self) -> String {
        self.faint(if self.unicode { "│" } else { "|" })
    }

    fn paint(&self, text: &str, style: Style) -> String {
        if self.colors { text.style(style).to_string() } else { text.to_owned() }
    }
}

const MACHINE_COLORS: [AnsiColors; 6] = [
    AnsiColors::Cyan,
    AnsiColors::Magenta,
    AnsiColors::Blue,
    AnsiColors::Yellow,
    AnsiColors::BrightGreen,
    AnsiColors::BrightMagenta,
];

/// Gives machines their colours: the same name has the same colour in every run, save where another machine
/// of the run took it first.
#[derive(Debug, Default)]
pub struct MachineColors {
    given: Vec<(String, usize)>,
}

impl MachineColors {
    /// How many machines have one.
    #[must_use]
    pub fn count(&self) -> usize {
        self.given.len()
    }

    /// The colour of the machine named `name`.
    pub fn of(&mut self, name: &str) -> AnsiColors {
        if let Some((_, index)) = self.given.iter().find(|(given, _)| given == name) {
            return MACHINE_COLORS[*index];
        }
        let wanted = name.bytes().fold(0_usize, |sum, b| sum.wrapping_mul(31).wrapping_add(usize::from(b)));
        let free = (0..MACHINE_COLORS.len())
            .map(|step| (wanted + step) % MACHINE_COLORS.len())
            .find(|index| self.given.iter().all(|(_, given)| given != index));
        let index = free.unwrap_or(wanted % MACHINE_COLORS.len());
        self.given.push((name.to_owned(), index));
        MACHINE_COLORS[index]
    }
}

/// A duration as people read it: `0.41s`, `12.3s`, `2m 05s`, `3h 07m`.
#[must_use]
pub fn duration(took: Duration) -> String {
    let seconds = took.as_secs();
    match seconds {
        0..10 => format!("{:.2}s", took.as_secs_f64()),
        10..60 => format!("{:.1}s", took.as_secs_f64()),
        60..3600 => format!("{}m {:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h {:02}m", seconds / 3600, seconds % 3600 / 60),
    }
}

/// A number of bytes as people read it: `512 B`, `67.1 MiB`.
#[must_use]
pub fn bytes(count: u64) -> String {
    let mut value = count as f64;
    let mut unit = "B";
    for next in ["KiB", "MiB", "GiB", "TiB"] {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    if unit == "B" { format!("{count} B") } else { format!("{value:.1} {unit}") }
}

/// Lays `rows` out in columns two blanks apart, as wide as their widest cell. Escape sequences take no room.
#[must_use]
pub fn columns(rows: &[Vec<String>]) -> Vec<String> {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..count)
        .map(|column| {
            rows.iter().filter_map(|row| row.get(column)).map(|cell| width(cell)).max().unwrap_or(0)
        })
        .collect();
    rows.iter()
        .map(|row| {
            let mut line = String::new();
            for (column, cell) in row.iter().enumerate() {
                line.push_str(cell);
                if column + 1 < row.len() {
                    line.push_str(&" ".repeat(widths[column] - width(cell) + 2));
                }
            }
            line.truncate(line.trim_end().len());
            line
        })
        .collect()
}

/// How many columns of a terminal `text` takes.
#[must_use]
pub fn width(text: &str) -> usize {
    console::measure_text_width(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_keep_the_digits_that_matter() {
        let text = |millis| duration(Duration::from_millis(millis));
        assert_eq!(text(413), "0.41s");
        assert_eq!(text(12_345), "12.3s");
        assert_eq!(text(125_000), "2m 05s");
        assert_eq!(text(11_220_000), "3h 07m");
    }

    #[test]
    fn sizes_take_the_unit_that_fits() {
        assert_eq!(bytes(512), "512 B");
        assert_eq!(bytes(70_359_450), "67.1 MiB");
        assert_eq!(bytes(3 << 30), "3.0 GiB");
    }

    #[test]
    fn machines_of_one_run_differ_and_keep_their_colour() {
        let mut colors = MachineColors::default();
        let names = ["web", "db", "cache", "queue", "mail", "proxy"];
        let given: Vec<AnsiColors> = names.iter().map(|name| colors.of(name)).collect();
        for (index, color) in given.iter().enumerate() {
            assert!(!given[..index].contains(color), "{} has a colour of its own", names[index]);
            assert_eq!(colors.of(names[index]), *color);
        }
        assert_eq!(MachineColors::default().of("web"), given[0], "the same in the next run");
    }

    #[test]
    fn columns_line_up_also_with_colours() {
        let palette = Palette { colors: true, unicode: true };
        let rows = [
            vec![palette.strong("web"), "running".to_owned()],
            vec!["database".to_owned(), palette.good("stopped")],
        ];
        let plain: Vec<String> =
            columns(&rows).iter().map(|line| console::strip_ansi_codes(line).into_owned()).collect();
        assert_eq!(plain, ["web       running", "database  stopped"]);
    }

    #[test]
    fn without_colours_nothing_is_added() {
        let palette = Palette { colors: false, unicode: false };
        assert_eq!(palette.bad("no"), "no");
        assert_eq!(palette.tick(), "+");
    }
}
