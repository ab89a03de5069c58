//! `provision`: the steps.

use std::collections::BTreeMap;

use posada_provisioners::{Action, FileCopy, RunWhen, Script, Shell, Step};

use super::{Decoder, Fields, Given, Located};
use crate::vmfile::interpolate::is_name;
use crate::vmfile::node::{Value, shorten};
use crate::vmfile::shape::Shape;
use crate::vmfile::{table, units};

impl Decoder<'_> {
    /// The steps given, each with the place of its name, or of itself where it has none.
    pub(super) fn steps(&mut self, given: Given<'_>) -> Vec<Located<Step>> {
        let Shape::List(shape) = given.shape else { return Vec::new() };
        self.list(given, shape).into_iter().filter_map(|entry| self.step(entry)).collect()
    }

    fn step(&mut self, entry: Given<'_>) -> Option<Located<Step>> {
        let place = self.faults.source().place(entry.node.span.start);
        if !matches!(entry.node.value, Value::Map(_)) {
            let script = Script::Inline(self.text(&entry)?.text.into_owned());
            let shell = Shell { script, args: Vec::new(), env: BTreeMap::new(), privileged: true };
            let step = Step {
                name: None,
                run: RunWhen::Once,
                sensitive: false,
                action: Action::Shell(shell),
                place,
            };
            return Some(Located { value: step, span: entry.node.span.clone() });
        }
        let kind = self.kind(&entry, &[("shell", &table::SHELL), ("file", &table::FILE_COPY)])?;
        let fields = self.table(entry.node, &entry.node.span, kind);
        let name = fields.get("name").and_then(|given| self.text(&given)).map(|word| word.text.into_owned());
        let run = match fields.get("run") {
            Some(given) => {
                self.choice(&given).map(|index| [RunWhen::Once, RunWhen::Always, RunWhen::Never][index])
            }
            None => Some(RunWhen::Once),
        };
        let sensitive = fields.get("sensitive").and_then(|given| self.truth(&given)).unwrap_or(false);
        let action = if std::ptr::eq(kind, &table::SHELL) {
            self.shell(&fields).map(Action::Shell)
        } else {
            self.file_copy(&fields).map(Action::File)
        };
        let span =
            fields.get("name").map_or_else(|| entry.node.span.clone(), |given| given.node.span.clone());
        Some(Located { value: Step { name, run: run?, sensitive, action: action?, place }, span })
    }

    fn shell(&mut self, fields: &Fields<'_>) -> Option<Shell> {
        let args = fields.get("args").map_or_else(|| Some(Vec::new()), |given| self.args(given));
        let env = fields.get("env").map(|given| self.env(given)).unwrap_or_default();
        let privileged = fields.get("privileged").is_none_or(|given| self.truth(&given).unwrap_or(true));
        let inline = fields.get("inline").and_then(|given| self.text(&given));
        let path = fields.get("path").and_then(|given| {
            let word = self.text(&given)?;
            self.host_path(&given, &word.text)
        });
        let script = inline.map(|word| Script::Inline(word.text.into_owned())).or(path.map(Script::Path))?;
        Some(Shell { script, args: args?, env, privileged })
    }

    /// Arguments as a list, or as one text that is split as a shell would.
    fn args(&mut self, given: Given<'_>) -> Option<Vec<String>> {
        if let (Value::List(_), Shape::Either([Shape::List(entry), ..])) = (&given.node.value, given.shape) {
            let entries = self.list(given, entry);
            let words: Vec<Option<String>> =
                entries.iter().map(|entry| self.text(entry).map(|word| word.text.into_owned())).collect();
            return words.into_iter().collect();
        }
        if given.node.is_null() {
            return Some(Vec::new());
        }
        let word = self.text(&given)?;
        match units::words(&word.text) {
            Ok(words) => Some(words),
            Err(open) => {
                let hint = format!("close it, or write a list, {}", given.such_as());
                self.reject(&given, &word, &format!("leaves a `{open}` open"), hint);
                None
            }
        }
    }

    fn file_copy(&mut self, fields: &Fields<'_>) -> Option<FileCopy> {
        let source = fields.get("source").and_then(|given| {
            let word = self.text(&given)?;
            self.host_path(&given, &word.text)
        });
        let destination = fields.get("destination").and_then(|given| {
            self.parsed(&given, |text| {
                let inside = text.strip_prefix("~/").or_else(|| text.strip_prefix('/'));
                match inside {
                    Some(inside) if !inside.is_empty() => Ok(text.to_owned()),
                    _ => Err(format!(
                        "`{}` is no path in the machine that begins with `/` or `~/`",
                        shorten(text)
                    )),
                }
            })
        });
        Some(FileCopy { source: source?, destination: destination? })
    }

    /// Variables of an environment.
    pub(super) fn env(&mut self, given: Given<'_>) -> BTreeMap<String, String> {
        let Shape::Free(names, shape) = given.shape else { return BTreeMap::new() };
        let mut env = BTreeMap::new();
        for entry in self.entries(given, shape) {
            let name = entry.key.text.as_str();
            if !is_name(name, false) {
                self.faults
                    .push(&entry.key.span, format!("`{}` cannot name a variable", shorten(name)))
                    .hint(format!("use {}", names.what));
            }
            if let Some(word) = self.text(&entry) {
                env.insert(name.to_owned(), word.text.into_owned());
            }
        }
        env
    }
}
