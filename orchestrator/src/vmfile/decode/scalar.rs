//! Scalars: their references put in, then read as what the field says.

use std::borrow::Cow;
use std::ops::Range;
use std::time::Duration;

use super::{Decoder, Given, Role};
use crate::similar::nearest;
use crate::vmfile::interpolate::{self, Misfit, Reference, Trouble};
use crate::vmfile::node::{Scalar, Value, shorten};
use crate::vmfile::shape::Shape;
use crate::vmfile::suggest::did_you_mean;
use crate::vmfile::units;

/// A scalar with its references put in.
pub(super) struct Word<'n> {
    pub(super) text: Cow<'n, str>,
    /// Whether references were put in: what came of it is taken for what it looks like.
    pub(super) expanded: bool,
    /// Whether it stands without quotes.
    plain: bool,
}

impl Word<'_> {
    /// Whether it may be read as a number or a truth value.
    fn typed(&self) -> bool {
        self.plain || self.expanded
    }
}

impl Decoder<'_> {
    /// The scalar given, its references put in; `None` where there is a fault, which is then noted.
    pub(super) fn word<'n>(&mut self, given: &Given<'n>) -> Option<Word<'n>> {
        let Value::Scalar(scalar) = &given.node.value else {
            self.mismatch(given);
            return None;
        };
        if scalar.is_null() {
            self.mismatch(given);
            return None;
        }
        let expanded = interpolate::expand(&scalar.text, |reference| self.put_in(reference));
        match expanded {
            Ok(text) => {
                let expanded = matches!(text, Cow::Owned(_));
                Some(Word { text, expanded, plain: scalar.plain })
            }
            Err(misfits) => {
                let places = self.places(given, scalar, &misfits);
                for (misfit, at) in misfits.into_iter().zip(places) {
                    if let Trouble::New { message, hint } = misfit.trouble {
                        self.faults.push(&at, message).maybe_hint(hint);
                    }
                }
                None
            }
        }
    }

    /// Where in the file misfits stand: the same references, counted, in the scalar as it is written.
    fn places(&self, given: &Given<'_>, scalar: &Scalar, misfits: &[Misfit]) -> Vec<Range<usize>> {
        let whole = given.node.span.clone();
        let written = self.faults.source().text().get(whole.clone()).unwrap_or_default();
        let openings: Vec<usize> = interpolate::openings(written).collect();
        let place = |misfit: &Misfit| {
            let wanted = &scalar.text[misfit.at.clone()];
            let at = openings.get(misfit.index).copied().filter(|at| written[*at..].starts_with(wanted));
            at.map_or_else(|| whole.clone(), |at| whole.start + at..whole.start + at + wanted.len())
        };
        misfits.iter().map(place).collect()
    }

    /// What a reference stands for, within what may be put in altogether.
    fn put_in(&self, reference: Reference<'_>) -> Result<String, Trouble> {
        let value = self.look_up(reference)?;
        match self.allowance.get().checked_sub(value.len()) {
            Some(rest) => {
                self.allowance.set(rest);
                Ok(value)
            }
            None if self.allowance.replace(0) == 0 => Err(Trouble::Told),
            None => Err(Trouble::New {
                message: "the references of this file come to more than 8 MiB of text".to_owned(),
                hint: Some("put long texts into files of their own".to_owned()),
            }),
        }
    }

    fn look_up(&self, reference: Reference<'_>) -> Result<String, Trouble> {
        match reference {
            Reference::Env { name, default } => {
                let value = (self.inputs.env)(name);
                match (value, default) {
                    (Some(value), Some(default)) if value.is_empty() => Ok(default.to_owned()),
                    (Some(value), _) => Ok(value),
                    (None, Some(default)) => Ok(default.to_owned()),
                    (None, None) => Err(Trouble::New {
                        message: format!("the environment variable `{name}` is not set"),
                        hint: Some(format!("set it, or write a default: `${{env:{name}:-default}}`")),
                    }),
                }
            }
            Reference::Param(name) if !self.params_ready => Err(Trouble::New {
                message: format!("the parameter `{name}` cannot be used among the parameters"),
                hint: Some("here only `${env:NAME}` can stand".to_owned()),
            }),
            Reference::Param(name) => match self.params.get(name) {
                Some(Some(value)) => Ok(value.clone()),
                Some(None) => Err(Trouble::Told),
                None => {
                    let names: Vec<&str> = self.params.keys().map(String::as_str).collect();
                    let hint = if self.faults.many() {
                        None
                    } else {
                        did_you_mean(name, &names, "the parameters are")
                    };
                    let declare = || format!("declare it: `params: {{ {name}: a default }}`");
                    Err(Trouble::New {
                        message: format!("there is no parameter `{name}`"),
                        hint: Some(hint.unwrap_or_else(declare)),
                    })
                }
            },
        }
    }

    /// The value cannot be what the field asks for; `why` ends a sentence that begins with the value.
    pub(super) fn reject(&mut self, given: &Given<'_>, word: &Word<'_>, why: &str, hint: String) {
        let from = if word.expanded { " (with its references put in)" } else { "" };
        let message = format!("{}: `{}`{from} {why}", given.label(), shorten(&word.text));
        self.faults.push(given.span(), message).hint(hint);
    }

    /// Text that is not empty, or may be, as its rule says.
    pub(super) fn text<'n>(&mut self, given: &Given<'n>) -> Option<Word<'n>> {
        let Some(rule) = text_rule(given.shape) else {
            self.mismatch(given);
            return None;
        };
        if let Value::Scalar(scalar) = &given.node.value
            && !rule.words
            && (scalar.is_number() || scalar.as_bool().is_some())
        {
            let hint = match given.role {
                Role::Field if !matches!(given.shape, Shape::Either(_)) => {
                    format!(
                        "put it in quotes if it is meant: `{}: \"{}\"`",
                        given.field.name,
                        shorten(&scalar.text)
                    )
                }
                _ => given.such_as(),
            };
            let message = format!("{} must be {}, not {}", given.label(), rule.what, scalar.describe());
            self.faults.push(given.span(), message).hint(hint);
            return None;
        }
        let word = self.word(given)?;
        if word.text.trim().is_empty() && !rule.empty {
            let message = format!("{} is empty", given.label());
            let hint = format!("it must be {}, {}", rule.what, given.such_as());
            self.faults.push(given.span(), message).hint(hint);
            return None;
        }
        if word.text.contains('\0') {
            self.faults.push(given.span(), format!("{} holds a NUL character", given.label()));
            return None;
        }
        Some(word)
    }

    /// Text that `parse` makes something of; its error is a whole message.
    pub(super) fn parsed<T, E: std::fmt::Display>(
        &mut self,
        given: &Given<'_>,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let word = self.text(given)?;
        match parse(&word.text) {
            Ok(value) => Some(value),
            Err(error) => {
                let message = format!("{}: {error}", given.label());
                self.faults.push(given.span(), message).hint(given.such_as());
                None
            }
        }
    }

    /// A whole number within the field's bounds.
    pub(super) fn whole(&mut self, given: &Given<'_>) -> Option<u64> {
        let (least, most) = match given.shape {
            Shape::Whole(least, most) => (*least, *most),
            _ => (1, u64::from(u16::MAX)),
        };
        let word = self.word(given)?;
        if !word.typed() {
            if word.text.parse::<u64>().is_ok() {
                let message = format!("{} is a number and must stand without quotes", given.label());
                self.faults
                    .push(given.span(), message)
                    .hint(format!("write `{}: {}`", given.field.name, word.text));
            } else {
                self.mismatch(given);
            }
            return None;
        }
        let range = format!("it must be {}, {}", given.shape.describe(), given.such_as());
        let digits = word.text.strip_prefix('+').unwrap_or(&word.text);
        match digits.parse::<u64>() {
            Ok(value) if (least..=most).contains(&value) => Some(value),
            Ok(_) => {
                self.reject(given, &word, "is out of range", range);
                None
            }
            Err(_) if is_whole(&word.text) => {
                self.reject(given, &word, "is out of range", range);
                None
            }
            Err(_) if word.expanded => {
                self.reject(given, &word, "is no whole number", range);
                None
            }
            Err(_) => {
                self.mismatch(given);
                None
            }
        }
    }

    /// A port.
    pub(super) fn port(&mut self, given: &Given<'_>) -> Option<u16> {
        self.whole(given).and_then(|port| u16::try_from(port).ok())
    }

    /// `true` or `false`.
    pub(super) fn truth(&mut self, given: &Given<'_>) -> Option<bool> {
        let word = self.word(given)?;
        let as_written = Scalar { text: word.text.to_string(), plain: word.typed() };
        if let Some(value) = as_written.as_bool() {
            return Some(value);
        }
        let meant = match word.text.to_lowercase().as_str() {
            "yes" | "on" | "y" | "true" => Some("true"),
            "no" | "off" | "n" | "false" => Some("false"),
            _ => None,
        };
        match meant {
            Some(meant) => {
                let hint = format!("write `{}: {meant}`", given.field.name);
                let why = if meant == word.text { "stands in quotes" } else { "is not how YAML says it" };
                self.reject(given, &word, why, hint);
            }
            None if word.expanded => {
                self.reject(given, &word, "is neither `true` nor `false`", given.such_as());
            }
            None => self.mismatch(given),
        }
        None
    }

    /// An amount of bytes, within the field's bounds.
    pub(super) fn size(&mut self, given: &Given<'_>) -> Option<u64> {
        let word = self.word(given)?;
        let Shape::Size(least, most) = given.shape else {
            self.mismatch(given);
            return None;
        };
        let bounds = || format!("it must be {} to {}", units::show_size(*least), units::show_size(*most));
        let (why, hint) = match units::size(&word.text) {
            Ok(bytes) if (*least..=*most).contains(&bytes) => return Some(bytes),
            Ok(_) => ("is out of range", bounds()),
            Err(why @ "is too large") => (why, bounds()),
            Err(why @ "has no unit") => {
                let name = given.field.name;
                (
                    why,
                    format!(
                        "write the unit: `{name}: {0}M` is {0} MiB, `{name}: {0}G` is {0} GiB",
                        word.text
                    ),
                )
            }
            Err(why) => (why, format!("it must be a number and K, M, G or T, {}", given.such_as())),
        };
        self.reject(given, &word, why, hint);
        None
    }

    /// A time span, within the field's bounds.
    pub(super) fn span(&mut self, given: &Given<'_>) -> Option<Duration> {
        let word = self.word(given)?;
        let Shape::Span(most) = given.shape else {
            self.mismatch(given);
            return None;
        };
        let (why, hint) = match units::span(&word.text) {
            Ok(span) if span.as_secs_f64() <= 0.0 => ("is no time at all", given.such_as()),
            Ok(span) if span <= Duration::from_secs(*most) => return Some(span),
            Ok(_) => ("is too long", format!("it must be at most {}h", most / 3600)),
            Err(why @ "has no unit") => {
                (why, format!("write the unit: `{0}: {1}s` or `{0}: {1}ms`", given.field.name, word.text))
            }
            Err(why) => (why, format!("it must be a number and ms, s, m or h, {}", given.such_as())),
        };
        self.reject(given, &word, why, hint);
        None
    }

    /// One of the field's words; its index.
    pub(in crate::vmfile) fn choice(&mut self, given: &Given<'_>) -> Option<usize> {
        let Shape::Choice(words) = given.shape else {
            self.mismatch(given);
            return None;
        };
        let word = self.word(given)?;
        if let Some(index) = words.iter().position(|(name, _)| *name == word.text) {
            return Some(index);
        }
        let hint = match nearest(&word.text, words.iter().map(|(name, _)| *name)) {
            Some(near) => format!("did you mean `{near}`?"),
            None => given.such_as(),
        };
        let message =
            format!("{} must be {}, not `{}`", given.label(), given.shape.describe(), shorten(&word.text));
        self.faults.push(given.span(), message).hint(hint);
        None
    }
}

/// The rule for texts that may stand in a shape.
fn text_rule(shape: &'static Shape) -> Option<&'static crate::vmfile::shape::Text> {
    match shape {
        Shape::Text(rule) => Some(rule),
        Shape::Either(shapes) => shapes.iter().find_map(text_rule),
        Shape::Nullable(shape) => text_rule(shape),
        _ => None,
    }
}

/// Whether it is a whole number, however large or small.
fn is_whole(text: &str) -> bool {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())
}
