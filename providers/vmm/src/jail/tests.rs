//! Confinement is for good: each test confines a child of its own and looks how that ends.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus};

use super::*;

/// Set in a child, to what it is to do.
const DEED: &str = "POSADA_TEST_JAIL";

fn child(deed: &str) -> ExitStatus {
    let exe = std::env::current_exe().unwrap();
    let mut command = Command::new(exe);
    command.args(["--exact", "jail::tests::is_a_child", "--nocapture"]).env(DEED, deed);
    // A backtrace reads files that no device thread has any business with.
    command.env_remove("RUST_BACKTRACE");
    command.output().unwrap().status
}

fn readable() -> std::path::PathBuf {
    Path::new("/usr").to_owned()
}

/// The child's side; does nothing in an ordinary run.
#[test]
fn is_a_child() {
    let Ok(deed) = std::env::var(DEED) else { return };
    // The test harness has threads already, which is why only this one and those it starts are confined.
    let places = vec![Place { path: readable(), access: Access::Read }];
    enter(&Rules { places, capabilities: Vec::new() }).unwrap();
    let (kind, deed) = deed.split_once(':').unwrap_or(("", &deed));
    let deed = deed.to_owned();
    let work = move || commit(&deed);
    match kind {
        "" => work(),
        _ => {
            let kinds = [
                ("vcpu", ThreadKind::Vcpu),
                ("block", ThreadKind::Block),
                ("net", ThreadKind::Net),
                ("fs", ThreadKind::Fs),
                ("stream", ThreadKind::Stream),
            ];
            let kind = kinds.iter().find(|(name, _)| *name == kind).unwrap().1;
            spawn(kind, "confined", work).unwrap().join().unwrap();
        }
    }
    std::process::exit(7);
}

fn commit(deed: &str) {
    let refused = |path: &str| {
        let error = std::fs::File::open(path).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied);
    };
    match deed {
        "nothing" => {}
        "read" => drop(std::fs::read_dir(readable()).unwrap().count()),
        "steal" => refused("/etc/passwd"),
        "write" => {
            let error = std::fs::File::create("/usr/posada-test").unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied);
        }
        "exec" => {
            let words = [c"/usr/bin/true".as_ptr(), std::ptr::null()];
            // SAFETY: the path and the list of words are terminated.
            unsafe { libc::execv(words[0], words.as_ptr()) };
        }
        "socket" => {
            // SAFETY: makes a socket and leaks it.
            unsafe { libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0) };
        }
        "mount" => {
            // SAFETY: all arguments are null.
            unsafe { libc::umount2(c"/nowhere".as_ptr(), 0) };
        }
        "kvm" => {
            // SAFETY: KVM_CREATE_VM on a descriptor that is none.
            unsafe { libc::ioctl(-1, 0xae01, 0) };
        }
        "allocate" => {
            let blocks: Vec<Vec<u8>> = (0..2000).map(|size| vec![1; size * 100]).collect();
            assert_eq!(blocks.len(), 2000);
        }
        "panic" => {
            let caught = std::panic::catch_unwind(|| panic!("on purpose"));
            assert!(caught.is_err());
        }
        _ => unreachable!("{deed}"),
    }
}

fn dies(deed: &str) {
    let status = child(deed);
    assert_eq!(status.signal(), Some(libc::SIGSYS), "{deed}: {status}");
}

fn lives(deed: &str) {
    let status = child(deed);
    assert_eq!(status.code(), Some(7), "{deed}: {status}");
}

#[test]
fn what_every_thread_does_is_allowed() {
    for kind in ["", "vcpu:", "block:", "net:", "fs:", "stream:"] {
        for deed in ["nothing", "allocate", "panic"] {
            lives(&format!("{kind}{deed}"));
        }
    }
    lives("read");
    lives("fs:read");
}

#[test]
fn a_forbidden_call_dies() {
    dies("exec");
    dies("mount");
    for kind in ["vcpu", "block", "net", "fs"] {
        dies(&format!("{kind}:socket"));
        dies(&format!("{kind}:mount"));
    }
    for kind in ["vcpu", "block", "net", "fs", "stream"] {
        dies(&format!("{kind}:exec"));
        dies(&format!("{kind}:kvm"));
    }
}

#[test]
fn files_that_are_not_the_machines_are_out_of_reach() {
    let landlock = std::fs::read_to_string("/sys/kernel/security/lsm").unwrap_or_default();
    if !landlock.contains("landlock") {
        // Securityfs is not always mounted: the kernel itself knows.
        // SAFETY: asks for the version; no attribute is read.
        let version = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, 0, 0, 1) };
        assert!(version > 0, "NOT TESTED: this kernel has no Landlock");
    }
    lives("steal");
    lives("write");
    lives("fs:steal");
}
