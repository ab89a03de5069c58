//! The JSON Schema of a Vmfile, made from the same table that the parser checks against.

use serde_json::{Map, Value, json};

use super::shape::{Field, Shape, Table, Text};
use super::table::{MACHINE, ROOT};

/// Matches a text with a reference in it, which can stand for any scalar.
const REFERENCE: &str = r"\$\{(env|param):[A-Za-z_]";

/// The JSON Schema (draft 2020-12) of a Vmfile, for editors. What takes more than one value to see (a port
/// forwarded twice, a dependency that leads nowhere), only the parser sees.
#[must_use]
pub fn schema() -> Value {
    let mut root = table(&ROOT);
    let named = json!({ "required": ["machines"], "properties": { "machines": { "additionalProperties": { "type": "object", "required": ["box"] } } } });
    root.insert("anyOf".into(), json!([{ "required": ["box"] }, named]));
    let head = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Vmfile",
        "description": "What a user wants to have of Posada: machines, described in one file.",
    });
    let mut whole = Map::new();
    whole.extend(head.as_object().cloned().unwrap_or_default());
    whole.append(&mut root);
    whole.insert("$defs".into(), json!({ "machine": Value::Object(table(&MACHINE)) }));
    Value::Object(whole)
}

fn table(table: &Table) -> Map<String, Value> {
    let properties: Map<String, Value> =
        table.fields().map(|field| (field.name.to_owned(), described(field))).collect();
    let required: Vec<&str> = table.fields().filter(|field| field.required).map(|field| field.name).collect();
    let nullable = required.is_empty() && table.one_of.is_empty() && !table.extensible;
    let mut out = Map::new();
    out.insert("type".into(), if nullable { json!(["object", "null"]) } else { json!("object") });
    out.insert("properties".into(), Value::Object(properties));
    out.insert("additionalProperties".into(), json!(false));
    if !required.is_empty() {
        out.insert("required".into(), json!(required));
    }
    if table.extensible {
        out.insert("patternProperties".into(), json!({ "^x-": true }));
    }
    if !table.one_of.is_empty() {
        let ways: Vec<Value> = table.one_of.iter().map(|name| json!({ "required": [name] })).collect();
        out.insert("oneOf".into(), Value::Array(ways));
    }
    out
}

fn described(field: &Field) -> Value {
    let mut out = match shape(&field.shape) {
        Value::Object(out) => out,
        other => return other,
    };
    let default = field.default.map(|default| format!(" Default: `{default}`.")).unwrap_or_default();
    let text = format!("{}{default} Example: `{}: {}`", field.doc, field.name, field.example);
    out.insert("description".into(), text.into());
    Value::Object(out)
}

fn shape(of: &Shape) -> Value {
    match of {
        Shape::Text(rule) => text(rule),
        Shape::Whole(least, most) => whole(*least, *most),
        Shape::Bool => json!({ "anyOf": [{ "type": "boolean" }, reference()] }),
        Shape::Port => whole(1, 65535),
        Shape::HostPort => {
            json!({ "anyOf": [{ "type": "integer", "minimum": 1, "maximum": 65535 }, { "const": "auto" }, reference()] })
        }
        Shape::Size(..) => pattern(r"^[0-9]+(\.[0-9]+)? *([bB]|[kKmMgGtT]([iI]?[bB])?)$"),
        Shape::Span(_) => pattern(r"^([0-9]+(\.[0-9]+)?(ms|s|m|min|h))+$"),
        Shape::Kind(word, doc) => json!({ "const": word, "description": doc }),
        Shape::Choice(words) => {
            let mut ways: Vec<Value> =
                words.iter().map(|(word, doc)| json!({ "const": word, "description": doc })).collect();
            let numbers = words.iter().filter_map(|(word, _)| word.parse::<u64>().ok());
            ways.extend(numbers.map(|number| json!({ "const": number })));
            ways.push(reference());
            json!({ "anyOf": ways })
        }
        Shape::List(entry) => json!({ "type": ["array", "null"], "items": shape(entry) }),
        Shape::Map(map) if std::ptr::eq(*map, &raw const MACHINE) => json!({ "$ref": "#/$defs/machine" }),
        Shape::Map(map) => Value::Object(table(map)),
        Shape::Free(names, value) => free(names, value),
        Shape::Nullable(inner) => json!({ "anyOf": [shape(inner), { "type": "null" }] }),
        Shape::Either(shapes) => json!({ "anyOf": shapes.iter().map(shape).collect::<Vec<_>>() }),
    }
}

fn free(names: &Text, value: &Shape) -> Value {
    let machines =
        matches!(value, Shape::Nullable(Shape::Map(map)) if std::ptr::eq(*map, &raw const MACHINE));
    let mut out = json!({ "type": ["object", "null"], "additionalProperties": shape(value) });
    if let Some(names) = names.pattern {
        out["propertyNames"] = json!({ "pattern": names });
    }
    if machines {
        out["type"] = json!("object");
        out["minProperties"] = json!(1);
    }
    out
}

fn whole(least: u64, most: u64) -> Value {
    json!({ "anyOf": [{ "type": "integer", "minimum": least, "maximum": most }, reference()] })
}

fn reference() -> Value {
    json!({ "type": "string", "pattern": REFERENCE })
}

fn pattern(own: &str) -> Value {
    json!({ "type": "string", "pattern": format!("{own}|{REFERENCE}") })
}

fn text(rule: &Text) -> Value {
    let kind = if rule.words { json!(["string", "number", "boolean"]) } else { json!("string") };
    let mut out = json!({ "type": kind });
    match rule.pattern {
        Some(own) => out["pattern"] = json!(format!("{own}|{REFERENCE}")),
        None if rule.empty => {}
        None => out["pattern"] = json!(r"\S"),
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_described_with_an_example() {
        for table in [&ROOT, &MACHINE] {
            for field in table.fields() {
                let described = described(field);
                let text = described["description"].as_str().unwrap();
                assert!(text.contains(field.doc) && text.contains(field.example), "{}", field.name);
                assert!(field.doc.ends_with('.'), "{}", field.name);
            }
        }
    }
}
