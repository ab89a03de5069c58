//! Shows an error: what happened, where, what came before it, and what to do next.

mod vmfile;

use std::error::Error as StdError;
use std::fmt::Write as _;

use posada_orchestrator::Error;
use posada_orchestrator::vmfile::Faults;
use posada_provider_api::Fault;
use serde_json::{Value, json};

use crate::exit::{ExitStatus, kind_name};
use crate::failure::Failure;
use crate::printer::Printer;
use crate::printer::sanitize::sanitize;

/// Shows `failure`, which ends the process with `status`.
pub fn report(printer: &Printer, failure: &Failure, status: ExitStatus) {
    printer.clear();
    let fault = failure.fault();
    if printer.is_json() {
        let mut event = json!({"event": "error", "kind": failure.kind_name(), "exit_code": status.code()});
        describe(&mut event, fault);
        if let Some(several) = several(fault) {
            event["errors"] = several
                .iter()
                .map(|error| {
                    let mut one = json!({"kind": kind_name(error.kind())});
                    describe(&mut one, error);
                    one
                })
                .collect();
        }
        printer.json(&event);
    } else {
        match several(fault) {
            Some(several) => several.iter().for_each(|error| printer.complain(&text(printer, error))),
            None => printer.complain(&text(printer, fault)),
        }
    }
}

fn text(printer: &Printer, fault: &(dyn Fault + 'static)) -> String {
    let palette = printer.err_palette();
    if let Some(faults) = faults(fault) {
        return vmfile::render(faults, palette);
    }
    let mut messages = messages(fault).into_iter();
    let mut text = format!("{} {}", palette.bad("error:"), messages.next().unwrap_or_default());
    for cause in messages {
        let _ = write!(text, "\n  {} {cause}", palette.faint("because:"));
    }
    if let Some((whose, lines)) = last_lines(fault) {
        let _ = write!(text, "\n  {}", palette.faint(&format!("{whose} last lines:")));
        for line in lines {
            let _ = write!(text, "\n  {} {}", palette.bar(), sanitize(line, palette.colors));
        }
    }
    if let Some(hint) = fault.hint() {
        for (index, line) in hint.lines().enumerate() {
            let head = if index == 0 { palette.offer("hint:") } else { "     ".to_owned() };
            let _ = write!(text, "\n {head} {line}");
        }
    }
    text
}

fn describe(event: &mut Value, fault: &(dyn Fault + 'static)) {
    let mut messages = messages(fault);
    event["message"] = Value::from(messages.remove(0));
    event["causes"] = Value::from(messages);
    event["hint"] = Value::from(fault.hint());
    if let Some(faults) = faults(fault) {
        event["message"] = Value::from(vmfile::summary(faults));
        event["faults"] = vmfile::as_json(faults);
    }
    if let Some((_, lines)) = last_lines(fault) {
        event["last_lines"] = Value::from(lines.to_vec());
    }
}

/// The error's message and those of what caused it, without those that only repeat what was said.
fn messages(fault: &(dyn Fault + 'static)) -> Vec<String> {
    let mut said: Vec<String> = Vec::new();
    for error in chain(fault) {
        let message = error.to_string();
        if !said.last().is_some_and(|last| last.ends_with(&message)) {
            said.push(message);
        }
    }
    said
}

/// The error and what caused it, outermost first.
fn chain<'a>(fault: &'a (dyn Fault + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    let outermost: &'a (dyn StdError + 'static) = fault;
    std::iter::successors(Some(outermost), |error| StdError::source(*error))
}

/// The faults of a Vmfile, where that is what failed.
fn faults<'a>(fault: &'a (dyn Fault + 'static)) -> Option<&'a Faults> {
    chain(fault).find_map(|error| match error.downcast_ref() {
        Some(Error::Vmfile(faults)) => Some(faults),
        _ => error.downcast_ref(),
    })
}

/// The errors of several machines.
fn several<'a>(fault: &'a (dyn Fault + 'static)) -> Option<&'a [Error]> {
    let outermost: &'a (dyn StdError + 'static) = fault;
    match outermost.downcast_ref() {
        Some(Error::Several(errors)) => Some(errors),
        _ => None,
    }
}

/// What the machine's console, or the step that failed, printed last; and whose lines they are.
fn last_lines<'a>(fault: &'a (dyn Fault + 'static)) -> Option<(&'static str, &'a [String])> {
    let outermost: &'a (dyn StdError + 'static) = fault;
    let (whose, lines) = match outermost.downcast_ref()? {
        Error::Step(on) => ("the step's", on.error.last_lines()),
        error => ("the console's", error.console()),
    };
    (!lines.is_empty()).then_some((whose, lines))
}
