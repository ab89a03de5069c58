//! From nodes to typed values, collecting every fault on the way.

mod folders;
mod health;
mod machine;
mod networks;
mod params;
mod provision;
mod scalar;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;

pub(super) use machine::{Layer, machines};
pub(super) use networks::subnet;
pub(super) use params::params;

use super::Inputs;
use super::fault::Collector;
use super::node::{Key, Node, Value};
use super::shape::{Field, Shape, Table, either};
use super::suggest::{did_you_mean, meant, meant_kind};
use crate::similar::nearest;

/// The most that may be put in for all references of a file together, bytes.
const MAX_PUT_IN: usize = 8 << 20;

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Located<T> {
    pub(super) value: T,
    pub(super) span: Range<usize>,
}

/// Reads values; knows the caller's inputs and the file's parameters, and collects faults.
pub(super) struct Decoder<'a> {
    pub(super) faults: Collector,
    inputs: &'a Inputs<'a>,
    /// Values of the parameters; `None` where a parameter is declared and its value is faulty.
    params: BTreeMap<String, Option<String>>,
    /// Whether `${param:…}` may stand where is being read.
    params_ready: bool,
    /// How many more bytes may be put in for references.
    allowance: Cell<usize>,
}

/// A value that was given, and for what.
#[derive(Clone, Copy)]
pub(super) struct Given<'n> {
    pub(super) field: &'static Field,
    /// What may stand here: the field's shape, or for an entry of a list, that of its entries.
    pub(super) shape: &'static Shape,
    /// What it is called in messages.
    pub(super) role: Role<'n>,
    pub(super) key: &'n Key,
    pub(super) node: &'n Node,
}

/// What a value is to its field.
#[derive(Clone, Copy)]
pub(super) enum Role<'n> {
    /// The field's value.
    Field,
    /// An entry of the field's list.
    Entry,
    /// The value of a key of the user's choice in the field's map.
    Named(&'n str),
}

impl Given<'_> {
    /// What it is called: `` `cpus` ``, `` an entry of `args` ``.
    fn label(&self) -> String {
        match self.role {
            Role::Field => format!("`{}`", self.field.name),
            Role::Entry => format!("an entry of `{}`", self.field.name),
            Role::Named(name) => format!("`{name}`"),
        }
    }

    /// Where a fault of the value is shown: at the value, or at its key where there is nothing to see.
    fn span(&self) -> &Range<usize> {
        if self.node.span.is_empty() { &self.key.span } else { &self.node.span }
    }

    /// `such as `cpus: 2``.
    fn such_as(&self) -> String {
        format!("such as `{}: {}`", self.field.name, self.field.example)
    }
}

/// The fields of a map that was checked against its table.
pub(super) struct Fields<'n> {
    entries: Vec<Given<'n>>,
    span: Range<usize>,
}

impl<'n> Fields<'n> {
    /// The value given for a field.
    pub(super) fn get(&self, name: &str) -> Option<Given<'n>> {
        self.entries.iter().find(|given| given.field.name == name).copied()
    }
}

impl<'a> Decoder<'a> {
    pub(super) fn new(faults: Collector, inputs: &'a Inputs<'a>) -> Self {
        Self {
            faults,
            inputs,
            params: BTreeMap::new(),
            params_ready: false,
            allowance: Cell::new(MAX_PUT_IN),
        }
    }

    /// The value is of a wrong type.
    fn mismatch(&mut self, given: &Given<'_>) {
        let message = if given.node.is_null() {
            format!("{} has no value", given.label())
        } else {
            let found = match &given.node.value {
                Value::Scalar(scalar) => scalar.describe(),
                Value::List(_) => "a list".to_owned(),
                Value::Map(_) => "a map".to_owned(),
            };
            format!("{} must be {}, not {found}", given.label(), given.shape.describe())
        };
        self.faults.push(given.span(), message).hint(given.such_as());
    }

    /// The fields of a map; `None` where the value is no map. Nothing counts as an empty map.
    fn fields<'n>(&mut self, given: Given<'n>, table: &'static Table) -> Option<Fields<'n>> {
        match &given.node.value {
            Value::Map(_) => Some(self.table(given.node, &given.key.span, table)),
            Value::Scalar(scalar) if scalar.is_null() => Some(self.table(given.node, &given.key.span, table)),
            _ => {
                self.mismatch(&given);
                None
            }
        }
    }

    /// Checks the keys of a map (or of nothing) against a table. `owner` is where it is named.
    pub(super) fn table<'n>(
        &mut self,
        node: &'n Node,
        owner: &Range<usize>,
        table: &'static Table,
    ) -> Fields<'n> {
        let entries = if let Value::Map(entries) = &node.value { entries.as_slice() } else { &[] };
        let span = if owner.is_empty() { node.span.clone() } else { owner.clone() };
        let mut known = Vec::new();
        for entry in entries {
            let name = entry.key.text.as_str();
            if let Some(field) = table.field(name) {
                let (shape, role) = (&field.shape, Role::Field);
                known.push(Given { field, shape, role, key: &entry.key, node: &entry.value });
            } else if !(table.extensible && name.starts_with("x-")) {
                self.unknown_key(&entry.key, table);
            }
        }
        let missing: Vec<&Field> = table
            .fields()
            .filter(|field| field.required && !known.iter().any(|given| given.field.name == field.name))
            .collect();
        for field in missing {
            self.faults
                .push(&span, format!("{} lacks `{}`", table.what, field.name))
                .hint(format!("add it, such as `{}: {}`", field.name, field.example));
        }
        self.check_one_of(&known, &span, table);
        Fields { entries: known, span }
    }

    fn unknown_key(&mut self, key: &Key, table: &'static Table) {
        let name = key.text.as_str();
        let hint = if self.faults.many() {
            None
        } else if super::table::MACHINE.field(name).is_some() && table.extensible {
            Some(format!("write `{name}` under a machine of `machines`"))
        } else if super::table::ROOT.field(name).is_some() {
            Some(format!("`{name}` belongs to the top level of the file"))
        } else if let Some(meant) = meant(name).filter(|key| table.field(key).is_some()) {
            Some(format!("here it is called `{meant}`"))
        } else {
            let names: Vec<&str> = table.fields().map(|field| field.name).collect();
            did_you_mean(name, &names, "its keys are")
        };
        let message = format!("{} has no key `{}`", table.what, super::node::shorten(name));
        self.faults.push(&key.span, message).maybe_hint(hint);
    }

    fn check_one_of(&mut self, known: &[Given<'_>], span: &Range<usize>, table: &'static Table) {
        if table.one_of.is_empty() {
            return;
        }
        let given: Vec<&Given<'_>> =
            known.iter().filter(|given| table.one_of.contains(&given.field.name)).collect();
        match given.as_slice() {
            [] => {
                let message = format!("{} lacks {}", table.what, either(table.one_of.iter().copied()));
                self.faults.push(span, message).hint("give it one of them");
            }
            [_] => {}
            [first, rest @ ..] => {
                for extra in rest {
                    let message = format!(
                        "{} cannot have both `{}` and `{}`",
                        table.what, first.field.name, extra.field.name
                    );
                    self.faults
                        .push(&extra.key.span, message)
                        .hint("keep one of the two")
                        .related(&first.key.span, "the other");
                }
            }
        }
    }

    /// The table of the kind that a map's `type` names.
    fn kind(&mut self, given: &Given<'_>, kinds: &[(&str, &'static Table)]) -> Option<&'static Table> {
        let Value::Map(entries) = &given.node.value else {
            self.mismatch(given);
            return None;
        };
        let names: Vec<&str> = kinds.iter().map(|(name, _)| *name).collect();
        let Some(entry) = entries.iter().find(|entry| entry.key.text == "type") else {
            let hint = format!("add `type: {}`", names.join("` or `type: "));
            self.faults.push(given.span(), format!("{} lacks `type`", given.label())).hint(hint);
            return None;
        };
        let written = match &entry.value.value {
            Value::Scalar(scalar) if !scalar.is_null() => scalar.text.as_str(),
            _ => "",
        };
        let found = kinds.iter().find(|(name, _)| *name == written);
        if found.is_none() {
            let at = if entry.value.span.is_empty() { &entry.key.span } else { &entry.value.span };
            let listed = either(names.iter().copied());
            if written.is_empty() {
                self.faults.push(at, format!("`type` must be {listed}"));
            } else {
                let near = meant_kind(written).filter(|kind| names.contains(kind));
                let near = near.or_else(|| nearest(written, names.iter().copied()));
                self.faults
                    .push(at, format!("`type` must be {listed}, not `{}`", super::node::shorten(written)))
                    .maybe_hint(near.map(|near| format!("did you mean `{near}`?")));
            }
        }
        found.map(|(_, table)| *table)
    }

    /// The entries of a list. Nothing counts as an empty list.
    fn list<'n>(&mut self, given: Given<'n>, entry: &'static Shape) -> Vec<Given<'n>> {
        match &given.node.value {
            Value::List(items) => {
                items.iter().map(|node| Given { shape: entry, role: Role::Entry, node, ..given }).collect()
            }
            Value::Scalar(scalar) if scalar.is_null() => Vec::new(),
            _ => {
                self.mismatch(&given);
                Vec::new()
            }
        }
    }

    /// The entries of a map with keys of the user's choice. Nothing counts as an empty map.
    fn entries<'n>(&mut self, given: Given<'n>, shape: &'static Shape) -> Vec<Given<'n>> {
        match &given.node.value {
            Value::Map(entries) => entries
                .iter()
                .map(|entry| {
                    let role = Role::Named(&entry.key.text);
                    Given { field: given.field, shape, role, key: &entry.key, node: &entry.value }
                })
                .collect(),
            Value::Scalar(scalar) if scalar.is_null() => Vec::new(),
            _ => {
                self.mismatch(&given);
                Vec::new()
            }
        }
    }

    /// Makes a path of the host absolute.
    fn host_path(&mut self, given: &Given<'_>, text: &str) -> Option<PathBuf> {
        if text.contains('\0') {
            self.faults.push(given.span(), format!("{} holds a NUL character", given.label()));
            return None;
        }
        let home_relative = if text == "~" { Some("") } else { text.strip_prefix("~/") };
        let path = match (home_relative, &self.inputs.home) {
            (Some(rest), Some(home)) => home.join(rest.trim_start_matches('/')),
            (Some(_), None) => {
                self.faults
                    .push(
                        given.span(),
                        format!("{} begins with `~`, and there is no home folder", given.label()),
                    )
                    .hint("set HOME, or write the path out");
                return None;
            }
            (None, _) if text.starts_with('~') => {
                self.faults
                    .push(given.span(), format!("{} names another user's home folder", given.label()))
                    .hint("write the path out, or `./~…` for a folder whose name begins with `~`");
                return None;
            }
            (None, _) => self.inputs.project.join(text),
        };
        Some(lexically_clean(&path))
    }
}

/// `a/./b` to `a/b`; `..` stays, as it may lead through a symbolic link.
fn lexically_clean(path: &std::path::Path) -> PathBuf {
    path.components().collect()
}
