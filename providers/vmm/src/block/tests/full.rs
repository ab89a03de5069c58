//! A host that runs out of room or of descriptors.

use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use super::support::*;
use crate::block::{BlockFault, Engine, FaultSink, Image, OpenError};
use crate::config::DiskFormat::{self, Qcow2, Raw};

const CLUSTER: u64 = 64 << 10;
/// Room on the file system, bytes.
const ROOM: u64 = 8 << 20;
const LIMITED: &str = "POSADA_TEST_LIMITED";

/// Runs `test` in a directory of a small file system that this thread and what it starts alone see. It needs root, and
/// is passed over without.
fn in_little_room(test: impl FnOnce(&Path) + Send) {
    // SAFETY: it cannot fail and touches no memory.
    if unsafe { libc::geteuid() } != 0 {
        say("NOT RUN: a file system of its own takes root");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let run = || {
        let target = std::ffi::CString::new(folder.path().to_str().unwrap()).unwrap();
        let options = std::ffi::CString::new(format!("size={ROOM}")).unwrap();
        let none = std::ptr::null();
        // SAFETY: only this thread's mounts change; all strings end in NUL and outlive the calls.
        unsafe {
            assert_eq!(libc::unshare(libc::CLONE_NEWNS), 0, "{}", std::io::Error::last_os_error());
            let private = libc::MS_REC | libc::MS_PRIVATE;
            assert_eq!(libc::mount(none, c"/".as_ptr(), none, private, none.cast()), 0);
            let kind = c"tmpfs".as_ptr();
            assert_eq!(libc::mount(kind, target.as_ptr(), kind, 0, options.as_ptr().cast()), 0);
        }
        test(folder.path());
    };
    std::thread::scope(|scope| scope.spawn(run).join()).unwrap();
}

#[allow(clippy::print_stderr)]
fn say(text: &str) {
    eprintln!("**** {text} ****");
}

type Told = Arc<Mutex<Vec<BlockFault>>>;

fn open_told(path: &Path, format: DiskFormat, engine: Engine) -> (Arc<Image>, Told) {
    let told = Told::default();
    let to = told.clone();
    let sink = FaultSink::new(Box::new(move |fault| to.lock().unwrap().push(fault)));
    (open_with(path, format, false, &[], engine, Some(sink)).unwrap(), told)
}

/// Writes clusters until one fails; how many did not.
fn fill(image: &Arc<Image>) -> u64 {
    let mut written = 0;
    loop {
        match write(image, written * CLUSTER, vec![written as u8 + 1; CLUSTER as usize]) {
            Ok(()) => written += 1,
            Err(error) => {
                assert_eq!(error.raw_os_error(), Some(libc::ENOSPC), "{error}");
                return written;
            }
        }
        assert!(written * CLUSTER < ROOM, "no room was said to be enough for more");
    }
}

fn full(format: DiskFormat, engine: fn() -> Engine) {
    in_little_room(|folder| {
        let path = folder.join("disk");
        let (name, kind) = (path.to_str().unwrap(), if format == Raw { "raw" } else { "qcow2" });
        qemu_img(&["create", "-q", "-f", kind, name, "64M"]);
        let ballast = folder.join("ballast");
        fs_err::write(&ballast, vec![0; 2 << 20]).unwrap();
        let (image, told) = open_told(&path, format, engine());
        let written = fill(&image);
        assert!(written > 16, "{written}");
        // What fails once is not forgotten: it fails as long as there is no room, and is told once.
        for again in 0..3 {
            assert!(write(&image, (written + 50 + again) * CLUSTER, vec![9; CLUSTER as usize]).is_err());
        }
        assert_eq!(*told.lock().unwrap(), [BlockFault::DiskFull { path: path.clone() }]);
        let said = told.lock().unwrap()[0].to_string();
        assert!(said.contains("no room left") && said.contains(name), "{said}");
        // What was written before stays, and can be written over.
        for cluster in 0..written {
            let byte = cluster as u8 + 1;
            assert!(
                read(&image, cluster * CLUSTER, CLUSTER as usize).unwrap() == vec![byte; CLUSTER as usize]
            );
        }
        write(&image, 0, vec![0xaa; CLUSTER as usize]).unwrap();
        // What of its tables has no room yet cannot be made durable, and that is said; what is on disk is whole.
        if let Err(error) = flush(&image) {
            assert_eq!((format, error.raw_os_error()), (Qcow2, Some(libc::ENOSPC)), "{error}");
        }
        if format == Qcow2 {
            let elsewhere = tempfile::tempdir().unwrap();
            let as_it_is = elsewhere.path().join("disk");
            fs_err::copy(&path, &as_it_is).unwrap();
            check(&as_it_is, true);
        }
        // With room again it goes on, in the same machine.
        fs_err::remove_file(&ballast).unwrap();
        write(&image, written * CLUSTER, vec![0xbb; CLUSTER as usize]).unwrap();
        settle(&image);
        drop(image);
        if format == Qcow2 {
            check(&path, true);
        }
        let image = open(&path, format, &[]).unwrap();
        for cluster in 0..=written {
            let byte = if cluster == 0 {
                0xaa
            } else if cluster == written {
                0xbb
            } else {
                cluster as u8 + 1
            };
            assert!(
                read(&image, cluster * CLUSTER, CLUSTER as usize).unwrap() == vec![byte; CLUSTER as usize]
            );
        }
    });
}

fn ring() -> Engine {
    Engine::new().unwrap()
}

fn threads() -> Engine {
    Engine::threaded().unwrap()
}

#[test]
fn a_qcow2_image_without_room_fails_writes_and_stays_whole() {
    full(Qcow2, ring);
}

#[test]
fn the_same_with_threads() {
    full(Qcow2, threads);
}

#[test]
fn a_raw_image_without_room_fails_writes() {
    full(Raw, ring);
}

fn open_descriptors() -> usize {
    fs_err::read_dir("/proc/self/fd").unwrap().count()
}

/// Lets this process have descriptors below `files`, and returns how many it might have had before.
fn limit(files: u64) -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the limits are valid and outlive the calls.
    unsafe {
        assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit), 0);
        let before = std::mem::replace(&mut limit.rlim_cur, files);
        assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit), 0);
        before
    }
}

/// Not a test of its own: opens an image with ever more descriptors to be had, until it succeeds.
#[test]
#[ignore = "run by the test below, in a process whose limits it changes"]
fn opens_with_few_descriptors() {
    let Some(path) = std::env::var_os(LIMITED).map(PathBuf::from) else { return };
    let base = [path.with_file_name("base.raw")];
    let next = std::fs::File::open("/dev/null").unwrap();
    let first = u64::try_from(next.as_raw_fd()).unwrap();
    drop(next);
    let mut refused = 0;
    let before = open_descriptors();
    for more in 0.. {
        let enough = limit(first + more);
        let opened = Engine::new()
            .map_err(OpenError::Engine)
            .and_then(|engine| open_with(&path, Qcow2, false, &base, engine, None));
        limit(enough);
        match opened {
            Ok(image) => {
                assert_eq!(read(&image, 0, 1).unwrap(), [7]);
                break;
            }
            Err(OpenError::TooManyFiles { .. }) => refused += 1,
            Err(OpenError::Engine(error)) => assert_eq!(error.raw_os_error(), Some(libc::EMFILE), "{error}"),
            Err(other) => panic!("{other:?} with {more} descriptors"),
        }
        assert_eq!(open_descriptors(), before, "none is left open");
        assert!(more < 32, "it takes no more than that");
    }
    assert!(refused > 1, "the image and its base are opened after the engine: {refused}");
}

#[test]
fn without_descriptors_nothing_is_opened_and_nothing_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let (base, path) = (folder.path().join("base.raw"), folder.path().join("disk.qcow2"));
    fs_err::write(&base, vec![7; 1 << 20]).unwrap();
    qemu_img(&[
        "create",
        "-q",
        "-f",
        "qcow2",
        "-b",
        base.to_str().unwrap(),
        "-F",
        "raw",
        path.to_str().unwrap(),
    ]);
    let name = "block::tests::full::opens_with_few_descriptors";
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--ignored", "--nocapture", "--test-threads=1", name])
        .env(LIMITED, &path)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stdout));
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"), "it ran");
}
