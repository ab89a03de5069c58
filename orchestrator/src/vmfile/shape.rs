//! What a field of a Vmfile may hold, said once: the decoder checks against it, the JSON Schema is made from it.

/// A map with known keys.
#[derive(Debug)]
pub(super) struct Table {
    /// What it describes: `a machine`.
    pub(super) what: &'static str,
    /// Its keys, in groups that tables share.
    pub(super) groups: &'static [&'static [Field]],
    /// Keys of which exactly one must be given.
    pub(super) one_of: &'static [&'static str],
    /// Whether keys that begin with `x-` are the user's own and not looked at.
    pub(super) extensible: bool,
}

impl Table {
    pub(super) fn fields(&self) -> impl Iterator<Item = &'static Field> {
        self.groups.iter().flat_map(|group| group.iter())
    }

    pub(super) fn field(&self, name: &str) -> Option<&'static Field> {
        self.fields().find(|field| field.name == name)
    }
}

/// A key and what it holds.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) shape: Shape,
    /// What it is for, as one or two sentences.
    pub(super) doc: &'static str,
    /// A value as one would write it on one line.
    pub(super) example: &'static str,
    /// What holds where it is not given.
    pub(super) default: Option<&'static str>,
    pub(super) required: bool,
}

impl Field {
    pub(super) const fn new(
        name: &'static str,
        shape: Shape,
        doc: &'static str,
        example: &'static str,
    ) -> Self {
        Self { name, shape, doc, example, default: None, required: false }
    }

    pub(super) const fn default(mut self, default: &'static str) -> Self {
        self.default = Some(default);
        self
    }

    pub(super) const fn required(mut self) -> Self {
        self.required = true;
        self
    }
}

/// What a value may be. Any scalar may also be a text with `${env:…}` or `${param:…}` in it.
#[derive(Debug)]
pub(super) enum Shape {
    /// Text; not empty.
    Text(&'static Text),
    /// A whole number, both ends included.
    Whole(u64, u64),
    /// `true` or `false`.
    Bool,
    /// A port, 1 to 65535.
    Port,
    /// A port, or `auto`.
    HostPort,
    /// An amount of bytes with its unit; least and most, bytes.
    Size(u64, u64),
    /// A time span with its unit; longest, seconds.
    Span(u64),
    /// This word, by which a map says of which kind it is, and what that means.
    Kind(&'static str, &'static str),
    /// One of these words, each with what it means.
    Choice(&'static [(&'static str, &'static str)]),
    /// A list.
    List(&'static Shape),
    /// A map with known keys.
    Map(&'static Table),
    /// A map with keys of the user's choice.
    Free(&'static Text, &'static Shape),
    /// Something that may be left empty.
    Nullable(&'static Shape),
    /// One of several shapes.
    Either(&'static [Shape]),
}

/// A rule for texts.
#[derive(Debug)]
pub(super) struct Text {
    /// What it is: `a host name`.
    pub(super) what: &'static str,
    /// A regular expression in the common subset of Rust and ECMAScript that it matches as far as patterns can
    /// see; `None` where anything goes.
    pub(super) pattern: Option<&'static str>,
    /// Whether numbers and truth values are taken as they are written.
    pub(super) words: bool,
    /// Whether it may be empty.
    pub(super) empty: bool,
}

impl Text {
    pub(super) const fn new(what: &'static str) -> Self {
        Self { what, pattern: None, words: false, empty: false }
    }

    pub(super) const fn pattern(mut self, pattern: &'static str) -> Self {
        self.pattern = Some(pattern);
        self
    }

    pub(super) const fn words(mut self) -> Self {
        self.words = true;
        self
    }

    pub(super) const fn empty(mut self) -> Self {
        self.empty = true;
        self
    }
}

impl Shape {
    /// What is expected, for people: `a whole number from 1 to 512`.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Text(text) => text.what.to_owned(),
            Self::Whole(least, most) => format!("a whole number from {least} to {most}"),
            Self::Bool => "`true` or `false`".to_owned(),
            Self::Port => "a port from 1 to 65535".to_owned(),
            Self::HostPort => "a port from 1 to 65535, or `auto`".to_owned(),
            Self::Size(..) => "a size with its unit".to_owned(),
            Self::Span(_) => "a time with its unit".to_owned(),
            Self::Kind(word, _) => format!("`{word}`"),
            Self::Choice(words) => either(words.iter().map(|(word, _)| *word)),
            Self::List(_) => "a list".to_owned(),
            Self::Map(_) | Self::Free(..) => "a map".to_owned(),
            Self::Nullable(shape) => shape.describe(),
            Self::Either(shapes) => {
                let mut words: Vec<String> = shapes.iter().map(Self::describe).collect();
                words.dedup();
                words.join(" or ")
            }
        }
    }
}

/// Words as people list them: `` `a`, `b` or `c` ``.
pub(super) fn either<'a>(words: impl Iterator<Item = &'a str>) -> String {
    let words: Vec<String> = words.map(|word| format!("`{word}`")).collect();
    match words.as_slice() {
        [head @ .., last] if !head.is_empty() => format!("{} or {last}", head.join(", ")),
        words => words.concat(),
    }
}
