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
    let outermost: &(dyn StdError + 'static) = fault;
    if let Some(Error::Step(on)) = outermost.downcast_ref() {
        let place = &on.error.place;
        event["place"] = json!({"file": place.file, "line": place.line, "column": place.column});
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

#[cfg(test)]
mod tests {
    use posada_orchestrator::OnMachine;
    use posada_provider_api::{MachineName, ProviderError};
    use posada_provisioners::error::StepFailure;
    use posada_provisioners::{ExitStatus as RemoteStatus, Place, StepError};

    use super::*;
    use crate::failure::CliError;
    use crate::printer::testing::printer;
    use crate::printer::{Format, Verbosity};

    fn told(failure: impl Into<Failure>) -> String {
        let (printer, out, err) = printer(Format::Text, Verbosity::Quiet);
        let failure = failure.into();
        report(&printer, &failure, failure.exit_status());
        assert_eq!(out.text(), "");
        err.text()
    }

    fn event(failure: impl Into<Failure>) -> Value {
        let (printer, out, err) = printer(Format::Json, Verbosity::Quiet);
        let failure = failure.into();
        report(&printer, &failure, failure.exit_status());
        assert_eq!(err.text(), "");
        serde_json::from_str(&out.text()).unwrap()
    }

    fn step() -> Error {
        let error = StepError {
            step: "step `nginx`".to_owned(),
            place: Place { file: "Vmfile".into(), line: 7, column: 5 },
            cause: Box::new(StepFailure::Failed {
                status: RemoteStatus::Code(3),
                last_lines: vec!["one".to_owned(), "\u{1b}[2Jtwo".to_owned()],
                withheld: false,
            }),
        };
        Error::Step(Box::new(on("web", error)))
    }

    fn dead() -> Error {
        let console = vec!["Kernel panic".to_owned()];
        let error = ProviderError::Machine { what: "the machine died".to_owned(), console: console.clone() };
        Error::Provider(Box::new(OnMachine { console, ..on("db", error) }))
    }

    fn on<E>(machine: &str, error: E) -> OnMachine<E> {
        OnMachine { machine: MachineName::new(machine).unwrap(), error, console: Vec::new() }
    }

    #[test]
    fn an_error_its_causes_and_its_hint() {
        let source = std::io::Error::other("no such device");
        let hint = Some("plug it in\nand try again".to_owned());
        let error =
            || CliError::Host { what: "cannot read `x`".to_owned(), hint: hint.clone(), source: None };
        assert_eq!(told(error()), "error: cannot read `x`\n hint: plug it in\n       and try again\n");
        assert_eq!(
            told(CliError::host("cannot read `x`", source)),
            "error: cannot read `x`\n  because: no such device\n"
        );
        assert_eq!(
            event(error()),
            json!({
                "event": "error", "kind": "environment", "exit_code": 4, "message": "cannot read `x`",
                "causes": [], "hint": "plug it in\nand try again",
            })
        );
    }

    #[test]
    fn a_cause_that_was_said_is_not_said_again() {
        let error = Error::Io { doing: "read it".to_owned(), source: std::io::Error::other("gone") };
        let text = told(error);
        assert_eq!(text.matches("gone").count(), 1, "{text}");
    }

    #[test]
    fn a_failed_step_shows_its_place_and_its_last_lines() {
        let text = told(step());
        assert!(
            text.starts_with("error: web: step `nginx` (Vmfile:7:5) ended with exit status 3\n"),
            "{text}"
        );
        assert!(text.contains("the step's last lines:\n  │ one\n  │ two\n hint: "), "{text}");
        let event = event(step());
        assert_eq!((&event["kind"], &event["exit_code"]), (&json!("provision"), &json!(6)));
        assert_eq!(event["place"], json!({"file": "Vmfile", "line": 7, "column": 5}));
        assert_eq!(event["last_lines"][0], "one");
    }

    #[test]
    fn a_dead_machine_shows_its_console() {
        let text = told(dead());
        assert_eq!(text, "error: db: the machine died\n  the console's last lines:\n  │ Kernel panic\n");
    }

    #[test]
    fn the_errors_of_several_machines_are_all_shown() {
        let text = told(Error::Several(vec![step(), dead()]));
        assert!(text.contains("error: web: ") && text.contains("error: db: "), "{text}");
        let event = event(Error::Several(vec![step(), dead()]));
        assert_eq!(event["exit_code"], 6, "that of the first");
        assert_eq!(event["errors"][1]["kind"], "machine");
        assert_eq!(event["errors"][1]["last_lines"], json!(["Kernel panic"]));
    }
}
