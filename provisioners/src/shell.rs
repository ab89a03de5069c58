//! The `shell` step: a script, put into a private directory of the machine, run there, and removed.
//!
//! The script is a file and not fed through standard input, so that `$0`, arguments and size are as its author
//! expects and nothing in it can eat what follows. Arguments and environment travel in a second file, the
//! runner: no process list of the machine shows them. The script reads an empty standard input.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::path::Path;

use crate::digest::Digest;
use crate::output::{Tail, Withheld};
use crate::transport::{Captured, capture};
use crate::{OutputSink, Script, Shell, Stdin, Step, StepError, StepFailure, Transport, quote};

/// What a script consists of, ready to run.
pub(crate) struct Program {
    bytes: Vec<u8>,
    name: String,
    runs_by: Interpreter,
}

/// Who reads a script.
#[derive(Debug, PartialEq, Eq)]
enum Interpreter {
    /// The machine's `bash`, or `sh`.
    Shell,
    /// What its `#!` line says: a program and at most one argument, as Linux reads it (execve(2)).
    Named(String, Option<String>),
    /// The processor: it is a program in ELF form.
    Processor,
}

impl Program {
    /// Reads a script. Windows line ends become plain ones where its first line has one: no interpreter in
    /// the machine takes them.
    pub(crate) fn read(script: &Script) -> io::Result<Self> {
        let (mut bytes, name) = match script {
            Script::Inline(text) => (text.clone().into_bytes(), "script".to_owned()),
            Script::Path(path) => {
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                (fs_err::read(path)?, name)
            }
        };
        if bytes.starts_with(b"\x7fELF") {
            return Ok(Self { bytes, name, runs_by: Interpreter::Processor });
        }
        if first_line(&bytes).ends_with(b"\r") {
            bytes = without_returns(&bytes);
        }
        let runs_by = Interpreter::of(&bytes);
        Ok(Self { bytes, name, runs_by })
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl Interpreter {
    fn of(bytes: &[u8]) -> Self {
        let Some(line) = first_line(bytes).strip_prefix(b"#!") else { return Self::Shell };
        let line = String::from_utf8_lossy(line);
        let line = line.trim_matches([' ', '\t']);
        match line.split_once([' ', '\t']) {
            _ if line.is_empty() => Self::Shell,
            Some((program, argument)) => Self::Named(program.to_owned(), Some(argument.trim().to_owned())),
            None => Self::Named(line.to_owned(), None),
        }
    }
}

fn first_line(bytes: &[u8]) -> &[u8] {
    bytes.split(|b| *b == b'\n').next().unwrap_or_default()
}

fn without_returns(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    for (at, byte) in bytes.iter().enumerate() {
        if !(*byte == b'\r' && bytes.get(at + 1) == Some(&b'\n')) {
            out.push(*byte);
        }
    }
    out
}

/// Takes runner and script from standard input. `$1` ends the runner, `$2` and `$3` are the sizes of both,
/// `$4` the script's name, `$5` is `root` where it is to run as root.
const STAGE: &str = r#"
umask 077
if [ "$5" = root ] && [ "$(id -u)" != 0 ]; then
    if ! command -v sudo >/dev/null 2>&1; then echo sudo=missing; exit 0; fi
    if ! sudo -n true 2>/dev/null; then echo sudo=password; exit 0; fi
    echo sudo=yes
fi
dir=$(mktemp -d "${TMPDIR:-/tmp}/posada.XXXXXXXX") || exit 1
trap 'rm -rf -- "$dir"' EXIT
trap 'exit 1' HUP INT TERM
mkdir -- "$dir/script" || exit 1
while IFS= read -r line && [ "$line" != "$1" ]; do printf '%s\n' "$line"; done >"$dir/run"
cat >"$dir/script/$4"
[ "$(wc -c <"$dir/run")" -eq "$2" ] && [ "$(wc -c <"$dir/script/$4")" -eq "$3" ] || {
    echo "only a part of the script could be written" >&2
    exit 1
}
chmod 700 "$dir/script/$4" || exit 1
trap - EXIT
printf 'dir=%s\n' "$dir"
"#;

/// The line between runner and script.
const MARK: &str = "# posada: here ends the runner";

/// Runs a script to its end, and tells the digest of what ran.
pub(crate) fn run(
    step: &Step,
    shell: &Shell,
    transport: &mut dyn Transport,
    env: &BTreeMap<String, String>,
    sink: &dyn OutputSink,
) -> Result<Digest, StepError> {
    let program = Program::read(&shell.script).map_err(|source| {
        let path = shell.script.file(step).to_owned();
        StepError::new(step, StepFailure::Source { path, source })
    })?;
    let runner = runner(&program, shell, env, step.sensitive)
        .map_err(|what| StepError::new(step, StepFailure::Invalid(what)))?;

    let staged = stage(step, &program, &runner, shell.privileged, transport)?;
    let dir = quote::word(&staged.dir);
    let become_root = if staged.by_sudo { "sudo -n -H -- " } else { "" };
    let command = format!("exec {become_root}/bin/sh {dir}/run");
    let tail = Tail::new(if step.sensitive { &Withheld } else { sink });
    let ended = transport.exec(&command, Stdin::Empty, &tail);
    // Root may have left files of its own beside the script. What cannot be removed lies in /tmp.
    let _ = transport.tidy(&format!("rm -rf -- {dir} 2>/dev/null || sudo -n rm -rf -- {dir} 2>/dev/null"));

    let status = ended.map_err(|e| step.transport_error(e))?;
    if status.success() {
        return Ok(Digest::of_shell(shell, &program));
    }
    let last_lines = if step.sensitive { Vec::new() } else { tail.into_lines() };
    Err(StepError::new(step, StepFailure::Failed { status, last_lines, withheld: step.sensitive }))
}

impl Script {
    /// The file that holds it: its own, or that of its step.
    pub(crate) fn file<'a>(&'a self, step: &'a Step) -> &'a Path {
        match self {
            Self::Path(path) => path,
            Self::Inline(_) => &step.place.file,
        }
    }
}

/// The text of the runner, or what is wrong with the step.
fn runner(
    program: &Program,
    shell: &Shell,
    env: &BTreeMap<String, String>,
    sensitive: bool,
) -> Result<String, String> {
    let mut text = String::new();
    let mut all: BTreeMap<&String, &String> = env.iter().collect();
    all.extend(&shell.env);
    for (name, value) in all {
        let shown = if sensitive { "(withheld)" } else { name };
        if !quote::is_variable_name(name) {
            return Err(format!("`{shown}` cannot name an environment variable"));
        }
        if value.contains('\0') {
            return Err(format!("the value of `{shown}` holds a NUL"));
        }
        let _ = writeln!(text, "export {name}={}", quote::word(value));
    }
    if shell.args.iter().any(|arg| arg.contains('\0')) {
        return Err("an argument holds a NUL".to_owned());
    }
    let mut call = format!("\"${{0%/*}}\"/script/{}", quote::word(&program.name));
    for arg in &shell.args {
        call.push(' ');
        call.push_str(&quote::word(arg));
    }
    call.push_str(" </dev/null");
    match &program.runs_by {
        Interpreter::Shell => {
            let _ = writeln!(
                text,
                "if command -v bash >/dev/null 2>&1; then exec bash {call}; fi\nexec sh {call}"
            );
        }
        Interpreter::Named(interpreter, argument) => {
            let path = quote::word(interpreter);
            let message = quote::word(&format!(
                "posada: the script wants {interpreter}, which is not in the machine or cannot be run"
            ));
            let argument = argument.as_deref().map(quote::word).unwrap_or_default();
            let _ = writeln!(
                text,
                "command -v {path} >/dev/null 2>&1 || {{ printf '%s\\n' {message} >&2; exit 127; }}\n\
                 exec {path} {argument} {call}"
            );
        }
        Interpreter::Processor => {
            let _ = writeln!(text, "exec {call}");
        }
    }
    if text.lines().any(|line| line == MARK) {
        return Err(format!("an argument or a variable has the line `{MARK}`, which Posada needs itself"));
    }
    Ok(text)
}

struct Staged {
    dir: String,
    by_sudo: bool,
}

fn stage(
    step: &Step,
    program: &Program,
    runner: &str,
    privileged: bool,
    transport: &mut dyn Transport,
) -> Result<Staged, StepError> {
    let mut stream = Vec::with_capacity(runner.len() + MARK.len() + program.bytes.len() + 1);
    stream.extend_from_slice(runner.as_bytes());
    stream.extend_from_slice(MARK.as_bytes());
    stream.push(b'\n');
    stream.extend_from_slice(&program.bytes);
    let sizes = [runner.len().to_string(), program.bytes.len().to_string()];
    let rights = if privileged { "root" } else { "user" };
    let words = [STAGE, "posada", MARK, &sizes[0], &sizes[1], &program.name, rights].map(quote::word);
    let command = format!("exec /bin/sh -c {}", words.join(" "));
    let said = capture(transport, &command, Stdin::Bytes(&stream)).map_err(|e| step.transport_error(e))?;

    let value = |key: &str| said.out.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    let privilege = |why| StepError::new(step, StepFailure::Privilege(why));
    match (value("sudo"), value("dir")) {
        (Some("missing"), _) => Err(privilege("there is no sudo in the machine")),
        (Some("password"), _) => Err(privilege("sudo asks the login user for a password, or refuses")),
        (sudo, Some(dir)) if said.status.success() => {
            Ok(Staged { dir: dir.to_owned(), by_sudo: sudo == Some("yes") })
        }
        _ => Err(StepError::new(step, StepFailure::Stage(why(&said)))),
    }
}

fn why(said: &Captured) -> String {
    match said.err.lines().rfind(|line| !line.trim().is_empty()) {
        Some(line) => line.to_owned(),
        None => said.status.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(text: &str) -> Program {
        Program::read(&Script::Inline(text.to_owned())).unwrap()
    }

    #[test]
    fn who_reads_a_script() {
        let named = |p: &str, a: Option<&str>| Interpreter::Named(p.to_owned(), a.map(str::to_owned));
        assert_eq!(program("echo\n").runs_by, Interpreter::Shell);
        assert_eq!(program("").runs_by, Interpreter::Shell);
        assert_eq!(program("#!/bin/sh").runs_by, named("/bin/sh", None));
        assert_eq!(
            program("#! /usr/bin/env  python3 -u \nx").runs_by,
            named("/usr/bin/env", Some("python3 -u"))
        );
        assert_eq!(program("#!\necho").runs_by, Interpreter::Shell);
        assert_eq!(program("\x7fELF\r\n").runs_by, Interpreter::Processor);
    }

    #[test]
    fn windows_line_ends_go_where_the_first_line_has_one() {
        let script = program("#!/bin/sh\r\necho a\r\nb\rc");
        assert_eq!(script.bytes(), b"#!/bin/sh\necho a\nb\rc");
        assert_eq!(script.runs_by, Interpreter::Named("/bin/sh".to_owned(), None));
        let deliberate = "printf 'GET / HTTP/1.0\r\n\r\n'\nsecond\r\n";
        assert_eq!(
            program(&format!("#!/bin/sh\n{deliberate}")).bytes(),
            format!("#!/bin/sh\n{deliberate}").as_bytes()
        );
        assert_eq!(program("\x7fELF\r\n").bytes(), b"\x7fELF\r\n");
    }

    #[test]
    fn what_cannot_be_said_to_a_shell_is_refused_without_showing_secrets() {
        let shell = |name: &str, value: &str, arg: &str| Shell {
            script: Script::Inline(String::new()),
            args: vec![arg.to_owned()],
            env: [(name.to_owned(), value.to_owned())].into(),
            privileged: false,
        };
        let none = BTreeMap::new();
        let refuse = |s: Shell, sensitive| runner(&program(""), &s, &none, sensitive).unwrap_err();
        assert!(refuse(shell("A-B", "", ""), false).contains("`A-B`"));
        assert!(!refuse(shell("A-B", "", ""), true).contains("A-B"));
        assert!(refuse(shell("A", "x\0y", ""), false).contains("NUL"));
        assert!(refuse(shell("A", "", "\0"), false).contains("NUL"));
        assert!(refuse(shell("A", &format!("x\n{MARK}\ny"), ""), false).contains("line"));
        assert!(runner(&program(""), &shell("A", "x", "y"), &none, false).is_ok());
    }

    #[test]
    fn the_environment_of_the_step_wins() {
        let shell = Shell {
            script: Script::Inline(String::new()),
            args: Vec::new(),
            env: [("A".to_owned(), "step".to_owned())].into(),
            privileged: false,
        };
        let below = [("A".to_owned(), "machine".to_owned()), ("B".to_owned(), "b c".to_owned())].into();
        let text = runner(&program(""), &shell, &below, false).unwrap();
        assert!(text.starts_with("export A=step\nexport B='b c'\n"), "{text}");
    }
}
