//! Shell and file steps in a real login session.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use posada_provider_api::{Fault, FaultKind};
use posada_provisioners::{
    Action, Digest, ExitStatus, FileCopy, Place, RunWhen, Script, Shell, Ssh, Step, StepDone, StepError,
    StepFailure, TransportError, run_step,
};
use support::{Lines, Server, User};

fn step(action: Action) -> Step {
    let place = Place { file: "/p/Vmfile".into(), line: 12, column: 5 };
    Step { name: Some("it".to_owned()), run: RunWhen::Once, sensitive: false, action, place }
}

fn shell(script: Script, args: &[&str], env: &[(&str, &str)], privileged: bool) -> Step {
    let args = args.iter().map(|a| (*a).to_owned()).collect();
    let env = env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    step(Action::Shell(Shell { script, args, env, privileged }))
}

fn inline(text: &str) -> Step {
    shell(Script::Inline(text.to_owned()), &[], &[], false)
}

fn copy(source: &Path, destination: &str) -> Step {
    step(Action::File(FileCopy { source: source.to_owned(), destination: destination.to_owned() }))
}

fn run(ssh: &mut Ssh, step: &Step) -> (Result<StepDone, StepError>, Lines) {
    let lines = Lines::default();
    let done = run_step(step, ssh, &BTreeMap::new(), &lines);
    (done, lines)
}

fn out(ssh: &mut Ssh, step: &Step) -> Vec<String> {
    let (done, lines) = run(ssh, step);
    done.unwrap_or_else(|e| panic!("{e}: {:?} {:?}", e.last_lines(), std::error::Error::source(&e)));
    lines.out()
}

/// The directories that scripts of `user` have left.
fn leftovers(user: &str) -> Vec<PathBuf> {
    let uid = uid(user);
    let ours = |p: &PathBuf| p.file_name().unwrap().to_string_lossy().starts_with("posada.");
    let entries = fs::read_dir("/tmp").unwrap().map(|e| e.unwrap().path());
    entries.filter(ours).filter(|p| fs::symlink_metadata(p).is_ok_and(|m| m.uid() == uid)).collect()
}

fn uid(user: &str) -> u32 {
    let text = std::process::Command::new("id").args(["-u", user]).output().unwrap().stdout;
    String::from_utf8(text).unwrap().trim().parse().unwrap()
}

#[test]
fn a_script_sees_its_arguments_environment_and_nothing_to_read() {
    let user = User::new("a", false);
    let server = user.server();
    let mut ssh = server.connect();
    let odd = "it's \"$HOME\" `x` \\ \n end";
    let script =
        "#!/bin/sh\nset -e\nprintf '%s|' \"$#\" \"$@\" \"$GREETING\" \"$EMPTY\"\necho\npwd\nid -un\nwc -c\n";
    let step = shell(
        Script::Inline(script.to_owned()),
        &[odd, "", "-n", "ü"],
        &[("GREETING", "a  b'$c"), ("EMPTY", "")],
        false,
    );
    let got = out(&mut ssh, &step).join("\n");
    let want = format!("4|{odd}||-n|ü|a  b'$c||\n{}\n{}\n0", user.home.display(), user.name);
    assert_eq!(got, want);
    assert_eq!(leftovers(&user.name), Vec::<PathBuf>::new());
}

#[test]
fn the_first_line_chooses_the_interpreter() {
    let server = Server::for_root();
    let mut ssh = server.connect();
    assert_eq!(out(&mut ssh, &inline("echo ${BASH_VERSION:+bash}")), ["bash"]);
    assert_eq!(out(&mut ssh, &inline("#!/bin/sh\necho ${BASH_VERSION:-sh}")), ["sh"]);
    assert_eq!(out(&mut ssh, &inline("#!/usr/bin/env -S perl -w\nprint \"$0\\n\"")).len(), 1);
    assert_eq!(out(&mut ssh, &inline("#!/usr/bin/perl\nprint 6*7, qq(\\n)")), ["42"]);
    assert_eq!(
        out(&mut ssh, &inline("#!/bin/sh\r\necho a\r\nif true; then\r\necho b\r\nfi\r\n")),
        ["a", "b"]
    );
    let (done, lines) = run(&mut ssh, &inline("#!/opt/none/python9\nx"));
    assert_eq!(done.unwrap_err().status(), Some(&ExitStatus::Code(127)));
    assert!(lines.all()[0].1.contains("/opt/none/python9"), "{:?}", lines.all());
}

#[test]
fn scripts_from_files_keep_their_name_and_may_be_programs() {
    let server = Server::for_root();
    let mut ssh = server.connect();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("set up 'it'.sh");
    fs::write(&path, "basename \"$0\"; echo $1").unwrap();
    let step = shell(Script::Path(path.clone()), &["x y"], &[], false);
    assert_eq!(out(&mut ssh, &step), ["set up 'it'.sh", "x y"]);
    let program = shell(Script::Path("/bin/echo".into()), &["an", "ELF"], &[], false);
    assert_eq!(out(&mut ssh, &program), ["an ELF"]);

    let mut large = String::from("#!/bin/sh\n");
    for n in 0..60_000 {
        large.push_str(&format!("# line {n} of a long script\n"));
    }
    large.push_str("echo end");
    fs::write(&path, &large).unwrap();
    assert_eq!(out(&mut ssh, &shell(Script::Path(path), &[], &[], false)), ["end"]);
}

#[test]
fn a_failure_tells_step_place_status_and_last_lines() {
    let user = User::new("f", false);
    let server = user.server();
    let mut ssh = server.connect();
    let (done, _) =
        run(&mut ssh, &inline("set -e\nfor i in $(seq 30); do echo line $i; done\nsh -c 'exit 42'\necho no"));
    let error = done.unwrap_err();
    assert_eq!(error.to_string(), "step `it` (/p/Vmfile:12:5) ended with exit status 42");
    assert_eq!((error.last_lines().len(), error.last_lines()[19].as_str()), (20, "line 30"));
    assert_eq!(error.kind(), FaultKind::Provision);
    assert_eq!(leftovers(&user.name), Vec::<PathBuf>::new());
    let error = run(&mut ssh, &inline("kill -9 $$")).0.unwrap_err();
    assert_eq!(error.to_string(), "step `it` (/p/Vmfile:12:5) ended with signal KILL");
}

#[test]
fn privileged_is_root_with_the_same_environment() {
    let user = User::new("p", true);
    let server = user.server();
    let mut ssh = server.connect();
    let text = "id -un; echo $HOME $WHO; mkdir -p \"$(dirname \"$0\")\"/made; touch \"$(dirname \"$0\")\"/made/by-root";
    let root = shell(Script::Inline(text.to_owned()), &[], &[("WHO", "me")], true);
    assert_eq!(out(&mut ssh, &root), ["root", "/root me"]);
    assert_eq!(out(&mut ssh, &inline("id -un")), [user.name.as_str()]);
    assert_eq!(leftovers(&user.name), Vec::<PathBuf>::new());
    let server = Server::for_root();
    let mut as_root = server.connect();
    assert_eq!(out(&mut as_root, &shell(Script::Inline("id -un".into()), &[], &[], true)), ["root"]);
}

#[test]
fn without_sudo_privileged_is_a_clear_error() {
    let user = User::new("n", false);
    let server = user.server();
    let mut ssh = server.connect();
    let error = run(&mut ssh, &shell(Script::Inline("id".into()), &[], &[], true)).0.unwrap_err();
    assert!(matches!(*error.cause, StepFailure::Privilege(_)), "{error:?}");
    assert_eq!(
        error.to_string(),
        "step `it` (/p/Vmfile:12:5) is privileged, and sudo asks the login user for a password, or refuses"
    );
    assert!(error.hint().unwrap().contains("NOPASSWD"));
}

#[test]
fn nothing_of_a_sensitive_step_is_shown() {
    let server = Server::for_root();
    let mut ssh = server.connect();
    let mut step = shell(
        Script::Inline("echo hunter2 $1 $P; ps -ef >\"$LIST\"; exit 3".into()),
        &["hunter2-arg"],
        &[("P", "hunter2-env")],
        false,
    );
    let list = server.dir.path().join("ps");
    if let Action::Shell(shell) = &mut step.action {
        shell.env.insert("LIST".to_owned(), list.display().to_string());
    }
    step.sensitive = true;
    step.name = None;
    let (done, lines) = run(&mut ssh, &step);
    let error = done.unwrap_err();
    assert!(lines.all().is_empty() && error.last_lines().is_empty());
    let said = format!("{error} {error:?} {:?}", error.hint());
    assert!(!said.contains("hunter2") && said.contains("withheld"), "{said}");
    let processes = fs::read_to_string(list).unwrap();
    assert!(processes.contains("posada"));
    // The script's own interpreter has its arguments, as any program has; the environment is nowhere.
    assert!(!processes.contains("hunter2-env"), "{processes}");
}

#[test]
fn a_missing_script_is_told_with_its_place() {
    let server = Server::for_root();
    let mut ssh = server.connect();
    let error = run(&mut ssh, &shell(Script::Path("/none.sh".into()), &[], &[], false)).0.unwrap_err();
    assert_eq!(error.to_string(), "step `it` (/p/Vmfile:12:5) needs `/none.sh`, which cannot be read");
    assert_eq!(error.kind(), FaultKind::Config);
}

#[test]
fn a_full_disk_is_told() {
    let user = User::new("d", false);
    let server = user.server();
    let mut ssh = server.connect();
    // The user's own limit on file sizes stands for the disk: `ulimit -f` counts blocks of 1 KiB in bash.
    fs::write(user.home.join(".bashrc"), "trap '' XFSZ; ulimit -f 4\n").unwrap();
    let large = format!("#!/bin/sh\n{}\n", "# text\n".repeat(20_000));
    let error = run(&mut ssh, &inline(&large)).0.unwrap_err();
    assert!(matches!(*error.cause, StepFailure::Stage(_)), "{error:?}");
    assert_eq!(leftovers(&user.name), Vec::<PathBuf>::new());
}

#[test]
fn the_digest_is_that_of_what_ran() {
    let server = Server::for_root();
    let mut ssh = server.connect();
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("f"), "x").unwrap();
    let target = dir.path().join("out").display().to_string();
    for step in [inline("true"), copy(&dir.path().join("f"), &target)] {
        let done = run(&mut ssh, &step).0.unwrap();
        assert_eq!(done.digest, Digest::of(&step.action).unwrap());
    }
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn files_keep_their_mode_and_go_where_cp_would_put_them() {
    let user = User::new("u", false);
    let server = user.server();
    let mut ssh = server.connect();
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("a b.conf");
    fs::write(&source, "one").unwrap();
    fs::set_permissions(&source, fs::Permissions::from_mode(0o751)).unwrap();
    for (destination, lands) in [
        ("~/x.conf", "x.conf"),
        ("~/deep/er/x.conf", "deep/er/x.conf"),
        ("~/deep", "deep/a b.conf"),
        ("~/new/", "new/a b.conf"),
        ("~", "a b.conf"),
        ("relative/it's", "relative/it's"),
        ("~/x.conf", "x.conf"),
    ] {
        run(&mut ssh, &copy(&source, destination)).0.unwrap();
        let path = user.home.join(lands);
        assert_eq!(fs::read_to_string(&path).unwrap(), "one", "{destination}");
        assert_eq!((mode(&path), fs::metadata(&path).unwrap().uid()), (0o751, uid(&user.name)));
    }
    assert!(
        fs::read_dir(&user.home).unwrap().all(|e| !e
            .unwrap()
            .file_name()
            .to_string_lossy()
            .starts_with(".posada"))
    );
}

#[test]
fn directories_become_their_destination_with_modes_and_links() {
    let user = User::new("t", false);
    let server = user.server();
    let mut ssh = server.connect();
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("site");
    fs::create_dir_all(source.join("empty")).unwrap();
    fs::create_dir_all(source.join("sub")).unwrap();
    fs::write(source.join("sub/run.sh"), "#!/bin/sh\n").unwrap();
    fs::write(source.join("secret"), "s").unwrap();
    symlink("sub/run.sh", source.join("link")).unwrap();
    symlink("/nowhere", source.join("dangling")).unwrap();
    for (path, mode) in
        [("sub/run.sh", 0o755), ("secret", 0o600), ("sub", 0o770), ("empty", 0o711), ("", 0o705)]
    {
        fs::set_permissions(source.join(path), fs::Permissions::from_mode(mode)).unwrap();
    }
    for destination in ["~/www", "~/www", "~/in/"] {
        run(&mut ssh, &copy(&source, destination)).0.unwrap();
    }
    assert!(!user.home.join("www/site").exists(), "a second copy merges");
    for root in [user.home.join("www"), user.home.join("in/site")] {
        for (path, want) in
            [("sub/run.sh", 0o755), ("secret", 0o600), ("sub", 0o770), ("empty", 0o711), ("", 0o705)]
        {
            assert_eq!(mode(&root.join(path)), want, "{path}");
        }
        assert_eq!(fs::read_link(root.join("link")).unwrap(), Path::new("sub/run.sh"));
        assert_eq!(fs::read_link(root.join("dangling")).unwrap(), Path::new("/nowhere"));
        assert_eq!(fs::metadata(root.join("secret")).unwrap().uid(), uid(&user.name));
    }
    let home = mode(&user.home);
    run(&mut ssh, &copy(&source, "~")).0.unwrap();
    assert_eq!(mode(&user.home), home, "what was there keeps its mode");
    assert!(user.home.join("sub/run.sh").exists());
}

#[test]
fn places_of_root_are_written_by_sudo_or_told() {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let source = dir.path().join("f");
    fs::write(&source, "x").unwrap();
    let tree = dir.path().join("tree");
    fs::create_dir(&tree).unwrap();
    fs::write(tree.join("g"), "y").unwrap();
    let target = dir.path().join("etc");
    fs::create_dir(&target).unwrap();

    let plain = User::new("r", false);
    let error = run(&mut plain.server().connect(), &copy(&source, &format!("{}/app/x", target.display())))
        .0
        .unwrap_err();
    let StepFailure::Transport(upload @ TransportError::Upload { .. }) = &*error.cause else {
        panic!("{error:?}")
    };
    let why = format!("{} may not write in {}", plain.name, target.display());
    assert!(upload.to_string().contains(&why), "{upload}");
    assert!(error.hint().unwrap().contains("sudo"));
    assert_eq!(fs::read_dir(&target).unwrap().count(), 0);

    let sudoer = User::new("s", true);
    let server = sudoer.server();
    let mut ssh = server.connect();
    run(&mut ssh, &copy(&source, &format!("{}/app/x", target.display()))).0.unwrap();
    run(&mut ssh, &copy(&tree, &format!("{}/tree", target.display()))).0.unwrap();
    for name in ["app/x", "tree/g"] {
        assert_eq!(fs::metadata(target.join(name)).unwrap().uid(), 0);
    }
}

#[test]
fn what_cannot_be_copied_is_told() {
    let server = Server::for_root();
    let mut ssh = server.connect();
    let dir = tempfile::tempdir().unwrap();
    let error = run(&mut ssh, &copy(&dir.path().join("none"), "/tmp/x")).0.unwrap_err();
    assert!(matches!(*error.cause, StepFailure::Source { .. }), "{error:?}");
    let tree = dir.path().join("tree");
    fs::create_dir(&tree).unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let error = run(&mut ssh, &copy(&tree, &file.display().to_string())).0.unwrap_err();
    let StepFailure::Transport(source) = *error.cause else { panic!() };
    assert!(source.to_string().contains("is not a directory"), "{source}");
    let _socket = std::os::unix::net::UnixListener::bind(tree.join("s.sock")).unwrap();
    let error = run(&mut ssh, &copy(&tree, &dir.path().join("o").display().to_string())).0.unwrap_err();
    let StepFailure::Transport(source) = *error.cause else { panic!() };
    let cause = std::error::Error::source(&source).unwrap().to_string();
    assert!(cause.contains("s.sock"), "{cause}");
}

#[test]
fn a_large_tree_and_a_large_file_arrive_whole() {
    let server = Server::for_root();
    let mut ssh = server.connect();
    let dir = tempfile::tempdir().unwrap();
    let tree = dir.path().join("tree");
    for n in 0..40 {
        fs::create_dir_all(tree.join(format!("d{n}"))).unwrap();
        for m in 0..25 {
            fs::write(tree.join(format!("d{n}/f{m}")), format!("{n} {m}\n").repeat(n * m)).unwrap();
        }
    }
    let big: Vec<u8> = (0..12_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    fs::write(tree.join("big"), &big).unwrap();
    let target = dir.path().join("target");
    run(&mut ssh, &copy(&tree, &target.display().to_string())).0.unwrap();
    let diff = std::process::Command::new("diff").arg("-r").arg(&tree).arg(&target).output().unwrap();
    assert!(diff.status.success(), "{}", String::from_utf8_lossy(&diff.stdout));
    let file = dir.path().join("file");
    run(&mut ssh, &copy(&tree.join("big"), &file.display().to_string())).0.unwrap();
    assert!(fs::read(&file).unwrap() == big);
}
