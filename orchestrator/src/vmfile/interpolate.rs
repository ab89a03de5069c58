//! `${env:NAME}`, `${env:NAME:-default}` and `${param:name}`.
//!
//! Only these forms are touched, so that a shell's own `${VAR}` stays what it is; so do the shell's operators on
//! variables that happen to be called `env` or `param` (`${env:-x}`, `${param:0:2}`). `$${env:` and `$${param:`
//! stand for themselves with one `$` less.

use std::borrow::Cow;
use std::ops::Range;

/// What a reference names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reference<'a> {
    /// A variable of the caller's environment, and what to take where it is unset or empty.
    Env { name: &'a str, default: Option<&'a str> },
    /// A parameter of the file.
    Param(&'a str),
}

/// Why a reference cannot be put in.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// What is wrong with it, and what to do.
    New { message: String, hint: Option<String> },
    /// What it names is faulty itself, which has been told there.
    Told,
}

/// A reference that could not be put in.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Misfit {
    /// Where it stands in the text, bytes.
    pub(super) at: Range<usize>,
    /// How many references and escapes stand before it.
    pub(super) index: usize,
    pub(super) trouble: Trouble,
}

/// The most misfits that are told of one text.
const MAX_MISFITS: usize = 100;

/// Puts in what `look_up` says for each reference in `text`.
///
/// # Errors
/// The references that are malformed or that `look_up` has trouble with, up to [`MAX_MISFITS`] of them.
pub(super) fn expand<'t>(
    text: &'t str,
    mut look_up: impl FnMut(Reference<'_>) -> Result<String, Trouble>,
) -> Result<Cow<'t, str>, Vec<Misfit>> {
    let mut out = String::new();
    let mut misfits = Vec::new();
    let mut done = 0;
    for (index, open) in openings(text).enumerate() {
        if open < done {
            continue;
        }
        if text[..open].ends_with('$') && open > done {
            out.push_str(&text[done..open - 1]);
            out.push_str("${");
            done = open + 2;
            continue;
        }
        out.push_str(&text[done..open]);
        let (end, found) = read(&text[open..]);
        match found.and_then(&mut look_up) {
            Ok(value) => out.push_str(&value),
            Err(trouble) => misfits.push(Misfit { at: open..open + end, index, trouble }),
        }
        if misfits.len() == MAX_MISFITS {
            break;
        }
        done = open + end;
    }
    if !misfits.is_empty() {
        return Err(misfits);
    }
    if done == 0 {
        return Ok(Cow::Borrowed(text));
    }
    out.push_str(&text[done..]);
    Ok(Cow::Owned(out))
}

/// Where `${env:` and `${param:` stand that are ours.
pub(super) fn openings(text: &str) -> impl Iterator<Item = usize> {
    text.match_indices("${").map(|(at, _)| at).filter(|at| {
        let inside = &text[at + 2..];
        let name = inside.strip_prefix("env:").or_else(|| inside.strip_prefix("param:"));
        name.is_some_and(|name| {
            !name.starts_with(['-', '+', '=', '?', ' ']) && !name.starts_with(|c: char| c.is_ascii_digit())
        })
    })
}

/// Reads the reference that `text` begins with; how long it is, and what it names.
fn read(text: &str) -> (usize, Result<Reference<'_>, Trouble>) {
    let Some(close) = text.find('}').filter(|close| !text[..*close].contains('\n')) else {
        let line = text.lines().next().unwrap_or_default().trim_end();
        let end = line.find(char::is_whitespace).unwrap_or(line.len()).max(2);
        let message = format!("`{}` never closes", &text[..end]);
        return (end, Err(Trouble::New { message, hint: Some("add the `}`".to_owned()) }));
    };
    let whole = &text[..=close];
    let inside = &text[2..close];
    let wrong = |hint: &str| {
        let message = format!("`{whole}` is no reference");
        (close + 1, Err(Trouble::New { message, hint: Some(hint.to_owned()) }))
    };
    if let Some(name) = inside.strip_prefix("param:") {
        if is_name(name, true) {
            return (close + 1, Ok(Reference::Param(name)));
        }
        return match name.split_once(":-") {
            Some((name, _)) if is_name(name, true) => {
                wrong("write the default beside the parameter, under `params`")
            }
            _ => wrong("write `${param:name}`; `$${param:` stands for itself"),
        };
    }
    let rest = inside.strip_prefix("env:").unwrap_or_default();
    let (name, default) = rest.split_once(":-").map_or((rest, None), |(name, default)| (name, Some(default)));
    if default.is_some_and(|default| openings(default).next().is_some()) {
        wrong("a default holds no other reference")
    } else if is_name(name, false) {
        (close + 1, Ok(Reference::Env { name, default }))
    } else {
        wrong("write `${env:NAME}` or `${env:NAME:-default}`; `$${env:` stands for itself")
    }
}

/// Whether `name` can name a variable, or a parameter, which may hold hyphens.
pub(super) fn is_name(name: &str, hyphens: bool) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || (hyphens && b == b'-'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn look_up(reference: Reference<'_>) -> Result<String, Trouble> {
        match reference {
            Reference::Env { name: "HOME", .. } => Ok("/root".to_owned()),
            Reference::Env { default: Some(default), .. } => Ok(default.to_owned()),
            Reference::Param("a-b") => Ok("${env:HOME}".to_owned()),
            _ => Err(Trouble::Told),
        }
    }

    #[test]
    fn references_are_put_in_once() {
        for (text, expected) in [
            ("plain", "plain"),
            ("${env:HOME}/x", "/root/x"),
            ("a ${env:NO:-b c}${env:HOME}", "a b c/root"),
            ("${env:NO:-}", ""),
            ("${env:NO:-a:-b}", "a:-b"),
            ("${param:a-b}", "${env:HOME}"),
            ("$${env:HOME}", "${env:HOME}"),
            ("$$${env:HOME}", "$${env:HOME}"),
            ("$${param:x} ${env:HOME}", "${param:x} /root"),
            ("${HOME} $HOME ${x:-y} $$ ${", "${HOME} $HOME ${x:-y} $$ ${"),
            ("${env:-x} ${env:0:2} ${param:?no}", "${env:-x} ${env:0:2} ${param:?no}"),
        ] {
            assert_eq!(expand(text, look_up).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn every_misfit_is_told_with_its_place() {
        let text = "${env:HOME} ${env:NO} ${env:} ${param:a:-b} ${env:x.y} ${env:A:-${env:B}} ${env:OPEN";
        let misfits = expand(text, look_up).unwrap_err();
        let told: Vec<&str> = misfits.iter().map(|misfit| &text[misfit.at.clone()]).collect();
        assert_eq!(
            told,
            ["${env:NO}", "${env:}", "${param:a:-b}", "${env:x.y}", "${env:A:-${env:B}", "${env:OPEN"]
        );
        assert_eq!(misfits.iter().map(|misfit| misfit.index).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 7]);
        assert!(
            matches!(&misfits[5].trouble, Trouble::New { message, .. } if message == "`${env:OPEN` never closes")
        );
        assert_eq!(misfits[0].trouble, Trouble::Told);
    }

    proptest! {
        #[test]
        fn anything_may_be_expanded(text in "(\\$|\\{|\\}|env:|param:|:-|a|é|\n| )*") {
            let _ = expand(&text, look_up);
        }

        #[test]
        fn text_without_references_is_left_alone(text in "[^$]*") {
            prop_assert_eq!(expand(&text, look_up).unwrap(), text.as_str());
        }
    }
}
