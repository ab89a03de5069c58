//! Bad input and bad weather: each gets its clear error and its exit status, and loses nothing.

use std::fs;
use std::path::Path;
use std::process::Command;

use posada_tests::{HostSnapshot, Sandbox, sandbox};

const VMFILE: &str = "box: debian/12\nprovider: container\n";

#[track_caller]
fn system(program: &str, arguments: &[&str]) {
    let outcome = sandbox::run(Command::new(program), arguments);
    assert_eq!(outcome.code, 0, "{outcome}");
}

/// A mount that goes with the value.
struct Mount(std::path::PathBuf);

impl Mount {
    fn new(arguments: &[&str], target: &Path) -> Self {
        let mut words = arguments.to_vec();
        let path = target.display().to_string();
        words.push(&path);
        system("mount", &words);
        Self(target.to_owned())
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_vmfile_with_faults_tells_all_of_them_with_their_places() {
    let sandbox =
        Sandbox::with("box: debian/12\ncpus: many\nmemroy: 1G\nnetworks:\n  - forward: '99999:80'\n");
    let outcome = sandbox.run(&["up"]).ended_with(3);
    for said in ["Vmfile:2", "Vmfile:3", "Vmfile:5", "memory", "cpus: many"] {
        assert!(outcome.mentions(said), "`{said}`\n{outcome}");
    }
    assert!(sandbox.machine_folders().is_empty());
}

#[test]
fn no_vmfile_is_told_and_one_above_is_found() {
    let sandbox = Sandbox::new();
    sandbox.run(&["up"]).ended_with(3).says("Vmfile").says("posada init");
    sandbox.vmfile(VMFILE);
    let deep = sandbox.project().join("a/b/c");
    fs::create_dir_all(&deep).unwrap();
    let mut command = sandbox.posada();
    command.current_dir(&deep);
    sandbox::run(command, &["validate"]).ok();
}

#[test]
fn a_box_that_is_none() {
    let sandbox = Sandbox::new();
    sandbox.run(&["box", "add", "/nowhere.tar", "--name", "mine/none"]).ended_with(7).says("/nowhere.tar");
    let garbage = sandbox.file("garbage", &"not a box ".repeat(1000));
    let garbage = garbage.to_str().unwrap();
    sandbox.run(&["box", "add", garbage, "--name", "mine/garbage"]).ended_with(7).says("garbage");
    sandbox.vmfile("box: mine/garbage\nprovider: container\n");
    sandbox.run(&["up"]).ended_with(7).says("mine/garbage");
    assert!(sandbox.machine_folders().is_empty(), "nothing was made");
}

/// A root file system of two empty folders, and one with an init and no sshd.
#[test]
fn a_root_file_system_without_init_or_sshd() {
    let sandbox = Sandbox::bare(posada_tests::sandbox::Caller::Root);
    let tree = sandbox.root().join("tree");
    for folder in ["etc", "usr/bin", "usr/sbin"] {
        fs::create_dir_all(tree.join(folder)).unwrap();
    }
    fs::write(
        tree.join("etc/passwd"),
        "root:x:0:0:root:/root:/bin/sh\nposada:x:1000:1000::/home/posada:/bin/sh\n",
    )
    .unwrap();
    let archive = sandbox.root().join("tree.tar");
    let pack = || system("tar", &["-C", tree.to_str().unwrap(), "-cf", archive.to_str().unwrap(), "."]);
    let attempt = |name: &str, missing: &str| {
        pack();
        sandbox.vmfile(&format!("box: {name}\nprovider: container\n"));
        let add = sandbox.run(&["box", "add", archive.to_str().unwrap(), "--name", name]);
        // It may be refused as soon as it is seen, or when it is to run: what is missing is said either way.
        let outcome = if add.code == 0 { sandbox.run(&["up"]) } else { add };
        outcome.ended_with(7).says(missing);
        sandbox.ok(&["destroy", "--force"]);
    };
    attempt("mine/empty", "init");
    fs::write(tree.join("usr/sbin/init"), "#!/bin/sh\n").unwrap();
    std::os::unix::fs::symlink("usr/sbin", tree.join("sbin")).unwrap();
    system("chmod", &["755", tree.join("usr/sbin/init").to_str().unwrap()]);
    attempt("mine/no-sshd", "sshd");
}

#[test]
fn a_login_user_that_the_box_does_not_have() {
    let sandbox = Sandbox::with("box: debian/12\nprovider: container\nssh: {username: nobody-here}\n");
    sandbox.run(&["up"]).ended_with(7).says("nobody-here").says("posada");
}

#[test]
fn a_full_disk_is_told_and_nothing_is_lost() {
    let sandbox = Sandbox::with(VMFILE);
    let boxes = fs::read_link(sandbox.home().join("boxes")).unwrap();
    fs::remove_file(sandbox.home().join("boxes")).unwrap();
    let disk = Mount::new(&["-t", "tmpfs", "-o", "size=40m,mode=700", "tmpfs"], sandbox.home());
    std::os::unix::fs::symlink(&boxes, sandbox.home().join("boxes")).unwrap();
    sandbox.ok(&["up"]);
    sandbox.inside("echo kept > ~/kept; sync");
    sandbox.ok(&["halt"]);
    // The disk fills up to the last byte.
    let filler = sandbox.home().join("filler");
    let _ = Command::new("dd").args(["if=/dev/zero", "bs=64k", &format!("of={}", filler.display())]).output();
    let full = sandbox.run(&["up"]);
    assert_ne!(full.code, 0, "{full}");
    assert_eq!(full.code, 4, "{full}");
    assert!(full.mentions("space") || full.mentions("full"), "{full}");
    // Looking works, and so does all of it once there is room.
    sandbox.ok(&["status"]);
    fs::remove_file(&filler).unwrap();
    sandbox.ok(&["up"]);
    assert_eq!(sandbox.inside("cat ~/kept"), "kept");
    sandbox.ok(&["destroy", "--force"]);
    drop(disk);
}

#[test]
fn a_full_disk_during_a_box_build_or_add_leaves_the_store_as_it_was() {
    let sandbox = Sandbox::bare(posada_tests::sandbox::Caller::Root);
    let _disk = Mount::new(&["-t", "tmpfs", "-o", "size=4m,mode=700", "tmpfs"], sandbox.home());
    let tree = sandbox.root().join("tree");
    fs::create_dir_all(&tree).unwrap();
    system(
        "dd",
        &["if=/dev/urandom", "bs=1M", "count=16", &format!("of={}/big", tree.display()), "status=none"],
    );
    let archive = sandbox.root().join("big.tar");
    system("tar", &["-C", tree.to_str().unwrap(), "-cf", archive.to_str().unwrap(), "."]);
    let outcome = sandbox.run(&["box", "add", archive.to_str().unwrap(), "--name", "mine/big"]);
    assert_eq!(outcome.code, 4, "{outcome}");
    assert!(outcome.mentions("space") || outcome.mentions("full"), "{outcome}");
    let list = sandbox.ok(&["box", "list", "--json"]);
    assert!(!list.mentions("mine/big"), "{list}");
    let used = sandbox::run(Command::new("du"), &["-sm", sandbox.home().to_str().unwrap()]);
    let megabytes: u64 = used.stdout.split_whitespace().next().unwrap().parse().unwrap();
    assert!(megabytes <= 1, "what was begun is cleared away: {used}");
}

#[test]
fn a_read_only_project_folder_is_no_hindrance() {
    let sandbox = Sandbox::with(
        "box: debian/12\nprovider: container\nsynced_folders:\n  - {source: ., target: /srv/project, read_only: true}\n",
    );
    let project = sandbox.project().to_owned();
    let read_only = Mount::new(&["--bind", "-o", "ro", project.to_str().unwrap()], &project);
    sandbox.ok(&["up"]);
    assert_eq!(sandbox.inside("ls /srv/project"), "Vmfile");
    sandbox.ok(&["destroy", "--force"]);
    // A folder that would have to be made there cannot be, and that is said.
    drop(read_only);
    sandbox.vmfile("box: debian/12\nprovider: container\nsynced_folders:\n  - {source: ./new, target: /srv/new, create: true}\n");
    let _read_only = Mount::new(&["--bind", "-o", "ro", project.to_str().unwrap()], &project);
    sandbox.run(&["up"]).ended_with(4).says("new");
}

#[test]
fn no_user_namespaces() {
    let sandbox = Sandbox::with(VMFILE);
    // A namespace in which no further one may be made: the kernel counts per owner, so nobody else is touched.
    let script = format!(
        "echo 0 > /proc/sys/user/max_user_namespaces && exec {} up",
        posada_tests::place::binary().display()
    );
    let mut command = sandbox.program("unshare");
    command.env("POSADA_HOME", sandbox.home());
    let outcome = sandbox::run(command, &["--user", "--map-root-user", "sh", "-c", &script]);
    assert_eq!(outcome.code, 4, "{outcome}");
    assert!(outcome.mentions("user namespaces"), "{outcome}");
}

#[test]
fn a_missing_tool_is_named() {
    let sandbox = Sandbox::bare(posada_tests::sandbox::Caller::Root);
    // The tool is gone in a mount namespace of this command's own.
    let (upper, work) = (sandbox.root().join("upper"), sandbox.root().join("work"));
    for folder in [&upper, &work] {
        fs::create_dir(folder).unwrap();
    }
    let script = format!(
        "mount -t overlay overlay -o lowerdir=/usr/bin,upperdir={},workdir={} /usr/bin && rm /usr/bin/mmdebstrap && exec {} box build debian/12",
        upper.display(),
        work.display(),
        posada_tests::place::binary().display()
    );
    let command = sandbox.program("unshare");
    sandbox::run(command, &["--mount", "sh", "-c", &script]).ended_with(4).says("mmdebstrap").says("apt");
}

#[test]
fn a_vmfile_changed_under_a_running_machine() {
    let sandbox = Sandbox::with("box: debian/12\nprovider: container\n");
    sandbox.ok(&["up"]);
    let id = sandbox.machine_id();
    sandbox.vmfile("box: debian/12\nprovider: container\nhostname: changed\nmemory: 512M\nnetworks:\n  - forward: 'auto:22'\n");
    // The machine goes on as it was started, and that is said.
    sandbox.ok(&["up"]).says("reload");
    assert_eq!(sandbox.inside("hostname"), "default");
    sandbox.ok(&["reload"]);
    assert_eq!(sandbox.inside("hostname"), "changed");
    assert_eq!(sandbox.machine_id(), id, "it is the same machine");
    assert!(sandbox.ok(&["port", "default", "22"]).stdout.trim().parse::<u16>().is_ok());

    // A machine whose entry is gone is not forgotten.
    sandbox.vmfile("box: debian/12\nprovider: container\nmachines: {renamed: {}}\n");
    sandbox.ok(&["status"]).says("default");
    sandbox.ok(&["global-status"]).says(&id);
    sandbox.ok(&["destroy", "--force", "--id", &id]);

    // A Vmfile that broke meanwhile does not keep one from stopping what runs.
    sandbox.vmfile(VMFILE);
    sandbox.ok(&["up"]);
    let id = sandbox.machine_id();
    sandbox.vmfile("box: [");
    sandbox.run(&["status"]).ended_with(3);
    sandbox.ok(&["destroy", "--force", "--id", &id]);
}

#[test]
fn the_box_is_removed_under_a_machine() {
    let sandbox = Sandbox::with("box: mine/copy\nprovider: container\n");
    // A store of its own: this test takes a box away.
    let store = fs::read_link(sandbox.home().join("boxes")).unwrap();
    fs::remove_file(sandbox.home().join("boxes")).unwrap();
    system("cp", &["-al", store.to_str().unwrap(), sandbox.home().join("boxes").to_str().unwrap()]);
    sandbox.vmfile(VMFILE);
    sandbox.ok(&["up"]);
    let refused = sandbox.run(&["box", "remove", "debian/12", "--all"]);
    assert_ne!(refused.code, 0, "a machine stands on it\n{refused}");
    assert!(refused.mentions(&sandbox.machine_id()) || refused.mentions("default"), "{refused}");
    assert_eq!(sandbox.inside("echo alive"), "alive");
    sandbox.ok(&["destroy", "--force"]);
    sandbox.ok(&["box", "remove", "debian/12", "--all", "--force"]);
    sandbox.run(&["up"]).ended_with(7).says("debian/12");
}

#[test]
fn a_damaged_state_file_is_told_and_destroy_still_works() {
    let sandbox = Sandbox::with(&format!("{VMFILE}provision:\n  - 'true'\n"));
    let root = sandbox.root().display().to_string();
    let before = HostSnapshot::take(&[&root]);
    sandbox.ok(&["up"]);
    let id = sandbox.machine_id();
    let folder = sandbox.machine_folder();
    fs::write(folder.join("provision.json"), "{ half a").unwrap();
    let told = sandbox.run(&["provision"]);
    assert!(told.code != 0 && told.mentions("provision.json"), "{told}");
    sandbox.ok(&["destroy", "--force"]);
    before.expect_again(&[&root, &id]);
}

#[test]
fn an_sshd_that_does_not_come_is_told_with_the_console() {
    let sandbox = Sandbox::with("box: debian/12\nprovider: container\nssh: {boot_timeout: 5s}\n");
    sandbox.ok(&["up"]);
    sandbox.inside(
        "sudo systemctl mask ssh.service ssh.socket; sudo systemctl disable ssh.service ssh.socket; sync",
    );
    sandbox.ok(&["halt"]);
    let outcome = sandbox.run(&["up"]).ended_with(5);
    assert!(outcome.mentions("port 22"), "{outcome}");
    assert!(
        outcome.mentions("console") || outcome.mentions("systemd"),
        "the console's last lines are shown\n{outcome}"
    );
}

#[test]
fn destroy_asks_and_without_a_terminal_says_how() {
    let sandbox = Sandbox::with(VMFILE);
    sandbox.ok(&["up"]);
    sandbox.run(&["destroy"]).ended_with(2).says("destroy -f");
    assert_eq!(sandbox.state("default").as_deref(), Some("running"));
    let mut command = sandbox.posada();
    command.arg("destroy").env("TERM", "xterm");
    let mut terminal = posada_tests::Terminal::start(command);
    terminal.expect("default");
    terminal.type_line("n");
    let (_, seen) = terminal.end();
    assert_eq!(sandbox.state("default").as_deref(), Some("running"), "{seen}");
    let mut command = sandbox.posada();
    command.arg("destroy").env("TERM", "xterm");
    let mut terminal = posada_tests::Terminal::start(command);
    terminal.expect("default");
    terminal.type_line("y");
    let (code, seen) = terminal.end();
    assert_eq!(code, 0, "{seen}");
    assert!(sandbox.machine_folders().is_empty());
}
