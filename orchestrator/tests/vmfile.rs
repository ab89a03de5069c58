//! Whole Vmfiles, good and bad: what the parser says of each, and that the JSON Schema says the same as far as
//! a schema can see.
//!
//! A file's header may hold `# --param name=value` lines; a bad file's `# schema: cannot see` says that its
//! faults take more than a schema to find.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use posada_orchestrator::vmfile::{Faults, Inputs, Vmfile, schema};
use posada_templates::{Shape, StarterInput, render_starter};
use proptest::prelude::*;
use serde_json::Value;

const CANNOT_SEE: &str = "# schema: cannot see";

fn directory(kind: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vmfile").join(kind)
}

/// The files of a directory: name without extension, and text.
fn files(kind: &str) -> Vec<(String, String)> {
    let mut files: Vec<_> = std::fs::read_dir(directory(kind))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .map(|path| {
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            (name, std::fs::read_to_string(&path).unwrap())
        })
        .collect();
    files.sort();
    assert!(!files.is_empty());
    files
}

fn environment(name: &str) -> Option<String> {
    match name {
        "HOME" => Some("/home/me".to_owned()),
        "EIGHT" => Some("8".to_owned()),
        _ => None,
    }
}

fn parse(text: &str) -> Result<Vmfile, Faults> {
    let params: BTreeMap<String, String> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# --param ")?.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let inputs = Inputs {
        params,
        env: &environment,
        project: PathBuf::from("/project"),
        home: Some(PathBuf::from("/home/me")),
    };
    Vmfile::parse(text, Path::new("Vmfile"), &inputs)
}

/// The file as an editor's YAML reader hands it to a schema validator; `None` where it cannot be read.
fn as_json(text: &str) -> Option<Value> {
    let options = serde_yaml::options! { strict_booleans: true, underscored_numbers_as_strings: true };
    serde_yaml::from_str_with_options(text, options).ok()
}

fn validator() -> jsonschema::Validator {
    let schema = schema();
    jsonschema::meta::validate(&schema).unwrap();
    jsonschema::validator_for(&schema).unwrap()
}

#[test]
fn good_files_pass_parser_and_schema() {
    let validator = validator();
    for (name, text) in files("good") {
        if let Err(faults) = parse(&text) {
            panic!("{name}: {faults}");
        }
        let json = as_json(&text).unwrap_or_else(|| panic!("{name} is no YAML to others"));
        let errors: Vec<String> = validator.iter_errors(&json).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{name}: {errors:#?}");
    }
}

#[test]
fn bad_files_fail_the_parser_and_the_schema_as_far_as_it_sees() {
    let validator = validator();
    let mut wrong = Vec::new();
    for (name, text) in files("bad") {
        assert!(parse(&text).is_err(), "{name} passes the parser");
        let passes = as_json(&text).is_none_or(|json| validator.is_valid(&json));
        let blind = text.lines().any(|line| line == CANNOT_SEE);
        if passes != blind {
            wrong.push(format!("{name}: the schema {}", if passes { "lets it pass" } else { "does see" }));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn bad_files_are_told_of_as_recorded() {
    for (name, text) in files("bad") {
        let faults = parse(&text).unwrap_err();
        insta::with_settings!({
            snapshot_path => "vmfile/bad",
            prepend_module_to_snapshot => false,
            omit_expression => true,
        }, {
            insta::assert_snapshot!(name, faults.to_string());
        });
    }
}

/// What the project itself hands out is good: the examples, and what `posada init` writes.
#[test]
fn examples_and_starters_pass_parser_and_schema() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let mut texts: Vec<(String, String)> = std::fs::read_dir(examples)
        .unwrap()
        .map(|entry| entry.unwrap().path().join("Vmfile"))
        .filter(|path| path.is_file())
        .map(|path| (path.display().to_string(), std::fs::read_to_string(&path).unwrap()))
        .collect();
    assert!(!texts.is_empty());
    for shape in [Shape::Minimal, Shape::Web, Shape::Several] {
        let input = StarterInput { box_ref: "debian/12".to_owned() };
        texts.push((format!("{shape:?}"), render_starter(shape, &input).unwrap()));
    }
    let validator = validator();
    for (name, text) in texts {
        if let Err(faults) = parse(&text) {
            panic!("{name}: {faults}");
        }
        let json = as_json(&text).unwrap_or_else(|| panic!("{name} is no YAML to others"));
        let errors: Vec<String> = validator.iter_errors(&json).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{name}: {errors:#?}");
    }
}

/// What a fault says of its place is true, whatever the text.
fn check_faults(text: &str, faults: &Faults) {
    assert!(faults.len() > 0);
    let told = faults.to_string();
    let mut last = 0;
    for fault in faults {
        assert!(told.contains(&fault.message));
        assert!(fault.span.start >= last, "in the order of the file");
        last = fault.span.start;
        for (span, place) in std::iter::once((&fault.span, &fault.place))
            .chain(fault.related.iter().map(|related| (&related.span, &related.place)))
        {
            let marked = text.get(span.clone()).expect("spans are within the text, at character boundaries");
            assert!(!marked.contains('\n'));
            let before = &text[..span.start];
            assert_eq!(place.line, before.matches('\n').count() + 1);
            assert_eq!(place.column, before.rsplit('\n').next().unwrap().chars().count() + 1);
        }
    }
}

/// A good file with some of its lines or characters changed.
fn mutated() -> impl Strategy<Value = String> {
    let texts: Vec<String> = files("good").into_iter().map(|(_, text)| text).collect();
    let scraps = prop_oneof![
        Just(String::new()),
        "[-:{}\\[\\],&*!|>'\"%@`#$~<=0-9a-z \t\n]{1,6}",
        proptest::sample::select(vec![
            "${env:",
            "${param:x}",
            "$${env:A}",
            "<<: *web",
            "&a ",
            "*a",
            "!!str ",
            "null",
            "true",
            "é",
            "\u{feff}",
            "---\n",
            "machines:\n",
            "  web:\n",
            "- ",
            "type: shell",
            "forward: \"80:80\"",
            "\u{0}",
            "0x1F",
            "1_000",
            "\r\n",
        ])
        .prop_map(str::to_owned),
    ];
    let edits = proptest::collection::vec((any::<prop::sample::Index>(), 0_usize..12, scraps), 1..4);
    (proptest::sample::select(texts), edits).prop_map(|(mut text, edits)| {
        for (at, length, scrap) in edits {
            let start = text.floor_char_boundary(at.index(text.len() + 1));
            let end = text.floor_char_boundary((start + length).min(text.len())).max(start);
            text.replace_range(start..end, &scrap);
        }
        text
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,80}") {
        if let Err(faults) = parse(&text) {
            check_faults(&text, &faults);
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
        let inputs = Inputs { params: BTreeMap::new(), env: &|_| None, project: "/".into(), home: None };
        if let Err(faults) = Vmfile::parse_bytes(&bytes, Path::new("Vmfile"), &inputs) {
            check_faults(&String::from_utf8_lossy(&bytes), &faults);
        }
    }

    #[test]
    fn changed_files_are_read_or_refused(text in mutated()) {
        if let Err(faults) = parse(&text) {
            check_faults(&text, &faults);
        }
    }
}

#[test]
fn what_the_parser_takes_the_schema_takes() {
    let validator = validator();
    let config = ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(text in mutated())| {
        if parse(&text).is_ok() && let Some(json) = as_json(&text) {
            let errors: Vec<String> = validator.iter_errors(&json).map(|error| error.to_string()).collect();
            prop_assert!(errors.is_empty(), "{errors:#?}");
        }
    });
}
