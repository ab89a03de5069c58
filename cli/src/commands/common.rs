//! What several commands take, ask and show.

use std::io::IsTerminal as _;

use crate::failure::{CliError, Result};
use crate::printer::Printer;

/// Which machines.
#[derive(Debug, Clone, clap::Args)]
pub struct NamesArgs {
    /// The machines; without names, all of the Vmfile
    #[arg(value_name = "NAME")]
    pub names: Vec<String>,
}

/// Which machine.
#[derive(Debug, Clone, clap::Args)]
pub struct NameArg {
    /// The machine; may be left out where the Vmfile has one
    #[arg(value_name = "NAME")]
    pub name: Option<String>,
}

/// Values for the Vmfile's parameters.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct ParamArgs {
    /// Give a parameter of the Vmfile its value; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = param)]
    pub param: Vec<(String, String)>,
}

fn param(text: &str) -> std::result::Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write it as `name=value`".to_owned()),
    }
}

/// `1 machine`, `3 machines`; of `thing is` the verb follows the number too.
#[must_use]
pub fn count(number: usize, thing: &str) -> String {
    match (number, thing.split_once(' ')) {
        (1, _) => format!("1 {thing}"),
        (_, Some((noun, "is"))) => format!("{number} {noun}s are"),
        _ => format!("{number} {thing}s"),
    }
}

/// Whether a question can be asked: someone reads it and someone can answer.
#[must_use]
pub fn can_ask(printer: &Printer) -> bool {
    !printer.is_json() && std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

/// Asks `question`, to be answered with yes or no; `otherwise` says how to answer it beforehand.
///
/// # Errors
/// [`CliError::NoTerminal`] where it cannot be asked, [`CliError::Declined`] where the answer is no.
pub fn confirm(printer: &Printer, question: &str, otherwise: &str) -> Result<()> {
    if !can_ask(printer) {
        return Err(
            CliError::NoTerminal { question: format!("\"{question}\""), hint: otherwise.to_owned() }.into()
        );
    }
    printer.clear();
    let answer =
        dialoguer::Confirm::new().with_prompt(question).default(false).interact_opt().map_err(
            |dialoguer::Error::IO(source)| CliError::host("the question could not be asked", source),
        )?;
    if answer == Some(true) { Ok(()) } else { Err(CliError::Declined.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_read_well() {
        assert_eq!(count(1, "machine"), "1 machine");
        assert_eq!(count(0, "machine"), "0 machines");
        assert_eq!(count(1, "thing is"), "1 thing is");
        assert_eq!(count(2, "thing is"), "2 things are");
    }

    #[test]
    fn parameters_are_pairs() {
        assert_eq!(param("a=b=c").unwrap(), ("a".to_owned(), "b=c".to_owned()));
        assert_eq!(param("a=").unwrap(), ("a".to_owned(), String::new()));
        assert!(param("a").is_err());
        assert!(param("=b").is_err());
    }
}
