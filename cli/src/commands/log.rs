use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use serde_json::json;

use crate::commands::common::NameArg;
use crate::commands::operation;
use crate::context::Context;
use crate::exit::ExitStatus;
use crate::failure::{CliError, Result};
use crate::printer::Printer;
use crate::printer::sanitize::sanitize;

/// Show what a machine's console printed
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    name: NameArg,

    /// Go on with what is printed from now on
    #[arg(long, short)]
    follow: bool,

    /// Show only this many lines from the end
    #[arg(long, short = 'n', value_name = "LINES")]
    lines: Option<usize>,

    /// Show what the machine's supervisor has to say instead
    #[arg(long)]
    supervisor: bool,
}

pub fn run(args: Args, context: &Context) -> Result<ExitStatus> {
    let project = context.project()?;
    let (orchestrator, _) = operation::orchestrator(context)?;
    let entry = orchestrator.one(&project, args.name.name.as_deref())?;
    let file = if args.supervisor { entry.dir.supervisor_log() } else { entry.dir.console_log() };
    let shown = Shown { printer: &context.printer, machine: entry.record.name.as_str() };
    // The watch comes before the first look, so that nothing falls between them.
    let watch = if args.follow { Some(Watch::on(entry.dir.path())?) } else { None };
    let mut log = Log::open(file);
    shown.last(log.older()?, &mut log, args.lines)?;
    let Some(watch) = watch else {
        log.rest().iter().for_each(|line| shown.line(line));
        return Ok(ExitStatus::OK);
    };
    while !context.printer.closed() && watch.wait()? {
        log.read(&mut |line| shown.line(line))?;
    }
    Ok(ExitStatus::OK)
}

struct Shown<'a> {
    printer: &'a Printer,
    machine: &'a str,
}

impl Shown<'_> {
    fn line(&self, line: &str) {
        let colors = self.printer.palette().colors;
        self.printer.line(&sanitize(line, colors));
        self.printer.json(&json!({
            "event": "log", "machine": self.machine, "line": sanitize(line, false),
        }));
    }

    /// Shows what is there, or the last `count` lines of it.
    fn last(&self, older: Vec<String>, log: &mut Log, count: Option<usize>) -> Result<()> {
        let mut kept = VecDeque::new();
        let mut take = |line: &str| match count {
            None => self.line(line),
            Some(count) => {
                kept.push_back(line.to_owned());
                if kept.len() > count {
                    kept.pop_front();
                }
            }
        };
        older.iter().for_each(|line| take(line));
        log.read(&mut take)?;
        kept.iter().for_each(|line| self.line(line));
        Ok(())
    }
}

/// A log that grows, and that is turned over when it has grown enough: what it held is then beside it, with
/// `.1` at its end.
struct Log {
    path: PathBuf,
    /// The file that is read, with its inode.
    open: Option<(BufReader<File>, u64)>,
    partial: Vec<u8>,
}

impl Log {
    fn open(path: PathBuf) -> Self {
        Self { path, open: None, partial: Vec::new() }
    }

    /// The lines of the file before this one.
    fn older(&self) -> Result<Vec<String>> {
        let mut old = self.path.clone().into_os_string();
        old.push(".1");
        match fs_err::read(PathBuf::from(old)) {
            Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).lines().map(str::to_owned).collect()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(CliError::host("the log cannot be read", error).into()),
        }
    }

    /// Hands over the lines that have been completed since the last call.
    fn read(&mut self, take: &mut dyn FnMut(&str)) -> Result<()> {
        let failed = |error| CliError::host("the log cannot be read", error);
        loop {
            if let Some((file, _)) = &mut self.open {
                while file.read_until(b'\n', &mut self.partial).map_err(failed)? > 0 {
                    if self.partial.ends_with(b"\n") {
                        take(text(&self.partial).trim_end_matches(['\r', '\n']));
                        self.partial.clear();
                    }
                }
            }
            // Read to its end, it may have been turned over: then the new one begins.
            let current = match fs_err::metadata(&self.path) {
                Ok(metadata) => metadata.ino(),
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
                Err(error) => return Err(failed(error).into()),
            };
            if self.open.as_ref().is_some_and(|(_, inode)| *inode == current) {
                return Ok(());
            }
            let file = match File::open(&self.path) {
                Ok(file) => file,
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
                Err(error) => return Err(failed(error).into()),
            };
            let inode = file.metadata().map_err(failed)?.ino();
            self.open = Some((BufReader::new(file), inode));
        }
    }

    /// The line that has begun and not ended: a prompt.
    fn rest(&self) -> Option<String> {
        (!self.partial.is_empty()).then(|| text(&self.partial).trim_end_matches('\r').to_owned())
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Tells when something changes in a directory, and when the directory goes.
struct Watch(OwnedFd);

impl Watch {
    fn on(dir: &Path) -> Result<Self> {
        let failed = |errno: rustix::io::Errno| CliError::Host {
            what: "the log cannot be followed".to_owned(),
            hint: Some("raise `fs.inotify.max_user_instances`, or show it without `--follow`".to_owned()),
            source: Some(errno.into()),
        };
        let inotify = inotify::init(CreateFlags::CLOEXEC).map_err(failed)?;
        let changes = WatchFlags::MODIFY
            | WatchFlags::CREATE
            | WatchFlags::MOVED_TO
            | WatchFlags::MOVE_SELF
            | WatchFlags::DELETE_SELF;
        inotify::add_watch(&inotify, dir, changes).map_err(failed)?;
        Ok(Self(inotify))
    }

    /// Returns at the next change; `false` where the directory is going.
    fn wait(&self) -> Result<bool> {
        let going = ReadFlags::MOVE_SELF | ReadFlags::DELETE_SELF | ReadFlags::IGNORED;
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut events = inotify::Reader::new(&self.0, &mut buffer);
        loop {
            let event =
                events.next().map_err(|errno| CliError::host("the log cannot be followed", errno.into()))?;
            if event.events().intersects(going) {
                return Ok(false);
            }
            if events.is_buffer_empty() {
                return Ok(true);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn read(log: &mut Log) -> Vec<String> {
        let mut lines = Vec::new();
        log.read(&mut |line| lines.push(line.to_owned())).unwrap();
        lines
    }

    #[test]
    fn goes_on_where_it_was_also_when_the_log_is_turned_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("console.log");
        let mut log = Log::open(path.clone());
        assert!(read(&mut log).is_empty(), "no log yet");
        let mut file = File::create(&path).unwrap();
        file.write_all(b"one\r\ntwo\nthr").unwrap();
        assert_eq!(read(&mut log), ["one", "two"]);
        assert_eq!(log.rest().unwrap(), "thr");
        file.write_all(b"ee\nfour\n").unwrap();
        fs_err::rename(&path, dir.path().join("console.log.1")).unwrap();
        fs_err::write(&path, "five\n").unwrap();
        assert_eq!(read(&mut log), ["three", "four", "five"]);
        assert_eq!(log.older().unwrap(), ["one", "two", "three", "four"]);
    }

    #[test]
    fn a_change_wakes_and_the_end_of_the_directory_ends() {
        let dir = tempfile::tempdir().unwrap();
        let watch = Watch::on(dir.path()).unwrap();
        fs_err::write(dir.path().join("console.log"), "one\n").unwrap();
        assert!(watch.wait().unwrap());
        drop(dir);
        while watch.wait().unwrap() {}
    }
}
