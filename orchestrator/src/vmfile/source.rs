//! A text and where in it things stand.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use posada_provisioners::Place;

/// A text, the file it came from and where its lines begin. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Source(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    file: PathBuf,
    text: String,
    /// Byte offset of each line's first character.
    lines: Vec<usize>,
    /// How many characters begin before every [`STRIDE`]th byte, so that a column is found quickly on the
    /// longest of lines.
    marks: Vec<usize>,
}

const STRIDE: usize = 1024;

impl Source {
    /// Takes a text that came from `file`.
    #[must_use]
    pub fn new(file: &Path, text: &str) -> Self {
        let starts = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        let lines = std::iter::once(0).chain(starts).collect();
        let mut before = 0;
        let mut marks = vec![0];
        for chunk in text.as_bytes().chunks(STRIDE) {
            before += beginnings(chunk);
            marks.push(before);
        }
        Self(Arc::new(Inner { file: file.to_owned(), text: text.to_owned(), lines, marks }))
    }

    /// The file the text came from.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.0.file
    }

    /// The text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0.text
    }

    /// Line and column (both from 1, the column in characters) of a byte offset.
    #[must_use]
    pub fn place(&self, offset: usize) -> Place {
        let offset = self.floor(offset);
        let index = self.line_index(offset);
        let column = self.characters_before(offset) - self.characters_before(self.0.lines[index]) + 1;
        Place { file: self.0.file.clone(), line: index + 1, column }
    }

    /// The line (from 1) that holds a byte offset, without its line break, and the offset of its start.
    #[must_use]
    pub fn line(&self, offset: usize) -> (usize, usize, &str) {
        let index = self.line_index(self.floor(offset));
        let start = self.0.lines[index];
        let end = self.0.lines.get(index + 1).map_or(self.text().len(), |next| next - 1);
        (index + 1, start, self.text()[start..end].trim_end_matches('\r'))
    }

    /// `span` cut down to what stands on its first line, without trailing blanks; within the text.
    #[must_use]
    pub fn first_line(&self, span: &Range<usize>) -> Range<usize> {
        let start = self.floor(span.start);
        let end = self.floor(span.end.max(start));
        let head = self.text()[start..end].split('\n').next().unwrap_or_default();
        start..start + head.trim_end().len()
    }

    fn characters_before(&self, offset: usize) -> usize {
        let mark = offset / STRIDE;
        self.0.marks[mark] + beginnings(&self.text().as_bytes()[mark * STRIDE..offset])
    }

    fn line_index(&self, offset: usize) -> usize {
        self.0.lines.partition_point(|start| *start <= offset) - 1
    }

    /// The nearest character boundary at or before `offset`.
    fn floor(&self, offset: usize) -> usize {
        self.text().floor_char_boundary(offset)
    }
}

/// How many characters begin in a piece of UTF-8.
fn beginnings(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| **byte & 0xc0 != 0x80).count()
}

impl PartialEq for Source {
    fn eq(&self, other: &Self) -> bool {
        self.0.file == other.0.file && self.0.text == other.0.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_count_lines_and_characters_from_one() {
        let source = Source::new(Path::new("Vmfile"), "a: 1\r\nß: é x\n");
        let at = source.text().find('x').unwrap();
        let place = source.place(at);
        assert_eq!((place.line, place.column), (2, 6));
        assert_eq!(source.line(at).2, "ß: é x");
        assert_eq!(source.line(0).2, "a: 1");
        let end = source.place(usize::MAX);
        assert_eq!((end.line, end.column), (3, 1));
        assert_eq!(source.line(usize::MAX), (3, source.text().len(), ""));
    }

    #[test]
    fn columns_are_right_on_long_lines() {
        let text = "aé€😀".repeat(1000);
        let source = Source::new(Path::new("Vmfile"), &text);
        for (index, (offset, _)) in text.char_indices().enumerate() {
            assert_eq!(source.place(offset).column, index + 1);
        }
        assert_eq!(source.place(text.len()).column, 4001);
    }

    #[test]
    fn spans_are_cut_to_their_first_line() {
        let source = Source::new(Path::new("Vmfile"), "key: |  \n  one\n");
        assert_eq!(source.first_line(&(5..14)), 5..6);
        assert_eq!(source.first_line(&(100..200)), 15..15);
    }
}
