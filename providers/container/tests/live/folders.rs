//! Synced folders: owners both ways, read-only, events both ways.

use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;

use libtest_mimic::Trial;
use posada_provider_api::{ProviderError, SyncedFolder};
use rustix::fs::inotify;

use crate::rig::Machine;
use crate::trial;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("files_in_folders_have_the_right_owners_both_ways", owners),
        trial("a_read_only_folder_is_read_only", read_only),
        trial("folders_tell_of_changes_both_ways", events),
        trial("a_folder_that_is_not_there_is_made_or_told", missing),
        trial("links_in_the_box_lead_nowhere_else", links),
    ]
}

fn folder(source: &Path, target: &str) -> SyncedFolder {
    SyncedFolder { source: source.to_owned(), target: target.into(), read_only: false, create: false }
}

pub async fn owners() {
    let mut machine = Machine::new("web");
    let source = machine.scratch("project");
    let me = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    if me.0 == 0 {
        // A folder of an ordinary user, shared by root.
        chown(&source, Some(4321), Some(4322)).unwrap();
    }
    let owner = std::fs::metadata(&source).map(|metadata| (metadata.uid(), metadata.gid())).unwrap();
    std::fs::write(source.join("outside"), "from outside").unwrap();
    chown(source.join("outside"), Some(owner.0), Some(owner.1)).unwrap();
    machine.spec.folders.push(folder(&source, "/home/posada/deep/project"));
    let live = machine.start().await.unwrap();
    live.boot();
    let project = "/home/posada/deep/project";
    assert_eq!(
        live.out(&format!("stat -c %u:%g {project} {project}/outside {project}/..")),
        "1000:1000\n1000:1000\n1000:1000"
    );
    live.out(&format!("su posada -c 'echo inside > {project}/inside; echo more >> {project}/outside'"));
    live.out(&format!("echo root > {project}/root"));
    let made = std::fs::metadata(source.join("inside")).unwrap();
    assert_eq!((made.uid(), made.gid()), owner);
    assert_eq!(std::fs::read_to_string(source.join("outside")).unwrap(), "from outsidemore\n");
    let by_root = std::fs::metadata(source.join("root")).unwrap();
    assert!(by_root.uid() > 65_535, "the machine's root is nobody on the host: {}", by_root.uid());
    assert_eq!(live.out(&format!("stat -c %u:%g {project}/root")), "0:0");
    // A program with the setuid bit gives no rights inside.
    let options = live.out(&format!("findmnt -no OPTIONS {project} || grep {project} /proc/mounts"));
    assert!(options.contains("nosuid") && options.contains("nodev"), "{options}");
    live.out(&format!("rm {project}/root"));
    live.keeper.kill().unwrap();
    live.end().await;
}

pub async fn read_only() {
    let mut machine = Machine::new("web");
    let source = machine.scratch("project");
    std::fs::write(source.join("file"), "text").unwrap();
    machine.spec.folders.push(SyncedFolder { read_only: true, ..folder(&source, "/data") });
    let live = machine.start().await.unwrap();
    live.boot();
    assert_eq!(live.out("cat /data/file"), "text");
    let told = live.sh("touch /data/new; rm /data/file; mount -o remount,bind,rw /data; touch /data/new");
    let errors = String::from_utf8_lossy(&told.stderr).into_owned();
    assert!(errors.contains("Read-only file system"), "{errors}");
    live.keeper.kill().unwrap();
    live.end().await;
    assert_eq!(std::fs::read_dir(&source).unwrap().count(), 1);
}

pub async fn events() {
    let mut machine = Machine::new("web");
    let source = machine.scratch("project");
    chown(&source, Some(4321), Some(4322)).unwrap();
    machine.spec.folders.push(folder(&source, "/data"));
    let live = machine.start().await.unwrap();
    live.boot();

    let watch = inotify::init(inotify::CreateFlags::CLOEXEC).unwrap();
    inotify::add_watch(&watch, &source, inotify::WatchFlags::CREATE | inotify::WatchFlags::DELETE).unwrap();
    live.out("touch /data/file; rm /data/file");
    let mut buffer = [const { std::mem::MaybeUninit::uninit() }; 4096];
    let mut reader = inotify::Reader::new(&watch, &mut buffer);
    let mut seen = Vec::new();
    while seen.len() < 2 {
        seen.push(reader.next().unwrap().events());
    }
    assert_eq!(seen, [inotify::ReadFlags::CREATE, inotify::ReadFlags::DELETE]);

    // The other way: perl calls inotify_init1, inotify_add_watch (CREATE, DELETE) and reads two events.
    let script = r#"$| = 1; $f = syscall(294, 0); $p = "/data"; syscall(254, $f, $p, 0x300) >= 0 or die;
        open($r, ">", "/data/.ready"); print $r "ready"; close $r; open($h, "<&=", $f);
        while ($n < 3) { sysread($h, $b, 4096); while (length $b) {
            ($w, $m, $c, $l) = unpack("lLLL", $b); printf "%x\n", $m; $b = substr($b, 16 + $l); $n++; } }"#;
    live.out(&format!("cat > /srv/watch.pl <<'E'\n{script}\nE"));
    let seen = std::thread::scope(|scope| {
        let watcher = scope.spawn(|| live.out("timeout 60 perl /srv/watch.pl"));
        wait_for_text(&source.join(".ready"));
        std::fs::write(source.join("from-outside"), "").unwrap();
        std::fs::remove_file(source.join("from-outside")).unwrap();
        watcher.join().unwrap()
    });
    assert_eq!(seen, "100\n100\n200", "its own file, and ours come and gone");
    live.keeper.kill().unwrap();
    live.end().await;
}

/// Waits until a file has text, by events.
fn wait_for_text(path: &Path) {
    let watch = inotify::init(inotify::CreateFlags::CLOEXEC).unwrap();
    let flags = inotify::WatchFlags::MODIFY | inotify::WatchFlags::CREATE;
    inotify::add_watch(&watch, path.parent().unwrap(), flags).unwrap();
    let mut buffer = [const { std::mem::MaybeUninit::uninit() }; 4096];
    let mut reader = inotify::Reader::new(&watch, &mut buffer);
    while !std::fs::metadata(path).is_ok_and(|metadata| metadata.len() > 0) {
        reader.next().unwrap();
    }
}

async fn missing() {
    let mut machine = Machine::new("web");
    let source = machine.scratch("project").join("not/there");
    machine.spec.folders.push(folder(&source, "/data"));
    let error = machine.start().await.err().unwrap();
    assert!(matches!(&error, ProviderError::Host { what, .. } if what.contains("not/there")), "{error}");
    machine.spec.folders[0].create = true;
    let live = machine.start().await.unwrap();
    live.out("test -d /data && grep -q ' /data ' /proc/mounts");
    live.keeper.kill().unwrap();
    live.end().await;
    assert!(source.is_dir());
}

async fn links() {
    let mut machine = Machine::new("web");
    let source = machine.scratch("project");
    let host = machine.scratch("host");
    machine.spec.folders.push(folder(&source, "/data/x"));
    let live = machine.start().await.unwrap();
    live.boot();
    // The next start writes and mounts at these places.
    let outside = host.display();
    live.out(&format!(
        "umount /data/x; rm -rf /data /etc/ssh/sshd_config.d; ln -s {outside} /data; ln -s {outside} /etc/ssh/sshd_config.d; \
         rm -f /etc/hosts /etc/resolv.conf; ln -s {outside}/hosts /etc/hosts; ln -s {outside}/resolv /etc/resolv.conf; \
         rm -rf /home/posada/.ssh; ln -s {outside} /home/posada/.ssh"
    ));
    live.out("systemctl poweroff");
    live.end().await;
    // What a link leads to is looked for inside, where it is not: the start fails or makes it there.
    match machine.start().await {
        Ok(live) => {
            live.keeper.kill().unwrap();
            live.end().await;
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    assert_eq!(std::fs::read_dir(&host).unwrap().count(), 0, "nothing is written outside");
}
