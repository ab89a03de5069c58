//! Texts that describe a machine: XML from anywhere.

use roxmltree::{Document, ParsingOptions};

use crate::error::{corrupt, unsupported};
use crate::{Result, Storage};

/// Longest text, bytes.
const MAX_TEXT: usize = 4 << 20;
/// Most elements and texts.
const MAX_NODES: u32 = 200_000;
/// Most attributes of an element, each of which the parser compares with all others.
const MAX_ATTRIBUTES: usize = 256;
/// Most declarations of namespaces, of which the parser keeps a list for each element that has one.
const MAX_NAMESPACES: usize = 512;

/// The text of a file.
pub fn text(content: &Storage) -> Result<String> {
    if content.length() > MAX_TEXT as u64 {
        return Err(unsupported("a description of more than 4 MiB"));
    }
    let bytes = content.bytes(0, MAX_TEXT)?;
    String::from_utf8(bytes).map_err(|_| corrupt("its description is no UTF-8"))
}

/// Reads XML; what it defines by itself (which could grow without end) is refused.
pub fn parse(text: &str) -> Result<Document<'_>> {
    let options = ParsingOptions { nodes_limit: MAX_NODES, ..Default::default() };
    let text = text.trim_start_matches('\u{feff}').trim_end_matches('\0');
    // No tag has another `<` in it.
    if text.split('<').any(|piece| attributes(piece) > MAX_ATTRIBUTES)
        || text.matches("xmlns").count() > MAX_NAMESPACES
    {
        return Err(unsupported("a description with too many attributes"));
    }
    Document::parse_with_options(text, options)
        .map_err(|error| corrupt(format!("its description cannot be read: {error}")))
}

/// How many attributes a piece of text can have.
fn attributes(piece: &str) -> usize {
    let values = piece.split('=').skip(1);
    values.filter(|value| value.trim_start().starts_with(['"', '\''])).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ImageError;

    #[test]
    fn what_takes_the_parser_long_is_refused() {
        let attributes = |count: usize, name: &str, eq: &str| -> String {
            (0..count).map(|number| format!(" {name}{number}{eq}'>'")).collect()
        };
        for (count, fits) in [(256, true), (257, false), (200_000, false)] {
            for eq in ["=", " =\n"] {
                let text = format!("<a><b{}/><c d='e'/></a>", attributes(count, "a", eq));
                let parsed = parse(&text);
                assert_eq!(parsed.is_ok(), fits, "{count}");
                assert!(fits || matches!(parsed, Err(ImageError::Unsupported(_))));
            }
        }
        let nested: String = (0..100_000).map(|number| format!("<a xmlns:n{number}='{number}'>")).collect();
        assert!(matches!(parse(&nested), Err(ImageError::Unsupported(_))));
        let flat = format!("<a>{}</a>", "<b c='1' d='2'>e='3' f</b>".repeat(10_000));
        assert!(parse(&flat).is_ok());
        assert!(parse(&format!("<a>{}</a>", "<b/>".repeat(300_000))).is_err());
    }
}
