//! What GRUB would boot: its `grub.cfg`, as `grub-mkconfig` writes it, is run as far as it bears on that.

mod condition;
mod lexer;
mod parse;
mod run;

use super::{Choice, Place, Rule, Volumes, bls};
use crate::DiskError;
use run::{Entry, Machine};

/// Where `grub.cfg` lies, on the root file system or on one of its own for `/boot`.
const DIRECTORIES: [&str; 4] = ["/boot/grub", "/boot/grub2", "/grub", "/grub2"];
/// Deepest nesting of menus.
const MAX_MENUS: usize = 8;

/// Goes by the first `grub.cfg` there is, beginning with the volume `first`.
pub fn choose(volumes: &Volumes, first: Option<usize>) -> Result<Option<Choice>, DiskError> {
    for volume in volumes.beginning_with(first) {
        for directory in DIRECTORIES {
            let path = format!("{directory}/grub.cfg");
            if let Some(text) = volumes.text(&Place { volume, path }, super::MAX_CONFIG)?
                && let Some(choice) = boots(volumes, volume, directory, &text)?
            {
                return Ok(Some(choice));
            }
        }
    }
    Ok(None)
}

/// What the script `text` in `directory` boots.
pub(super) fn boots(
    volumes: &Volumes,
    volume: usize,
    directory: &str,
    text: &str,
) -> Result<Option<Choice>, DiskError> {
    let mut machine = Machine::new(volumes, volume, directory);
    machine.run(&parse::parse(text))?;
    let wanted = machine.get("default").to_owned();
    let mut path = split(&wanted).into_iter();
    for _ in 0..MAX_MENUS {
        let entries = std::mem::take(&mut machine.entries);
        let part = path.next();
        if machine.wants_bls {
            let kernel_options = machine.get("kernelopts").to_owned();
            if let Some(choice) = bls::choose(volumes, Some(volume), part.as_deref(), &kernel_options)? {
                return Ok(Some(choice));
            }
        }
        let Some(entry) = pick(&entries, part.as_deref()) else { break };
        machine.run(&entry.body)?;
        if !entry.menu {
            break;
        }
    }
    Ok(machine.kernel.take().map(|(kernel, options)| Choice {
        kernel,
        initrds: std::mem::take(&mut machine.initrds),
        cmdline: options,
        version: None,
        rule: Rule::Grub,
    }))
}

/// The entry with this number, id or title; the first where there is none.
fn pick<'a>(entries: &'a [Entry], wanted: Option<&str>) -> Option<&'a Entry> {
    let named = |wanted: &str| {
        let by_id = entries.iter().find(|entry| entry.id.as_deref() == Some(wanted));
        let by_title = || entries.iter().find(|entry| entry.title == wanted);
        let by_number = || entries.get(wanted.parse::<usize>().ok()?);
        by_number().or(by_id).or_else(by_title)
    };
    wanted.and_then(named).or_else(|| entries.first())
}

/// Divides `menu>entry`; `>>` stands for one `>` in a title.
fn split(wanted: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut characters = wanted.chars().peekable();
    while let Some(character) = characters.next() {
        if character == '>' && characters.next_if_eq(&'>').is_none() {
            parts.push(String::new());
        } else if let Some(last) = parts.last_mut() {
            last.push(character);
        }
    }
    parts
}

#[cfg(test)]
mod tests;
