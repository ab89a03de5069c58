//! YAML text to a tree of [`Node`]s. The only file that knows which YAML library is used.
//!
//! It reads the library's events rather than deserializing: only events tell a quoted scalar from a plain one,
//! where a node ends, and of more than one pair of equal keys.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;
use std::rc::Rc;

use serde_yaml::granit_parser::{
    self, ErrorKind, Event, Parser, ScalarStyle, ScanError, Span, StructureStyle, Tag,
};

use super::fault::Collector;
use super::node::{Entry, Key, Node, Scalar, Value, shorten};

/// Deepest nesting of lists and maps. A Vmfile needs seven.
pub(super) const MAX_DEPTH: usize = 32;
/// Most nodes of a document once its aliases are written out.
pub(super) const MAX_NODES: usize = 20_000;

/// A text counts as one node more for each of so many bytes of it.
const TEXT_OF_A_NODE: usize = 256;

/// Reads the text's only document; `None` where it holds none, or where it cannot be read, which is then noted
/// among the faults.
pub(super) fn parse(faults: &mut Collector) -> Option<Rc<Node>> {
    let source = faults.source().clone();
    let options = granit_parser::options! {
        emit_comments: false,
        emit_anchor_events: false,
        emit_unresolved_aliases: true,
        flow_nesting_limit: MAX_DEPTH,
        block_nesting_limit: MAX_DEPTH,
    };
    let mut tree =
        Tree { faults, text: source.text(), open: Vec::new(), anchors: HashMap::new(), root: None };
    for event in Parser::new_from_str_with_options(source.text(), options) {
        match event {
            Ok((event, span)) => tree.take(event, &span).ok()?,
            Err(error) => {
                let bracket = tree.open.iter().find(|open| open.flow).map(|open| open.start);
                note_scan_error(tree.faults, &error, bracket);
                return None;
            }
        }
    }
    tree.root
}

/// The document cannot be read on; why is among the faults.
struct Hopeless;

/// A list or map whose end has not been seen.
struct Open {
    start: usize,
    /// Whether it stands in brackets.
    flow: bool,
    anchor: usize,
    weight: usize,
    kind: OpenKind,
}

enum OpenKind {
    List(Vec<Rc<Node>>),
    Map {
        entries: Vec<Entry>,
        seen: HashMap<String, Range<usize>>,
        /// Maps to merge in, with the place of their `<<`.
        merges: Vec<(Range<usize>, Rc<Node>)>,
        /// The key whose value comes next.
        key: Pending,
    },
}

enum Pending {
    None,
    Key(Key),
    Merge(Range<usize>),
    /// The key was faulty; its value is read and dropped.
    Dropped,
}

struct Tree<'a> {
    faults: &'a mut Collector,
    text: &'a str,
    open: Vec<Open>,
    anchors: HashMap<usize, Rc<Node>>,
    root: Option<Rc<Node>>,
}

impl Tree<'_> {
    fn take(&mut self, event: Event<'_>, span: &Span) -> Result<(), Hopeless> {
        let range = span.byte_range().unwrap_or(0..0);
        match event {
            Event::DocumentStart(..) if self.root.is_some() => {
                let line = self.faults.source().line(range.start);
                let whole = line.1..line.1 + line.2.len();
                self.faults
                    .push(&whole, "a second document begins here")
                    .hint("a Vmfile is one document: remove the `---` and what follows it");
                return Err(Hopeless);
            }
            Event::Scalar(text, style, anchor, tag) => {
                let tagged_text = self.check_tag(tag.as_deref(), span, &range);
                let plain = style == ScalarStyle::Plain && !tagged_text;
                let weight = 1 + text.len() / TEXT_OF_A_NODE;
                let value = Value::Scalar(Scalar { text: text.into_owned(), plain });
                let node = Rc::new(Node { span: self.trim_block(range, style), value, weight });
                self.remember(anchor, &node);
                self.place(node)?;
            }
            Event::SequenceStart(style, anchor, tag) => {
                self.check_tag(tag.as_deref(), span, &range);
                self.begin(range.start, style, anchor, OpenKind::List(Vec::new()));
            }
            Event::MappingStart(style, anchor, tag) => {
                self.check_tag(tag.as_deref(), span, &range);
                let (entries, seen, merges) = (Vec::new(), HashMap::new(), Vec::new());
                self.begin(
                    range.start,
                    style,
                    anchor,
                    OpenKind::Map { entries, seen, merges, key: Pending::None },
                );
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(range.end)?,
            Event::Alias(id) => match self.anchors.get(&id).cloned() {
                Some(node) => self.place(node)?,
                None => {
                    self.faults
                        .push(&range, "this alias stands inside what its anchor names")
                        .hint("write the value out");
                    return Err(Hopeless);
                }
            },
            Event::UnresolvedAlias(name) => {
                self.faults.push(&range, format!("there is no anchor `&{name}` before this alias")).hint(
                    format!("write `&{name}` before the value meant, or quote a text that begins with `*`"),
                );
                self.place(Rc::new(null_at(range)))?;
            }
            _ => {}
        }
        Ok(())
    }

    fn begin(&mut self, start: usize, style: StructureStyle, anchor: usize, kind: OpenKind) {
        let flow = style == StructureStyle::Flow;
        self.open.push(Open { start, flow, anchor, weight: 1, kind });
    }

    fn end(&mut self, end: usize) -> Result<(), Hopeless> {
        let Some(open) = self.open.pop() else { return Ok(()) };
        let value = match open.kind {
            OpenKind::List(items) => Value::List(items),
            OpenKind::Map { mut entries, mut seen, merges, .. } => {
                for (at, node) in merges {
                    merge(self.faults, (&mut entries, &mut seen), &at, &node, true);
                }
                Value::Map(entries)
            }
        };
        let span = open.start..self.text[..end.max(open.start)].trim_end().len().max(open.start);
        let node = Rc::new(Node { span, value, weight: open.weight });
        self.remember(open.anchor, &node);
        self.place(node)
    }

    fn remember(&mut self, anchor: usize, node: &Rc<Node>) {
        if anchor != 0 {
            self.anchors.insert(anchor, Rc::clone(node));
        }
    }

    /// Puts a finished node where it belongs.
    fn place(&mut self, node: Rc<Node>) -> Result<(), Hopeless> {
        let weight = node.weight;
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        open.weight = open.weight.saturating_add(weight);
        if open.weight > MAX_NODES {
            self.faults
                .push(
                    &node.span,
                    format!("the file holds more than {MAX_NODES} values, its aliases written out"),
                )
                .hint("a Vmfile is small: write fewer values, and fewer aliases");
            return Err(Hopeless);
        }
        match &mut open.kind {
            OpenKind::List(items) => items.push(node),
            OpenKind::Map { entries, seen, merges, key } => match std::mem::replace(key, Pending::None) {
                Pending::None => *key = take_key(self.faults, seen, &node),
                Pending::Key(key) => entries.push(Entry { key, value: node }),
                Pending::Merge(at) => merges.push((at, node)),
                Pending::Dropped => {}
            },
        }
        Ok(())
    }

    /// Whether a tag says that a scalar is text.
    fn check_tag(&mut self, tag: Option<&Tag>, span: &Span, range: &Range<usize>) -> bool {
        let Some(tag) = tag else { return false };
        match tag.core_suffix() {
            Some("str") => true,
            Some("map" | "seq" | "int" | "bool" | "float" | "null") => false,
            _ => {
                let at = span.tag_span().and_then(|span| span.byte_range()).unwrap_or_else(|| range.clone());
                self.faults
                    .push(&at, format!("the tag `{}` means nothing here", shorten(&tag.original())))
                    .hint("remove it, or quote a text that begins with `!`");
                false
            }
        }
    }

    /// The span of a block scalar begins at its first line; its end is cut to the last character of its text.
    fn trim_block(&self, range: Range<usize>, style: ScalarStyle) -> Range<usize> {
        match style {
            ScalarStyle::Literal | ScalarStyle::Folded => {
                range.start..self.text[..range.end].trim_end().len().max(range.start)
            }
            _ => range,
        }
    }
}

fn null_at(span: Range<usize>) -> Node {
    Node { span, value: Value::Scalar(Scalar { text: String::new(), plain: true }), weight: 1 }
}

/// Adds the entries of `node` whose keys are not there yet: what stands in the map itself wins, and of several
/// merged maps the first.
fn merge(
    faults: &mut Collector,
    (entries, seen): (&mut Vec<Entry>, &mut HashMap<String, Range<usize>>),
    at: &Range<usize>,
    node: &Node,
    lists: bool,
) {
    match &node.value {
        Value::Map(merged) => {
            for entry in merged {
                if let std::collections::hash_map::Entry::Vacant(place) = seen.entry(entry.key.text.clone()) {
                    place.insert(entry.key.span.clone());
                    entries.push(entry.clone());
                }
            }
        }
        Value::List(items) if lists => {
            for item in items {
                merge(faults, (&mut *entries, &mut *seen), at, item, false);
            }
        }
        _ => {
            faults
                .push(at, "`<<` merges maps, and this is none")
                .hint("give it an alias of a map, such as `<<: *defaults`");
        }
    }
}

fn take_key(faults: &mut Collector, seen: &mut HashMap<String, Range<usize>>, node: &Node) -> Pending {
    let Value::Scalar(scalar) = &node.value else {
        faults.push(&node.span, "a key must be a plain word").hint("write `key: value`");
        return Pending::Dropped;
    };
    if scalar.plain && scalar.text == "<<" {
        return Pending::Merge(node.span.clone());
    }
    if scalar.is_null() {
        faults.push(&node.span, "here a key is missing").hint("write `key: value`");
        return Pending::Dropped;
    }
    if let Some(first) = seen.get(&scalar.text) {
        faults
            .push(&node.span, format!("the key `{}` stands here a second time", shorten(&scalar.text)))
            .hint("keep one of the two")
            .related(first, "first here");
        return Pending::Dropped;
    }
    seen.insert(scalar.text.clone(), node.span.clone());
    Pending::Key(Key { text: scalar.text.clone(), span: node.span.clone() })
}

/// Notes why the text is no YAML; `bracket` is where the outermost bracket stands that is open there.
fn note_scan_error(faults: &mut Collector, error: &ScanError, bracket: Option<usize>) {
    use ErrorKind as K;
    let at = error.marker().byte_offset().unwrap_or_default();
    let (message, hint): (Cow<'static, str>, &str) = match error.kind() {
        K::TabInIndentation | K::TabInBlockIndentation | K::TabNotAllowed | K::TabAtBlockScalarStart => {
            ("a tab indents this line".into(), "YAML is indented with blanks: put two of them for each step")
        }
        K::UnclosedQuotedScalar => (
            "a quote opens here and never closes".into(),
            "close the quote, or double a `'` that belongs to the text",
        ),
        K::UnclosedFlowCollection { open } => (
            format!("`{open}` opens here and never closes").into(),
            "close it, or quote a text that begins with `[` or `{`",
        ),
        K::MismatchedFlowCollectionEnd { open, close } => (
            format!("`{open}` opens here, and `{close}` closes it").into(),
            "close each bracket with its own, the inner ones first",
        ),
        K::RecursionLimitExceeded => {
            ("lists and maps are nested too deeply".into(), "a Vmfile needs no more than seven levels")
        }
        K::MappingValueNotAllowed | K::InvalidColonPlacement => (
            "a `:` is out of place".into(),
            "check the indentation of this line, and quote a text that holds `: `",
        ),
        K::SimpleKeyExpected | K::ExpectedBlockMappingKey | K::InvalidIndentation | K::InvalidSimpleKey => (
            "this line does not fit the lines above it".into(),
            "write `key: value`, with as many blanks before it as its neighbours have",
        ),
        K::ExpectedBlockSequenceEntry | K::BlockSequenceEntryNotAllowed => (
            "this line does not fit the list above it".into(),
            "write `- item`, with as many blanks before it as its neighbours have",
        ),
        K::UnknownQuotedScalarEscape => (
            "`\\` begins an escape that YAML does not know".into(),
            "write `\\\\` for a backslash, or use single quotes",
        ),
        K::DirectiveDisallowed => ("a directive is not needed here".into(), "remove the line"),
        other => {
            let text = other.to_string();
            let text =
                text.strip_prefix("while ").map_or(text.as_str(), |t| t.split_once(", ").map_or(t, |p| p.1));
            (
                format!("this is no YAML: {}", lower_start(text)).into(),
                "check quotes, brackets and indentation here",
            )
        }
    };
    let (_, start, line) = faults.source().line(at);
    let rest = line.get(at.saturating_sub(start)..).unwrap_or_default();
    let word = rest.find(|c: char| c.is_whitespace()).unwrap_or(rest.len());
    let (line, ..) = faults.source().line(at);
    let earlier = bracket.filter(|start| faults.source().line(*start).0 < line);
    let noted = faults.push(&(at..at + word.max(1)), message).hint(hint);
    if let Some(start) = earlier {
        noted.related(&(start..start + 1), "this bracket is still open");
    }
}

fn lower_start(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}
