//! Hosts that have not what a machine asks for.

use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::Command;

use posada_vmm::config::{Disk, DiskFormat};
use posada_vmm::machine::Vm;

use crate::payload::Payload;
use crate::{machine, say};

/// The tests of this file.
pub const ALL: &[(&str, fn())] = &[
    ("limits::more_memory_than_there_is", more_memory_than_there_is),
    ("limits::no_descriptors", no_descriptors),
    ("limits::kernels_that_are_none", kernels_that_are_none),
];

/// Names the kernel to a process that is to try its limits.
pub const KERNEL: &str = "POSADA_TEST_LIMITS_KERNEL";

fn more_memory_than_there_is() {
    let kernel = Payload::default().kernel();
    // More than addresses of x86-64 can name; then as much as no host can promise, where they can.
    for memory in [!0xfff, 1 << 56, 1 << 46] {
        let (mut config, _serial) = machine(kernel.path());
        config.memory = memory;
        let error = Vm::build(config).err().expect("refused").to_string();
        assert!(error.contains("memory"), "{error}");
    }
}

fn kernels_that_are_none() {
    let folder = tempfile::tempdir().expect("a directory");
    let path = folder.path().join("vmlinuz");
    for content in [&b""[..], b"#!/bin/sh\n", &[0; 4096], &[0xff; 1 << 20]] {
        std::fs::write(&path, content).expect("written");
        let (config, _serial) = machine(&path);
        let error = Vm::build(config).err().expect("refused").to_string();
        assert!(error.contains("kernel"), "{error}");
    }
}

fn no_descriptors() {
    let kernel = Payload::default().kernel();
    let output = Command::new(std::env::current_exe().expect("this program"))
        .env(KERNEL, kernel.path())
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("started"), "{said}");
}

fn set_limit(files: u64) {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the limits are valid and outlive the calls.
    unsafe {
        assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit), 0);
        limit.rlim_cur = files.min(limit.rlim_max);
        assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit), 0);
    }
}

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("proc").count()
}

/// Starts a machine with ever more descriptors to be had: it is refused in words until it starts, and leaves nothing.
pub fn ever_more_descriptors(kernel: &Path) {
    let folder = tempfile::tempdir().expect("a directory");
    let image = folder.path().join("disk");
    std::fs::write(&image, vec![0; 1 << 20]).expect("written");
    for more in 0..200 {
        let (mut config, _serial) = machine(kernel);
        let disk = Disk {
            path: image.clone(),
            format: DiskFormat::Raw,
            backing: Vec::new(),
            read_only: false,
            serial: String::new(),
        };
        config.devices.disks.push(disk);
        config.devices.balloon = true;
        let before = open_descriptors();
        let next = std::fs::File::open("/dev/null").expect("opened").as_raw_fd();
        set_limit(next as u64 + more);
        let built = Vm::build(config).and_then(Vm::start);
        set_limit(1024);
        match built {
            Ok(running) => {
                running.handle().kill();
                let _ = running.wait();
                assert!(more > 10, "it takes more than {more}");
                return say("started");
            }
            Err(error) => {
                let mut text = error.to_string();
                let mut next = std::error::Error::source(&error);
                while let Some(source) = next {
                    text = format!("{text}: {source}");
                    next = source.source();
                }
                say(&format!("{more}: {text}"));
                assert!(text.contains("open files") || text.contains("too many files"), "{more}: {text}");
            }
        }
        // The serial line's other end went with the machine.
        assert_eq!(open_descriptors(), before - 1, "none is left open after {more}");
    }
    panic!("it never starts");
}
