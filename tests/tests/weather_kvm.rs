//! Bad input and bad weather of virtual machines, as far as it comes before a guest runs: each gets its clear error and
//! its exit status. None needs a KVM that runs stock kernels; those that need some `/dev/kvm` are passed over without.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use posada_tests::sandbox::Caller;
use posada_tests::{Outcome, Sandbox, place, sandbox};

const VMFILE: &str = "box: mine/vm\nprovider: kvm\n";

#[track_caller]
fn system(program: &str, arguments: &[&str]) {
    let outcome = sandbox::run(Command::new(program), arguments);
    assert_eq!(outcome.code, 0, "{outcome}");
}

fn bare() -> Sandbox {
    place::needs_root();
    Sandbox::bare(Caller::Root)
}

fn path(sandbox: &Sandbox, name: &str) -> PathBuf {
    sandbox.root().join(name)
}

fn text(path: &Path) -> &str {
    path.to_str().expect("text")
}

/// A disk of one ext4 file system with a system that has what `boot` is: name and content below `/boot`.
fn disk(sandbox: &Sandbox, boot: &[(&str, &[u8])]) -> PathBuf {
    let (tree, image) = (path(sandbox, "tree"), path(sandbox, "disk.raw"));
    let passwd = "root:x:0:0::/root:/bin/sh\nana:x:1000:1000::/home/ana:/bin/sh\n";
    let files = [("etc/os-release", "ID=debian\n"), ("etc/passwd", passwd), ("usr/bin/cloud-init", "")];
    let files = files.iter().map(|(name, content)| ((*name).to_owned(), content.as_bytes()));
    for (name, content) in files.chain(boot.iter().map(|(name, content)| (format!("boot/{name}"), *content)))
    {
        let file = tree.join(name);
        fs::create_dir_all(file.parent().expect("a folder")).expect("made");
        fs::write(file, content).expect("written");
    }
    fs::create_dir_all(tree.join("usr/sbin")).expect("made");
    fs::copy("/bin/true", tree.join("usr/sbin/init")).expect("copied");
    std::os::unix::fs::symlink("usr/sbin", tree.join("sbin")).expect("linked");
    fs::File::create(&image).and_then(|file| file.set_len(24 << 20)).expect("a file");
    system("mke2fs", &["-q", "-t", "ext4", "-F", "-d", text(&tree), text(&image)]);
    image
}

#[track_caller]
fn add(sandbox: &Sandbox, image: &Path) -> Outcome {
    sandbox.run(&["box", "add", text(image), "--name", "mine/vm"])
}

#[test]
fn images_that_are_none_are_refused_with_what_is_wrong_and_what_to_do() {
    let sandbox = bare();
    let whole = disk(&sandbox, &[]);
    let at = |name: &str| path(&sandbox, name);
    system("qemu-img", &["convert", "-O", "qcow2", text(&whole), text(&at("whole.qcow2"))]);
    let bytes = fs::read(at("whole.qcow2")).expect("read");
    fs::write(at("cut.qcow2"), &bytes[..bytes.len() / 2]).expect("written");
    fs::write(at("header.qcow2"), &bytes[..3000]).expect("written");
    let mut damaged = bytes.clone();
    // The offset of the first table (qcow2 specification, "Header": bytes 40 to 47) leads behind the end.
    damaged[40..48].copy_from_slice(&(1_u64 << 50).to_be_bytes());
    fs::write(at("damaged.qcow2"), &damaged).expect("written");
    fs::write(at("junk.raw"), b"nothing that anybody knows ".repeat(100_000)).expect("written");
    fs::write(at("zeros.raw"), vec![0; 8 << 20]).expect("written");
    let create = |base: &str, format: &str, name: &str| {
        system(
            "qemu-img",
            &["create", "-q", "-f", "qcow2", "-F", format, "-b", base, text(&at(name)), "24M"],
        );
    };
    create(text(&whole), "raw", "backed.qcow2");
    create(text(&whole), "raw", "loop.qcow2");
    create(text(&at("loop.qcow2")), "qcow2", "loop2.qcow2");
    let other = at("loop2.qcow2");
    system(
        "qemu-img",
        &["rebase", "-u", "-f", "qcow2", "-F", "qcow2", "-b", text(&other), text(&at("loop.qcow2"))],
    );
    for (name, wrong, remedy) in [
        ("cut.qcow2", "ends too early", "fetch or make the image again"),
        ("header.qcow2", "ends too early", "fetch or make the image again"),
        ("damaged.qcow2", "damaged.qcow2", "nothing was stored"),
        ("junk.raw", "junk.raw", "a disk image, or a machine (OVA, XVA, Vagrant's boxes)"),
        ("zeros.raw", "empty", "a disk image, or a machine (OVA, XVA, Vagrant's boxes)"),
        ("backed.qcow2", "only the changes to another image", "qemu-img convert"),
        ("loop.qcow2", "only the changes to another image", "qemu-img convert"),
    ] {
        add(&sandbox, &at(name)).ended_with(7).says(name).says(wrong).says(remedy);
    }
    assert!(!sandbox.ok(&["box", "list"]).mentions("mine/vm"));
    sandbox.vmfile("box: mine/vm\nprovider: kvm\n");
    assert!(sandbox.machine_folders().is_empty());
}

/// Runs `up` where `script` has changed what this one process sees of the host.
fn up_where(sandbox: &Sandbox, script: &str) -> Outcome {
    let script = format!("set -e\n{script}\nexec {} up", place::binary().display());
    let mut command = sandbox.program("unshare");
    command.env("POSADA_HOME", sandbox.home());
    sandbox::run(command, &["--mount", "--propagation=private", "sh", "-c", &script])
}

/// A `/dev` that has what every program needs, and `/dev/kvm` only where `more` makes one.
fn dev(sandbox: &Sandbox, more: &str) -> String {
    let folder = path(sandbox, "dev");
    fs::create_dir_all(&folder).expect("made");
    format!(
        "d={}\nmount -t tmpfs -o mode=755 tmpfs $d\n\
         for n in null zero full random urandom tty; do : >$d/$n; mount --bind /dev/$n $d/$n; done\n{more}\n\
         mount --move $d /dev",
        folder.display()
    )
}

/// A CPU that shows `flags`.
fn cpu(sandbox: &Sandbox, flags: &str) -> String {
    let file = path(sandbox, "cpuinfo");
    fs::write(&file, format!("processor\t: 0\nflags\t\t: fpu {flags}\n")).expect("written");
    format!("mount --bind {} /proc/cpuinfo", file.display())
}

#[test]
fn no_kvm_is_told_with_what_is_in_the_way() {
    let sandbox = bare();
    sandbox.vmfile(VMFILE);
    let script = format!("{}\n{}", cpu(&sandbox, "svm"), dev(&sandbox, ""));
    up_where(&sandbox, &script).ended_with(4).says("no working /dev/kvm").says("modprobe");
    let script = format!("{}\n{}", cpu(&sandbox, ""), dev(&sandbox, ""));
    up_where(&sandbox, &script).ended_with(4).says("neither vmx nor svm").says("firmware");
    let script = format!("{}\n{}", cpu(&sandbox, "vmx"), dev(&sandbox, "echo no device >$d/kvm"));
    up_where(&sandbox, &script).ended_with(4).says("/dev/kvm does not work").says("modprobe");
    assert!(sandbox.machine_folders().is_empty(), "nothing was made");
}

#[test]
fn a_kvm_that_is_not_the_callers_to_open() {
    let sandbox = bare();
    sandbox.vmfile(VMFILE);
    // Nobody in particular, to whom the home belongs.
    let become_nobody = format!(
        "chown -R 65534:65534 {}\nset -- setpriv --reuid=65534 --regid=65534 --clear-groups",
        sandbox.home().display()
    );
    let closed = dev(&sandbox, ": >$d/kvm; chmod 600 $d/kvm");
    let script = format!(
        "{}\n{closed}\n{become_nobody}\nexec \"$@\" {} up",
        cpu(&sandbox, "svm"),
        place::binary().display()
    );
    // The binary may lie where only root can go.
    let reachable = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", "test", "-x"])
        .arg(place::binary())
        .status()
        .is_ok_and(|status| status.success());
    assert!(reachable, "others cannot run {}", place::binary().display());
    up_where(&sandbox, &script).ended_with(4).says("/dev/kvm is not yours to open").says("usermod -aG kvm");
}

/// Whether `/dev/kvm` is there at all; says so where it is not.
#[allow(clippy::print_stderr)]
fn some_kvm() -> bool {
    let there = fs::File::options().read(true).write(true).open("/dev/kvm").is_ok();
    if !there {
        eprintln!("**** NOT RUN: there is no /dev/kvm ****");
    }
    there
}

/// What a distribution's boot loader would start.
const GRUB: (&str, &[u8]) = ("grub/grub.cfg", b"menuentry a { linux /boot/vmlinuz root=/dev/vda }\n");

#[test]
fn a_kernel_that_is_none_and_none_at_all() {
    if !some_kvm() {
        return;
    }
    for (boot, wrong) in [
        (&[GRUB, ("vmlinuz", &[0x5a; 100_000][..])][..], "kernel"),
        (&[("README", &b"nothing"[..])][..], "no kernel"),
    ] {
        let sandbox = bare();
        let added = add(&sandbox, &disk(&sandbox, boot));
        sandbox.vmfile(VMFILE);
        // It may be refused as soon as it is seen, or when it is to run.
        let refused = if added.code == 0 { up_where(&sandbox, &cpu(&sandbox, "svm")) } else { added };
        refused.ended_with(7).says(wrong);
    }
}

#[test]
fn more_memory_than_the_host_has_and_too_few_descriptors() {
    if !some_kvm() {
        return;
    }
    let sandbox = bare();
    let mut kernel = vec![0x90; 200_000];
    kernel[0x202..0x206].copy_from_slice(b"HdrS");
    add(&sandbox, &disk(&sandbox, &[GRUB, ("vmlinuz", &kernel)])).ok();
    sandbox.vmfile(&format!("{VMFILE}memory: 9000G\n"));
    let outcome = up_where(&sandbox, &cpu(&sandbox, "svm"));
    outcome.ended_with(4).says("the host has").says("set `memory` lower");
    // Too few descriptors for a machine, and enough for a command.
    sandbox.vmfile(VMFILE);
    let few = format!("{}\nulimit -n 20", cpu(&sandbox, "svm"));
    up_where(&sandbox, &few).ended_with(4).says("open files").says("ulimit");
    sandbox.ok(&["destroy", "--force"]);
    assert!(sandbox.machine_folders().is_empty());
}
