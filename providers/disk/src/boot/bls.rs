//! Entries of the Boot Loader Specification, type 1 (UAPI group, "Boot Loader Specification").

use std::cmp::Ordering;

use super::{Choice, MAX_CONFIG, Place, Rule, Volumes, version};
use crate::DiskError;

/// Where entries lie, on the root file system or on one of its own for `/boot`.
const DIRECTORIES: [&str; 2] = ["/boot/loader/entries", "/loader/entries"];
/// Most entries that are read.
const MAX_ENTRIES: usize = 256;

#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Entry {
    /// Name of its file without `.conf` and counters.
    name: String,
    linux: String,
    initrds: Vec<String>,
    options: Vec<String>,
    version: Option<String>,
    sort_key: Option<String>,
    machine_id: Option<String>,
    /// Whether it failed to boot as often as it may.
    bad: bool,
}

/// The entry called `wanted`, or the one at that place, or else the first in the specification's order.
/// `kernel_options` stands for `$kernelopts`.
pub fn choose(
    volumes: &Volumes,
    first: Option<usize>,
    wanted: Option<&str>,
    kernel_options: &str,
) -> Result<Option<Choice>, DiskError> {
    for volume in volumes.beginning_with(first) {
        for directory in DIRECTORIES {
            let mut entries = Vec::new();
            for name in volumes.list(volume, directory)?.into_iter().take(MAX_ENTRIES) {
                let Some(stem) = name.strip_suffix(".conf") else { continue };
                let place = Place { volume, path: format!("{directory}/{name}") };
                let text = volumes.text(&place, MAX_CONFIG)?.unwrap_or_default();
                entries.extend(parse(stem, &text));
            }
            entries.sort_by(order);
            let named = wanted.and_then(|wanted| {
                let by_number = || entries.get(wanted.parse::<usize>().ok()?);
                entries.iter().find(|entry| entry.name == wanted).or_else(by_number)
            });
            let Some(entry) = named.or_else(|| entries.first()) else { continue };
            // Paths are those of the file system that the entries are on; Fedora's may lack `/boot`.
            let place = |path: &String| {
                let there = volumes.exists(volume, path);
                let path = if there { path.clone() } else { format!("/boot{path}") };
                Place { volume, path }
            };
            return Ok(Some(Choice {
                kernel: place(&entry.linux),
                initrds: entry.initrds.iter().map(place).collect(),
                cmdline: options(&entry.options, kernel_options),
                version: entry.version.clone(),
                rule: Rule::Bls,
            }));
        }
    }
    Ok(None)
}

fn parse(stem: &str, text: &str) -> Option<Entry> {
    let (name, bad) = counters(stem);
    let mut entry = Entry { name: name.to_owned(), bad, ..Entry::default() };
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with('#')) {
        let Some((key, value)) = line.split_once([' ', '\t']) else { continue };
        let value = value.trim();
        match key {
            "linux" => entry.linux = value.to_owned(),
            "initrd" => entry.initrds.extend(
                value.split_ascii_whitespace().filter(|word| !word.starts_with('$')).map(str::to_owned),
            ),
            "options" => entry.options.push(value.to_owned()),
            "version" => entry.version = Some(value.to_owned()),
            "sort-key" => entry.sort_key = Some(value.to_owned()),
            "machine-id" => entry.machine_id = Some(value.to_owned()),
            _ => {}
        }
    }
    entry.linux.starts_with('/').then_some(entry)
}

/// Splits `name+LEFT-DONE`; an entry with none left is bad.
fn counters(stem: &str) -> (&str, bool) {
    let Some((name, counters)) = stem.rsplit_once('+') else { return (stem, false) };
    let left = counters.split('-').next().unwrap_or_default();
    match left.parse::<u32>() {
        Ok(left) if counters.bytes().all(|b| b.is_ascii_digit() || b == b'-') => (name, left == 0),
        _ => (stem, false),
    }
}

/// First in the menu is what is booted.
fn order(a: &Entry, b: &Entry) -> Ordering {
    let newer = |a: &str, b: &str| version::compare(b, a);
    a.bad.cmp(&b.bad).then_with(|| match (&a.sort_key, &b.sort_key) {
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => newer(&a.name, &b.name),
        (Some(ours), Some(theirs)) => ours
            .cmp(theirs)
            .then_with(|| a.machine_id.cmp(&b.machine_id))
            .then_with(|| newer(a.version.as_deref().unwrap_or(""), b.version.as_deref().unwrap_or("")))
            .then_with(|| newer(&a.name, &b.name)),
    })
}

fn options(lines: &[String], kernel_options: &str) -> String {
    let words = lines.iter().flat_map(|line| line.split_ascii_whitespace());
    let known = words.map(|word| if word == "$kernelopts" { kernel_options.trim() } else { word });
    known.filter(|word| !word.is_empty() && !word.starts_with('$')).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::boot::testing::volumes;

    #[test]
    fn the_first_by_the_specifications_order_is_taken() {
        let entry = |version: &str, more: &str| {
            format!(
                "title x\nlinux /vmlinuz-{version}\ninitrd /a /b\ninitrd /c\nversion {version}\noptions root=UUID=x\noptions $kernelopts $tuned quiet\n{more}"
            )
        };
        let files = [
            ("/loader/entries/a-6.9.conf", entry("6.9", "")),
            ("/loader/entries/a-6.10.conf", entry("6.10", "")),
            ("/loader/entries/a-6.11+0-3.conf", entry("6.11", "")),
            ("/loader/entries/note.txt", entry("9", "")),
        ];
        let files: Vec<_> = files.iter().map(|(path, text)| (*path, text.as_str())).collect();
        let mut all = files.clone();
        all.extend([("/vmlinuz-6.10", ""), ("/a", ""), ("/b", "")]);
        let choice = choose(&volumes(&[&all]), None, None, "ro").unwrap().unwrap();
        assert_eq!(choice.kernel.path, "/vmlinuz-6.10");
        let initrds: Vec<_> = choice.initrds.iter().map(|place| place.path.as_str()).collect();
        assert_eq!(initrds, ["/a", "/b", "/boot/c"]);
        assert_eq!(choice.cmdline, "root=UUID=x ro quiet");
        let named = choose(&volumes(&[&all]), None, Some("a-6.9"), "").unwrap().unwrap();
        assert_eq!(named.version.as_deref(), Some("6.9"));
    }

    #[test]
    fn those_with_a_sort_key_come_first_and_the_newest_of_it() {
        let entry = |name: &str, key: Option<&str>, version: &str| Entry {
            name: name.to_owned(),
            sort_key: key.map(str::to_owned),
            version: Some(version.to_owned()),
            ..Entry::default()
        };
        let mut entries = [
            entry("z", None, "9"),
            entry("a", Some("b"), "1"),
            entry("b", Some("a"), "1"),
            entry("c", Some("a"), "2"),
        ];
        entries.sort_by(order);
        let names: Vec<_> = entries.iter().map(|entry| entry.name.as_str()).collect();
        assert_eq!(names, ["c", "b", "a", "z"]);
    }

    proptest! {
        #[test]
        fn nothing_in_an_entry_panics(stem in ".{0,20}", text in "((linux|initrd|options|version|sort-key)[ \t]+.{0,20}\n){0,8}") {
            let _ = parse(&stem, &text);
        }
    }
}
