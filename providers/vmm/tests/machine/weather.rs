//! A monitor that is killed while its guest writes.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use posada_vmm::config::{Disk, DiskFormat};

use crate::guest::Guest;

/// The tests of this file.
pub const ALL: &[(&str, fn())] =
    &[("weather::a_monitor_killed_in_mid_write_leaves_a_disk_whose_journal_replays", killed_in_mid_write)];

/// Names the folder of the disk to a process that is to be killed.
pub const VICTIM: &str = "POSADA_TEST_VICTIM";

/// After how many files that the guest has made durable its monitor is killed, a round each.
const ROUNDS: [u32; 2] = [4, 11];

/// Writes file after file, each of its own length and content, and says when it is durable.
const WRITES: &str = r#"
mkdir /mnt && mount -t ext4 /dev/vda /mnt || exit 1
i=0
while :; do
    i=$((i + 1))
    yes "file $i" | head -c $((i * 7919 % 200000 + 1)) | dd of=/mnt/$i bs=4k conv=fsync 2>/dev/null || exit 1
    echo "DURABLE $i"
done
"#;

fn disk(folder: &Path) -> Disk {
    Disk {
        path: folder.join("disk.qcow2"),
        format: DiskFormat::Qcow2,
        backing: vec![folder.join("base.raw")],
        read_only: false,
        serial: String::new(),
    }
}

/// Runs a guest that writes, and passes on what it says; never returns by itself.
pub fn run_victim(folder: &Path) {
    let mut guest = Guest::start(WRITES, |config| config.devices.disks.push(disk(folder)));
    loop {
        let line = guest.wait_for("DURABLE");
        say(line.trim());
    }
}

#[allow(clippy::print_stdout)]
fn say(line: &str) {
    println!("{line}");
}

fn run(command: &mut Command) {
    let output = command.output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}{}", String::from_utf8_lossy(&output.stdout));
}

fn check(image: &Path) {
    let checked = Command::new("qemu-img").arg("check").arg(image).output().expect("qemu-img runs");
    // 3: clusters that nothing uses, which cost room and nothing else.
    let said = String::from_utf8_lossy(&checked.stdout);
    assert!(matches!(checked.status.code(), Some(0 | 3)), "{said}");
}

fn killed_in_mid_write() {
    for rounds in ROUNDS {
        let temp = tempfile::tempdir().expect("a directory");
        let (folder, base) = (temp.path(), temp.path().join("base.raw"));
        std::fs::File::create(&base).and_then(|file| file.set_len(64 << 20)).expect("a file");
        run(Command::new("mke2fs").args(["-q", "-t", "ext4", "-F"]).arg(&base));
        let path = folder.join("disk.qcow2");
        run(Command::new("qemu-img")
            .args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b"])
            .arg(&base)
            .arg(&path));

        let mut victim = Command::new(std::env::current_exe().expect("this program"))
            .env(VICTIM, folder)
            .stdout(Stdio::piped())
            .spawn()
            .expect("it runs");
        let mut lines = BufReader::new(victim.stdout.take().expect("a pipe")).lines();
        let mut durable = lines.by_ref().take(rounds as usize).last().expect("lines").expect("a line");
        victim.kill().expect("it ran");
        victim.wait().expect("it ended");
        // What it could say before it died counts too.
        durable = lines.map_while(Result::ok).last().unwrap_or(durable);
        let files: u32 =
            durable.trim_start_matches("DURABLE ").parse().unwrap_or_else(|_| panic!("{durable}"));
        assert!(files >= rounds, "{files}");

        check(&path);

        let script = format!(
            "mkdir /mnt && mount -t ext4 /dev/vda /mnt && dmesg | grep 'recovery complete' && i=0 \
             && while [ $i -lt {files} ]; do i=$((i + 1)); \
             yes \"file $i\" | head -c $((i * 7919 % 200000 + 1)) | cmp - /mnt/$i || exit 1; done \
             && echo more >/mnt/more && umount /mnt"
        );
        let mut guest = Guest::start(&script, |config| config.devices.disks.push(disk(folder)));
        guest.wait_for("recovery complete");
        guest.finish();
        check(&path);
    }
}
