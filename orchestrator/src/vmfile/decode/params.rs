//! `params`: what is declared, and what `--param` gives.

use std::ops::Range;

use super::{Decoder, Given};
use crate::vmfile::config::Param;
use crate::vmfile::interpolate::is_name;
use crate::vmfile::node::{Value, shorten};
use crate::vmfile::shape::Shape;
use crate::vmfile::suggest::did_you_mean;
use crate::vmfile::table;

/// Reads the parameters, after which `${param:…}` may stand in what is read.
pub(in crate::vmfile) fn params(decoder: &mut Decoder<'_>, given: Option<Given<'_>>) -> Vec<Param> {
    let mut params = Vec::new();
    let place = given.map_or(0..0, |given| given.key.span.clone());
    if let Some(given) = given
        && let Shape::Free(_, shape) = given.shape
    {
        for entry in decoder.entries(given, shape) {
            let param = param(decoder, entry);
            decoder.params.insert(entry.key.text.clone(), param.as_ref().map(|param| param.value.clone()));
            params.extend(param);
        }
    }
    undeclared(decoder, &place);
    decoder.params_ready = true;
    params
}

fn param(decoder: &mut Decoder<'_>, entry: Given<'_>) -> Option<Param> {
    let name = entry.key.text.as_str();
    if !is_name(name, true) {
        decoder
            .faults
            .push(&entry.key.span, format!("`{}` cannot name a parameter", shorten(name)))
            .hint(format!("use {}", table::PARAM_NAME.what));
        return None;
    }
    let before = decoder.faults.len();
    let (default, description) = match &entry.node.value {
        Value::Map(_) => {
            let fields = decoder.fields(entry, &table::PARAM)?;
            let description = fields.get("description").and_then(|given| decoder.text(&given));
            let default = fields.get("default").and_then(|given| decoder.text(&given));
            (default.map(|word| word.text.into_owned()), description.map(|word| word.text.into_owned()))
        }
        Value::Scalar(scalar) if scalar.is_null() => (None, None),
        _ => (decoder.text(&entry).map(|word| word.text.into_owned()), None),
    };
    let given = decoder.inputs.params.get(name).cloned();
    match given.or_else(|| default.clone()) {
        Some(value) => Some(Param { name: name.to_owned(), value, default, description }),
        None => {
            if decoder.faults.len() == before {
                decoder
                    .faults
                    .push(&entry.key.span, format!("the parameter `{name}` has no value"))
                    .hint(format!("give it one with `--param {name}=…`, or a default"));
            }
            None
        }
    }
}

/// Notes each `--param` that the file does not declare.
fn undeclared(decoder: &mut Decoder<'_>, place: &Range<usize>) {
    let declared: Vec<&str> = decoder.params.keys().map(String::as_str).collect();
    for name in decoder.inputs.params.keys().filter(|name| !decoder.params.contains_key(*name)) {
        let hint = did_you_mean(name, &declared, "it declares");
        decoder
            .faults
            .push(
                place,
                format!("`--param {}` is given, and the file declares no such parameter", shorten(name)),
            )
            .hint(hint.unwrap_or_else(|| "declare it under `params`, or leave it out".to_owned()));
    }
}
