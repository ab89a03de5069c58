//! Synced folders: whose files are whose, on both sides, and who is told of changes.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::process::{Command, Stdio};

use posada_tests::{Sandbox, wait};

const VMFILE: &str = "\
box: debian/12
provider: container
synced_folders:
  - {source: ./shared, target: /srv/shared}
  - {source: ./fixed, target: /srv/fixed, read_only: true}
  - {source: ./made, target: /srv/made, create: true}
";

fn sandbox() -> Sandbox {
    let sandbox = Sandbox::with(VMFILE);
    sandbox.file("shared/from-host", "host");
    sandbox.file("fixed/page", "fixed");
    // The project belongs to an ordinary user, as it does where root runs posada for somebody.
    for path in ["shared", "shared/from-host"] {
        std::os::unix::fs::chown(sandbox.project().join(path), Some(4321), Some(4321)).unwrap();
    }
    sandbox
}

#[test]
fn files_belong_to_the_caller_on_both_sides() {
    let sandbox = sandbox();
    sandbox.ok(&["up"]);
    assert_eq!(
        sandbox.inside("stat -c '%U:%G' /srv/shared /srv/shared/from-host"),
        "posada:posada\nposada:posada"
    );
    sandbox.inside("echo inside > /srv/shared/from-machine && mkdir /srv/shared/folder");
    for name in ["from-machine", "folder"] {
        let metadata = fs::metadata(sandbox.project().join("shared").join(name)).unwrap();
        assert_eq!((metadata.uid(), metadata.gid()), (4321, 4321), "{name}");
    }
    // What is made outside while it runs is the login user's inside, who may change and remove it.
    let late = sandbox.file("shared/late", "late");
    std::os::unix::fs::chown(&late, Some(4321), Some(4321)).unwrap();
    assert_eq!(
        sandbox.inside("echo more >> /srv/shared/late && cat /srv/shared/late && rm /srv/shared/late"),
        "latemore"
    );
    assert!(!late.exists());
    // The machine's root makes no file of host root's.
    sandbox.inside("sudo touch /srv/shared/by-root || true");
    if let Ok(metadata) = fs::metadata(sandbox.project().join("shared/by-root")) {
        assert_ne!(metadata.uid(), 0, "host root's file was made from inside");
    }
}

#[test]
fn a_set_user_id_program_of_the_machine_has_no_power_outside() {
    let sandbox = sandbox();
    sandbox.ok(&["up"]);
    sandbox.inside("cp /bin/sh /srv/shared/sh && chmod 4755 /srv/shared/sh; sudo chown root /srv/shared/sh 2>/dev/null; true");
    let metadata = fs::metadata(sandbox.project().join("shared/sh")).unwrap();
    assert!(metadata.uid() != 0 || metadata.mode() & 0o4000 == 0, "a set-user-id file of host root");
}

#[test]
fn a_read_only_folder_cannot_be_written_and_a_missing_one_is_made() {
    let sandbox = sandbox();
    sandbox.ok(&["up"]);
    assert_eq!(sandbox.inside("cat /srv/fixed/page"), "fixed");
    assert_eq!(sandbox.inside("touch /srv/fixed/new 2>/dev/null || echo refused"), "refused");
    assert_eq!(sandbox.inside("sudo mount -o remount,rw /srv/fixed 2>/dev/null || echo refused"), "refused");
    assert_eq!(sandbox.inside("sudo touch /srv/fixed/new 2>/dev/null || echo refused"), "refused");
    assert!(sandbox.project().join("made").is_dir());
}

#[test]
fn a_missing_folder_that_is_not_to_be_made_is_told() {
    let sandbox = Sandbox::with(
        "box: debian/12\nprovider: container\nsynced_folders:\n  - {source: ./nowhere, target: /srv/nowhere}\n",
    );
    let outcome = sandbox.run(&["up"]);
    assert_ne!(outcome.code, 0, "{outcome}");
    outcome.says("nowhere").says("create");
}

/// A watcher inside sees what is done outside: made, changed, renamed, deleted.
#[test]
fn inotify_tells_the_machine_of_the_hosts_changes() {
    let sandbox = sandbox();
    sandbox.ok(&["up"]);
    let script = WATCH.replace("FOLDER", "/srv/shared");
    let mut command = sandbox.posada();
    // What is watched for is said on standard output, one event a line.
    command.args(["ssh", "-c", &format!("exec perl -e '{script}'")]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut events = Lines::new(child.stdout.take().unwrap());
    events.wait_for("ready");
    change(&sandbox.project().join("shared"));
    for event in ["create new", "modify new", "moved_to renamed", "delete renamed"] {
        events.wait_for(event);
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

/// And the other way round.
#[test]
fn inotify_tells_the_host_of_the_machines_changes() {
    let sandbox = sandbox();
    sandbox.ok(&["up"]);
    let script = WATCH.replace("FOLDER", &sandbox.project().join("shared").display().to_string());
    let mut child = Command::new("perl").arg("-e").arg(script).stdout(Stdio::piped()).spawn().unwrap();
    let mut events = Lines::new(child.stdout.take().unwrap());
    events.wait_for("ready");
    sandbox.inside("cd /srv/shared && touch new && echo x >> new && mv new renamed && rm renamed");
    for event in ["create new", "modify new", "moved_to renamed", "delete renamed"] {
        events.wait_for(event);
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

fn change(folder: &std::path::Path) {
    let new = folder.join("new");
    fs::write(&new, "").unwrap();
    fs::write(&new, "x").unwrap();
    fs::rename(&new, folder.join("renamed")).unwrap();
    fs::remove_file(folder.join("renamed")).unwrap();
}

/// inotify(7) by bare system calls, in the one language that every Debian has; prints one event a line.
/// No single quotes: it travels in them.
const WATCH: &str = r#"
use POSIX ();
my ($init, $add) = (POSIX::uname())[4] eq "aarch64" ? (26, 27) : (294, 254);
my %names = (0x2, "modify", 0x80, "moved_to", 0x100, "create", 0x200, "delete");
my $fd = syscall($init, 0);
die "inotify_init1: $!" if $fd < 0;
my $folder = "FOLDER";
die "inotify_add_watch: $!" if syscall($add, $fd, $folder, 0x382) < 0;
open(my $events, "<&=", $fd) or die;
$| = 1;
print "ready\n";
while (sysread($events, my $data, 65536)) {
    while (length $data) {
        my ($mask, $length) = (unpack("iLLL", $data))[1, 3];
        my $name = substr($data, 16, $length);
        $name =~ s/\0.*//s;
        print(($names{$mask} // $mask) . " $name\n");
        $data = substr($data, 16 + $length);
    }
}
"#;

/// Lines as they come, read by a thread.
struct Lines {
    receiver: std::sync::mpsc::Receiver<String>,
    seen: Vec<String>,
}

impl Lines {
    fn new(mut from: impl std::io::Read + Send + 'static) -> Self {
        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let (mut buffer, mut pending) = ([0; 4096], String::new());
            while let Ok(length @ 1..) = from.read(&mut buffer) {
                pending.push_str(&String::from_utf8_lossy(&buffer[..length]));
                while let Some(end) = pending.find('\n') {
                    let line = pending[..end].trim_end().to_owned();
                    pending.drain(..=end);
                    if sender.send(line).is_err() {
                        return;
                    }
                }
            }
        });
        Self { receiver, seen: Vec::new() }
    }

    #[track_caller]
    fn wait_for(&mut self, wanted: &str) {
        while !self.seen.iter().any(|line| line == wanted) {
            match self.receiver.recv_timeout(std::time::Duration::from_secs(30)) {
                Ok(line) => self.seen.push(line),
                Err(error) => panic!("`{wanted}` does not come ({error}); seen: {:?}", self.seen),
            }
        }
    }
}

#[test]
fn a_moved_project_folder_keeps_its_machine_and_a_deleted_one_can_be_destroyed() {
    let sandbox = Sandbox::new();
    let project = sandbox.root().join("movable");
    fs::create_dir_all(&project).unwrap();
    fs::write(project.join("Vmfile"), "box: debian/12\nprovider: container\n").unwrap();
    let run = |directory: &std::path::Path, arguments: &[&str]| {
        let mut command = sandbox.posada();
        command.current_dir(directory);
        posada_tests::sandbox::run(command, arguments)
    };
    run(&project, &["up"]).ok();
    let id = sandbox.machine_id();
    fs::remove_dir_all(&project).unwrap();
    // The folder is gone; the machine runs, is listed, and can be removed.
    run(sandbox.root(), &["global-status"]).ok().says(&id);
    run(sandbox.root(), &["destroy", "--force", "--id", &id]).ok();
    wait::until_true("the machine's folder to go", || sandbox.machine_folders().is_empty());
}
