//! Devices under the drivers of a stock kernel.

use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;

use posada_vmm::config::{ChangeListener, Disk, DiskFormat, Folder, Nic, NicBackend, Owners, Port};
use posada_vmm::fuse::{RAISING, Root};

use crate::guest::Guest;

/// The tests of this file.
pub const ALL: &[(&str, fn())] = &[
    ("devices::disks_keep_what_is_written", disks_keep_what_is_written),
    ("devices::frames_go_both_ways", frames_go_both_ways),
    ("devices::a_folder_is_shared", a_folder_is_shared),
    ("devices::changes_of_the_host_are_told_and_raised", changes_of_the_host_are_told_and_raised),
    ("devices::memory_is_given_back", memory_is_given_back),
];

fn disk(path: &std::path::Path, read_only: bool) -> Disk {
    let serial = path.file_name().expect("a name").to_str().expect("text").to_owned();
    Disk { path: path.to_owned(), format: DiskFormat::Raw, backing: Vec::new(), read_only, serial }
}

fn disks_keep_what_is_written() {
    let temp = tempfile::tempdir().expect("a directory");
    let (first, second) = (temp.path().join("first"), temp.path().join("second"));
    std::fs::write(&first, vec![0; 16 << 20]).expect("written");
    let content: Vec<u8> = (0..4_u32 << 20).flat_map(u32::to_le_bytes).collect();
    std::fs::write(&second, &content).expect("written");
    let script = "cat /sys/block/vda/serial && cat /sys/block/vdb/ro \
        && dd if=/dev/vdb of=/dev/vda bs=1M conv=fsync && ! dd if=/dev/zero of=/dev/vdb bs=512 count=1";
    let mut guest = Guest::start(script, |config| {
        config.devices.disks = vec![disk(&first, false), disk(&second, true)];
    });
    guest.wait_for("first");
    guest.wait_for("1");
    guest.finish();
    assert!(std::fs::read(&first).expect("read") == content, "the copy differs");
    assert!(std::fs::read(&second).expect("read") == content, "what may only be read was written");
}

fn frames_go_both_ways() {
    let (ours, theirs) = UnixDatagram::pair().expect("a socket pair");
    ours.set_read_timeout(Some(std::time::Duration::from_secs(60))).expect("a timeout");
    let mac = [0x52, 0, 0, 0, 0, 9];
    let script = "ip link set eth0 up && cat /sys/class/net/eth0/mtu && ip address add 10.9.9.1/24 dev eth0 \
        && arping -c 1 -w 60 -I eth0 10.9.9.2";
    let mut guest = Guest::start(script, |config| {
        config.devices.nics.push(Nic { mac, mtu: 9000, backend: NicBackend::Frames(theirs.into()) });
    });
    guest.wait_for("9000");
    let mut frame = [0; 2048];
    loop {
        let length = ours.recv(&mut frame).expect("a frame");
        // An ARP request (RFC 826) for our address.
        if length >= 42 && frame[12..14] == [8, 6] && frame[38..42] == [10, 9, 9, 2] {
            break;
        }
    }
    assert_eq!(frame[6..12], mac);
    let mut answer = [0; 60];
    answer[..6].copy_from_slice(&mac);
    answer[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 1]);
    answer[12..22].copy_from_slice(&[8, 6, 0, 1, 8, 0, 6, 4, 0, 2]);
    answer[22..28].copy_from_slice(&[2, 0, 0, 0, 0, 1]);
    answer[28..32].copy_from_slice(&[10, 9, 9, 2]);
    answer[32..38].copy_from_slice(&mac);
    answer[38..42].copy_from_slice(&[10, 9, 9, 1]);
    ours.send(&answer).expect("sent");
    guest.finish();
}

fn folder(tag: &str, path: &Path) -> Folder {
    // SAFETY: neither call can fail or touches memory.
    let host = unsafe { (libc::geteuid(), libc::getegid()) };
    let root = Root::open(path).expect("a folder");
    let owners = Owners { host, guest: (1000, 1000) };
    Folder { tag: tag.to_owned(), root, read_only: false, owners, changes: None }
}

/// What the host does is told, and can be raised, also in a folder that may only be read. (That inotify hears of it is
/// tried where there is a system that has a program for it.)
fn changes_of_the_host_are_told_and_raised() {
    let temp = tempfile::tempdir().expect("a directory");
    std::fs::create_dir(temp.path().join("dir")).expect("made");
    std::fs::write(temp.path().join("dir/old"), "old").expect("written");
    let (ours, theirs) = UnixStream::pair().expect("a socket pair");
    let script = format!(
        "port=$(echo /dev/vport*p1) && mkdir /mnt /raise && mount -t virtiofs work /raise \
        && mount -t virtiofs -o ro work /mnt && cat /mnt/dir/old && echo LISTENING && while read -r path; do \
        touch -h -c -m -d @{RAISING} /raise/$path && echo RAISED $path; [ $path != dir/link ] || break; done <$port \
        && cat /mnt/dir/old && ! touch /mnt/dir/old && ! touch /raise/dir/old && stat -c 'MTIME %Y' /mnt/dir/old"
    );
    let mut guest = Guest::start(&script, |config| {
        let mut folder = folder("work", temp.path());
        folder.read_only = true;
        folder.changes = Some(ChangeListener::new(move |changes| {
            assert!(!changes.lost);
            for (path, _) in &changes.paths {
                writeln!(&ours, "{}", path.display()).expect("the guest is told");
            }
        }));
        config.devices.folders.push(folder);
        let name = "org.posada.test".to_owned();
        config.devices.ports.push(Port { name, stream: theirs.into() });
    });
    guest.wait_for("LISTENING");
    std::fs::write(temp.path().join("dir/old"), "changed on the host\n").expect("written");
    guest.wait_for("RAISED dir/old");
    std::fs::write(temp.path().join("dir/new"), "").expect("written");
    guest.wait_for("RAISED dir/new");
    std::os::unix::fs::symlink("/nowhere", temp.path().join("dir/link")).expect("made");
    guest.wait_for("RAISED dir/link");
    guest.wait_for("changed on the host");
    let seen = guest.wait_for("MTIME ");
    let mtime = std::fs::metadata(temp.path().join("dir/old")).expect("there").mtime();
    assert_eq!(seen.trim(), format!("MTIME {mtime}"));
    guest.finish();
}

fn a_folder_is_shared() {
    let temp = tempfile::tempdir().expect("a directory");
    std::fs::write(temp.path().join("from-host"), "hello guest").expect("written");
    let script = "mkdir /mnt && mount -t virtiofs work /mnt && grep -q 'hello guest' /mnt/from-host \
        && stat -c %u /mnt/from-host | grep -qx 1000 && echo 'hello host' >/mnt/from-guest \
        && ln -s from-guest /mnt/link && ln /mnt/from-guest /mnt/hard && mkdir /mnt/dir && mv /mnt/hard /mnt/dir/ \
        && dd if=/dev/urandom of=/mnt/big bs=1M count=8 && md5sum /mnt/big";
    let mut guest = Guest::start(script, |config| {
        config.devices.folders.push(folder("work", temp.path()));
    });
    let sum = guest.wait_for("/mnt/big");
    guest.finish();
    let read = |name: &str| std::fs::read_to_string(temp.path().join(name)).expect("read");
    assert_eq!(read("from-guest"), "hello host\n");
    assert_eq!(read("dir/hard"), "hello host\n");
    assert_eq!(std::fs::read_link(temp.path().join("link")).expect("a link").to_str(), Some("from-guest"));
    let output = std::process::Command::new("md5sum").arg(temp.path().join("big")).output().expect("md5sum");
    let ours = String::from_utf8(output.stdout).expect("text");
    assert_eq!(ours.split_whitespace().next(), sum.split_whitespace().next());
}

fn memory_is_given_back() {
    // A file in memory is made and removed; what it took is reported free.
    let script = "mkdir /big && mount -t tmpfs none /big && dd if=/dev/zero of=/big/file bs=1M count=120 \
        && echo FILLED && read line && rm /big/file && echo 3 >/proc/sys/vm/drop_caches && echo FREED && read line";
    let mut guest = Guest::start(script, |config| {
        config.devices.balloon = true;
        config.memory = 512 << 20;
    });
    guest.wait_for("FILLED");
    let filled = resident();
    guest.type_in("\n");
    guest.wait_for("FREED");
    // The driver reports free pages some seconds after they became free; its pace is the guest's, and this waits for
    // the fall however long it takes, up to the runner's patience.
    let mut now = resident();
    while now + (80 << 20) > filled {
        std::thread::sleep(std::time::Duration::from_millis(200));
        now = resident();
    }
    guest.type_in("\n");
    guest.finish();
}

/// Resident memory of this process, bytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("status");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("VmRSS");
    let kib: u64 = line.split_whitespace().nth(1).expect("a number").parse().expect("a number");
    kib << 10
}
