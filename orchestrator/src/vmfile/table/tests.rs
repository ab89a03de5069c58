//! What the table says holds for the decoder, for the schema and for the reference of the keys.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use super::*;
use crate::vmfile::{Faults, Inputs, Vmfile, schema};

/// A table, the heading of its keys in the reference, and a file with `KEYS` where its keys can stand.
type Context = (&'static Table, &'static str, &'static str);

static CONTEXTS: [Context; 13] = [
    (&ROOT, "file", "KEYS"),
    (&PARAM, "parameter", "box: debian/12\nparams: { p: { KEYS } }"),
    (&MACHINE, "machine", "box: debian/12\nmachines: { web: {}, db: {}, x: { KEYS } }"),
    (&FORWARD_SHORT, "forward in short", "box: debian/12\nnetworks: [{ KEYS }]"),
    (&FORWARD, "forward", "box: debian/12\nnetworks: [{ KEYS }]"),
    (&PRIVATE, "private network", "box: debian/12\nnetworks: [{ KEYS }]"),
    (&BRIDGED, "bridged network", "box: debian/12\nnetworks: [{ KEYS }]"),
    (&SYNCED_FOLDER, "synced folder", "box: debian/12\nsynced_folders: [{ KEYS }]"),
    (&SHELL, "shell step", "box: debian/12\nprovision: [{ KEYS }]"),
    (&FILE_COPY, "file step", "box: debian/12\nprovision: [{ KEYS }]"),
    (&SSH, "ssh", "box: debian/12\nssh: { KEYS }"),
    (&HEALTH, "healthcheck", "box: debian/12\nhealthcheck: { KEYS }"),
    (&HTTP, "http", "box: debian/12\nhealthcheck: { http: { KEYS } }"),
];

fn parse(text: &str) -> Result<Vmfile, Faults> {
    let env = |_: &str| None;
    let inputs = Inputs { params: BTreeMap::new(), env: &env, project: "/p".into(), home: Some("/h".into()) };
    Vmfile::parse(text, Path::new("Vmfile"), &inputs)
}

/// A file in which `field` has `value` and everything else is as good as it must be.
fn file_with((table, _, file): &Context, field: &Field, value: &str) -> String {
    let mut keys: Vec<String> = vec![format!("{}: {value}", field.name)];
    let mut also = |other: &Field| keys.push(format!("{}: {}", other.name, other.example));
    for other in table.fields().filter(|other| other.name != field.name) {
        let only_way = table.one_of.first() == Some(&other.name) && !table.one_of.contains(&field.name);
        let box_of_all = std::ptr::eq(*table, &raw const ROOT) && other.name == "box";
        let value_of_all = std::ptr::eq(*table, &raw const PARAM) && other.name == "default";
        if other.required || only_way || box_of_all || value_of_all {
            also(other);
        }
    }
    let between = if std::ptr::eq(*table, &raw const ROOT) { "\n" } else { ", " };
    file.replace("KEYS", &keys.join(between))
}

#[test]
fn every_example_is_good() {
    let validator = jsonschema::validator_for(&schema()).unwrap();
    for context in &CONTEXTS {
        for field in context.0.fields() {
            let text = file_with(context, field, field.example);
            if let Err(faults) = parse(&text) {
                panic!("{text}\n\n{faults}");
            }
            let json = serde_yaml::from_str(&text).unwrap();
            assert!(validator.is_valid(&json), "{text}");
        }
    }
}

#[test]
fn every_default_is_good() {
    for context in &CONTEXTS {
        for field in context.0.fields() {
            let Some(default) = field.default else { continue };
            let text = file_with(context, field, default);
            if let Err(faults) = parse(&text) {
                panic!("{text}\n\n{faults}");
            }
        }
    }
}

#[test]
fn no_key_is_left_unread() {
    const NONSENSE: &str = "[[nonsense]]";
    for context in &CONTEXTS {
        for field in context.0.fields() {
            let text = file_with(context, field, NONSENSE);
            let at = text.find(NONSENSE).unwrap();
            let place = at..at + NONSENSE.len();
            let faults = parse(&text).expect_err(&text);
            assert!(faults.iter().any(|fault| place.contains(&fault.span.start)), "{text}\n\n{faults}");
        }
    }
}

/// The keys of a table as the reference lists them; of the whole file, those that are no machine's.
fn reference(table: &Table) -> String {
    let groups = if std::ptr::eq(table, &raw const ROOT) { &table.groups[..1] } else { table.groups };
    let mut out = String::from("| Key | Value | What it does |\n|---|---|---|\n");
    let cell = |text: &str| text.replace('|', "\\|");
    for field in groups.iter().copied().flatten() {
        let must = if field.required { " Required." } else { "" };
        let default = field.default.map(|default| format!(" Default: `{default}`.")).unwrap_or_default();
        let example = format!(" E.g. `{}: {}`", field.name, field.example);
        let _ = writeln!(
            out,
            "| `{}` | {} | {}{must}{}{} |",
            field.name,
            cell(&field.shape.describe()),
            cell(field.doc),
            cell(&default),
            cell(&example)
        );
    }
    out
}

#[test]
fn the_reference_lists_every_key_as_the_table_has_it() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/vmfile.md");
    let page = std::fs::read_to_string(path).unwrap();
    let stale: Vec<String> = CONTEXTS
        .iter()
        .map(|(table, heading, _)| format!("<!-- keys: {heading} -->\n{}<!-- end -->", reference(table)))
        .filter(|wanted| !page.contains(wanted))
        .collect();
    assert!(stale.is_empty(), "docs/vmfile.md should hold\n{}", stale.join("\n"));
}

#[test]
fn every_example_in_the_reference_is_good() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/vmfile.md");
    let page = std::fs::read_to_string(path).unwrap();
    let examples: Vec<&str> =
        page.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap_or_default()).collect();
    assert!(examples.len() > 5);
    for example in examples {
        let whole =
            if example.contains("box:") { example.to_owned() } else { format!("box: debian/12\n{example}") };
        if let Err(faults) = parse(&whole) {
            panic!("{whole}\n\n{faults}");
        }
    }
}
