//! Running a GRUB script as far as it bears on what is booted: variables, conditions, searches, the menu.

use std::collections::BTreeMap;

use super::super::Volumes;
use super::condition;
use super::lexer::{Part, Word};
use super::parse::{Script, Statement, parse};
use crate::DiskError;
use crate::boot::{MAX_CONFIG, Place};

/// Most commands that are run.
const FUEL: u32 = 100_000;
/// Longest value of a variable and longest command, bytes.
const MAX_VALUE: usize = 64 << 10;
const MAX_VARIABLES: usize = 1000;
const MAX_ENTRIES: usize = 1000;
/// Deepest nesting of files that load files.
const MAX_FILES: usize = 8;

/// An entry of the menu.
#[derive(Debug, Clone)]
pub struct Entry {
    pub title: String,
    pub id: Option<String>,
    /// Whether it is a menu of its own.
    pub menu: bool,
    pub body: Script,
}

/// The loader's state.
#[derive(Debug)]
pub struct Machine<'a> {
    volumes: &'a Volumes,
    variables: BTreeMap<String, String>,
    fuel: u32,
    files: usize,
    pub entries: Vec<Entry>,
    pub kernel: Option<(Place, String)>,
    pub initrds: Vec<Place>,
    /// Whether the script asked for entries of the Boot Loader Specification.
    pub wants_bls: bool,
}

impl<'a> Machine<'a> {
    /// A loader that was installed in `directory` of a volume.
    pub fn new(volumes: &'a Volumes, volume: usize, directory: &str) -> Self {
        let mut machine = Self {
            volumes,
            variables: BTreeMap::new(),
            fuel: FUEL,
            files: 0,
            entries: Vec::new(),
            kernel: None,
            initrds: Vec::new(),
            wants_bls: false,
        };
        machine.set("root", &device(volume));
        machine.set("prefix", &format!("({}){directory}", device(volume)));
        machine.set("config_directory", &format!("({}){directory}", device(volume)));
        machine.set("grub_platform", "pc");
        machine.set("grub_cpu", "x86_64");
        for feature in [
            "menuentry_id",
            "menuentry_options",
            "platform_search_hint",
            "default_font_path",
            "timeout_style",
        ] {
            machine.set(&format!("feature_{feature}"), "y");
        }
        machine
    }

    pub fn get(&self, name: &str) -> &str {
        self.variables.get(name).map_or("", String::as_str)
    }

    fn set(&mut self, name: &str, value: &str) {
        if value.len() <= MAX_VALUE
            && (self.variables.len() < MAX_VARIABLES || self.variables.contains_key(name))
        {
            self.variables.insert(name.to_owned(), value.to_owned());
        }
    }

    /// Runs a script; whether its last command succeeded comes back.
    pub fn run(&mut self, script: &Script) -> Result<bool, DiskError> {
        let mut success = true;
        for statement in script.iter() {
            if self.fuel == 0 {
                return Ok(false);
            }
            self.fuel -= 1;
            success = match statement {
                Statement::Command(words) => {
                    let words = self.expand(words);
                    self.command(&words)?
                }
                Statement::If(branches, otherwise) => {
                    let mut chosen = otherwise;
                    for (condition, done) in branches {
                        if self.run(condition)? {
                            chosen = done;
                            break;
                        }
                    }
                    self.run(chosen)?
                }
                Statement::Entry { menu, words, body } => {
                    let words = self.expand(words);
                    if self.entries.len() < MAX_ENTRIES {
                        self.entries.push(entry(*menu, &words, body));
                    }
                    true
                }
            };
        }
        Ok(success)
    }

    fn command(&mut self, words: &[String]) -> Result<bool, DiskError> {
        let Some((name, arguments)) = words.split_first() else { return Ok(true) };
        match (name.as_str(), arguments) {
            ("[" | "test", _) => {
                let arguments = arguments.strip_suffix(&["]".to_owned()]).unwrap_or(arguments);
                Ok(condition::holds(arguments, &|path| self.exists(path)))
            }
            ("true" | "insmod" | "export" | "terminal_output" | "echo", _) => Ok(true),
            ("set", [assignment, ..]) => Ok(self.assign(assignment)),
            ("unset", [name, ..]) => Ok(self.variables.remove(name).is_some()),
            ("search" | "search.fs_uuid" | "search.fs_label" | "search.file", _) => {
                Ok(self.search(name, arguments))
            }
            ("load_env", _) => self.load_env(arguments),
            ("source" | "." | "configfile", [path, ..]) => self.file(path),
            ("blscfg", _) => {
                self.wants_bls = true;
                Ok(true)
            }
            ("linux" | "linux16" | "linuxefi", [path, options @ ..]) => {
                let Some(place) = self.place(path) else { return Ok(false) };
                self.kernel = Some((place, command_line(options)));
                self.initrds.clear();
                Ok(true)
            }
            ("initrd" | "initrd16" | "initrdefi", _) => {
                self.initrds = arguments.iter().filter_map(|path| self.place(path)).collect();
                Ok(true)
            }
            (assignment, []) if assignment.contains('=') => Ok(self.assign(assignment)),
            _ => Ok(false),
        }
    }

    fn assign(&mut self, assignment: &str) -> bool {
        if let Some((name, value)) = assignment.split_once('=') {
            self.set(name, value);
        }
        true
    }

    /// `search`, as the manual has it: finds a volume and puts its device into a variable, `root` if none is named.
    fn search(&mut self, command: &str, arguments: &[String]) -> bool {
        let mut by = match command {
            "search.fs_uuid" => "--fs-uuid",
            "search.fs_label" => "--label",
            _ => "--file",
        };
        let (mut into, mut wanted) = ("root", None);
        for argument in arguments {
            match argument.as_str() {
                "--fs-uuid" | "-u" => by = "--fs-uuid",
                "--label" | "--fs-label" | "-l" => by = "--label",
                "--file" | "-f" => by = "--file",
                option if option.starts_with("--set=") => into = &option["--set=".len()..],
                option if option.starts_with('-') => {}
                // After the first come hints, or, in the dotted forms, the variable.
                name if wanted.is_none() => wanted = Some(name),
                name if command.contains('.')
                    && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') =>
                {
                    into = name
                }
                _ => {}
            }
        }
        let Some(wanted) = wanted else { return false };
        let found = match by {
            "--fs-uuid" => self.volumes.by_uuid(wanted),
            "--label" => self.volumes.by_label(wanted),
            _ => (0..self.volumes.len()).find(|volume| self.volumes.exists(*volume, wanted)),
        };
        match found {
            Some(volume) => {
                self.set(into, &device(volume));
                true
            }
            None => false,
        }
    }

    /// Variables out of an environment block (GRUB manual, "Environment block"): lines of `name=value`.
    fn load_env(&mut self, arguments: &[String]) -> Result<bool, DiskError> {
        let mut arguments = arguments.iter();
        let mut path = format!("{}/grubenv", self.get("prefix"));
        let mut only = Vec::new();
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "-f" | "--file" => path = arguments.next().cloned().unwrap_or_default(),
                option if option.starts_with("--file=") => path = option["--file=".len()..].to_owned(),
                option if option.starts_with('-') => {}
                name => only.push(name.to_owned()),
            }
        }
        let Some(text) = self.text(&path)? else { return Ok(false) };
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            if let Some((name, value)) = line.split_once('=')
                && (only.is_empty() || only.iter().any(|wanted| wanted == name))
            {
                self.set(name, value);
            }
        }
        Ok(true)
    }

    fn file(&mut self, path: &str) -> Result<bool, DiskError> {
        if self.files == MAX_FILES {
            return Ok(false);
        }
        let Some(text) = self.text(path)? else { return Ok(false) };
        self.files += 1;
        let success = self.run(&parse(&text));
        self.files -= 1;
        success
    }

    fn text(&self, path: &str) -> Result<Option<String>, DiskError> {
        let Some(place) = self.place(path) else { return Ok(None) };
        self.volumes.text(&place, MAX_CONFIG)
    }

    fn exists(&self, path: &str) -> bool {
        self.place(path).is_some_and(|place| self.volumes.exists(place.volume, &place.path))
    }

    /// A file as GRUB names it: `(device)/path`, or a path on the device in `root`.
    fn place(&self, path: &str) -> Option<Place> {
        let (device, path) = match path.strip_prefix('(') {
            Some(rest) => rest.split_once(')')?,
            None => (self.get("root"), path),
        };
        let volume = match device.strip_prefix("volume") {
            Some(index) => index.parse().ok().filter(|index| *index < self.volumes.len())?,
            // The first disk is the one that was booted from.
            None => self.volumes.by_number(number(device.strip_prefix("hd0")?)?)?,
        };
        Some(Place { volume, path: path.to_owned() })
    }

    fn expand(&self, words: &[Word]) -> Vec<String> {
        let mut expanded = Vec::new();
        let mut budget = MAX_VALUE;
        for word in words {
            let mut field: Option<String> = None;
            if word.is_empty() {
                field = Some(String::new());
            }
            for part in word {
                let (text, divides) = match part {
                    Part::Text(text) => (text.as_str(), false),
                    Part::Variable { name, quoted } => (self.get(name), !quoted),
                };
                budget = budget.saturating_sub(text.len() + 1);
                if budget == 0 {
                    return expanded;
                }
                if !divides {
                    field.get_or_insert_default().push_str(text);
                    continue;
                }
                for (index, piece) in text.split([' ', '\t']).enumerate() {
                    if index > 0 {
                        expanded.extend(field.take());
                    }
                    if !piece.is_empty() {
                        field.get_or_insert_default().push_str(piece);
                    }
                }
            }
            expanded.extend(field);
        }
        expanded
    }
}

/// What a volume is called in variables.
fn device(volume: usize) -> String {
    format!("volume{volume}")
}

/// The number of a partition in `,gpt2`, `,msdos5`, `,2`; 0 in nothing at all.
fn number(partition: &str) -> Option<u32> {
    if partition.is_empty() {
        return Some(0);
    }
    partition.strip_prefix(',')?.trim_start_matches(|c: char| c.is_ascii_alphabetic()).parse().ok()
}

/// Joins options as GRUB hands them to a kernel: those with a blank in them in quotes.
fn command_line(options: &[String]) -> String {
    let quoted =
        |option: &String| if option.contains(' ') { format!("\"{option}\"") } else { option.clone() };
    options.iter().map(quoted).collect::<Vec<_>>().join(" ")
}

fn entry(menu: bool, words: &[String], body: &Script) -> Entry {
    let mut words = words.iter();
    let (mut title, mut id) = (None, None);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--class" | "--users" | "--hotkey" | "--source" => {
                words.next();
            }
            "--id" => id = words.next().cloned(),
            option if option.starts_with("--id=") => id = Some(option["--id=".len()..].to_owned()),
            option if option.starts_with("--") => {}
            text if title.is_none() => title = Some(text.to_owned()),
            _ => {}
        }
    }
    Entry { title: title.unwrap_or_default(), id, menu, body: body.clone() }
}
