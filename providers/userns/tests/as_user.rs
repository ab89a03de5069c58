//! Programs as root of an ordinary user's id map, through the hidden entry. Needs root, to be that user, and
//! Debian's packages `uidmap` and `passwd`; the test program is its own `exe`.

use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitCode, Output, Stdio};

use libtest_mimic::{Arguments, Trial};

const USER: &str = "posada-test";

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    if let Some((word, rest)) = args.split_first()
        && word == posada_userns::ENTRY
    {
        return posada_userns::entry(rest);
    }
    let trials = [
        ("the_program_is_root_of_the_map_and_nobody_on_the_host", ids as fn()),
        ("status_and_streams_pass_through", passes),
        ("signals_pass_through_and_come_back", signals),
        ("the_program_dies_with_its_caller", dies),
        ("what_cannot_be_run_is_told", told),
        ("root_needs_no_detour", root),
    ];
    let trials = trials.map(|(name, test)| {
        Trial::test(name, move || {
            test();
            Ok(())
        })
    });
    libtest_mimic::run(&Arguments::from_args(), trials.into()).exit_code()
}

/// A command of ours as the ordinary user, which is made where it is not there.
fn as_user(words: &[&str]) -> Command {
    let lock = File::create(std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("user.lock")).unwrap();
    lock.lock().unwrap();
    if !Command::new("id").args(["-u", USER]).output().unwrap().status.success() {
        let made = Command::new("useradd").args(["--create-home", "--shell", "/bin/bash", USER]).status();
        assert!(made.unwrap().success(), "useradd");
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid", USER, "--regid", USER, "--init-groups", "--"]);
    command.arg(std::env::current_exe().unwrap()).arg(posada_userns::ENTRY).arg("--").args(words);
    command.current_dir("/").stdin(Stdio::null());
    command
}

fn run(script: &str) -> Output {
    as_user(&["/bin/sh", "-c", script]).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim_end().to_owned()
}

fn ids() {
    let told = run(
        "id -u; id -g; cat /proc/self/uid_map; d=$(mktemp -d) && touch $d/f && chown 33:44 $d/f && stat -c %u:%g $d/f && rm -r $d",
    );
    assert!(told.status.success(), "{told:?}");
    let lines: Vec<String> = text(&told.stdout).lines().map(str::to_owned).collect();
    assert_eq!(lines[..2], ["0", "0"]);
    assert_eq!(lines.last().unwrap(), "33:44");
    let uid = text(&Command::new("id").args(["-u", USER]).output().unwrap().stdout);
    let map: Vec<Vec<&str>> =
        lines[2..lines.len() - 1].iter().map(|line| line.split_whitespace().collect()).collect();
    assert!(map.iter().any(|line| line[..] == ["1000", uid.as_str(), "1"]), "{map:?}");
    assert!(map.iter().all(|line| line[1] != "0"), "{map:?}");
}

fn passes() {
    let mut child = as_user(&["/bin/sh", "-c", "cat; echo err >&2; exit 7"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"through").unwrap();
    let told = child.wait_with_output().unwrap();
    assert_eq!(
        (told.status.code(), text(&told.stdout), text(&told.stderr)),
        (Some(7), "through".into(), "err".into())
    );
}

fn first_line(child: &mut Child) -> BufReader<std::process::ChildStdout> {
    let mut stream = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    stream.read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    stream
}

fn kill(pid: u32, signal: nix::sys::signal::Signal) {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid.cast_signed()), signal).unwrap();
}

fn signals() {
    let script = r#"$| = 1; $SIG{TERM} = sub { syswrite STDOUT, "got it\n"; $SIG{TERM} = "DEFAULT"; kill TERM => $$ };
        syswrite STDOUT, "ready\n"; sleep while 1"#;
    let mut child = as_user(&["perl", "-e", script]).stdout(Stdio::piped()).spawn().unwrap();
    let mut stream = first_line(&mut child);
    kill(child.id(), nix::sys::signal::Signal::SIGTERM);
    let mut line = String::new();
    stream.read_line(&mut line).unwrap();
    assert_eq!(line, "got it\n");
    assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGTERM));
}

fn dies() {
    // A caller in between, which is killed.
    let exe = std::env::current_exe().unwrap();
    let mut caller = Command::new("setpriv");
    drop(as_user(&["true"]));
    caller.args(["--reuid", USER, "--regid", USER, "--init-groups", "--", "/bin/sh", "-c"]);
    caller.arg(r#""$0" __userns -- /bin/sh -c 'echo ready; exec sleep 1000'; true"#).arg(exe);
    let mut caller = caller.current_dir("/").stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stream = first_line(&mut caller);
    kill(caller.id(), nix::sys::signal::Signal::SIGKILL);
    caller.wait().unwrap();
    // The stream ends when the last process that holds it has ended.
    assert_eq!(stream.read_to_end(&mut Vec::new()).unwrap(), 0);
}

fn told() {
    let told = as_user(&["/no/such/program"]).output().unwrap();
    assert_eq!(told.status.code(), Some(125), "{told:?}");
    assert!(text(&told.stderr).contains("/no/such/program"), "{told:?}");
    let usage = Command::new(std::env::current_exe().unwrap()).arg(posada_userns::ENTRY).output().unwrap();
    assert_eq!(usage.status.code(), Some(125));
    assert!(text(&usage.stderr).contains("usage"), "{usage:?}");
}

fn root() {
    let command = posada_userns::command("/bin/true".as_ref(), ["one", "two"]).unwrap();
    assert_eq!(command.get_program(), "/bin/true");
    assert_eq!(command.get_args().collect::<Vec<_>>(), ["one", "two"]);
}
