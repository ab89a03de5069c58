//! Bad weather for whole machines, by small programs of our own in the kernel's place. They run on any KVM, also on one
//! that works instructions out in software; where there is none, these tests are listed as ignored.

mod limits;
mod nonsense;
mod payload;

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

use libtest_mimic::{Arguments, Trial};
use posada_vmm::config::{Boot, Devices, VmConfig};

/// Set where a KVM is known to be there: a test that finds none then fails.
const DEMANDED: &str = "POSADA_TEST_NEEDS_KVM";

fn main() {
    if let Some(kernel) = std::env::var_os(limits::KERNEL) {
        return limits::ever_more_descriptors(Path::new(&kernel));
    }
    let arguments = Arguments::from_args();
    let there = std::fs::File::options().read(true).write(true).open("/dev/kvm").is_ok();
    let missing = std::env::var_os(DEMANDED).is_none() && !there;
    if missing && !arguments.list {
        say("**** NOT RUN: there is no /dev/kvm ****");
    }
    let trials = nonsense::ALL.iter().chain(limits::ALL).map(|(name, test)| {
        Trial::test(*name, || {
            test();
            Ok(())
        })
        .with_ignored_flag(missing)
    });
    libtest_mimic::run(&arguments, trials.collect()).exit();
}

#[allow(clippy::print_stderr)]
fn say(text: &str) {
    eprintln!("{text}");
}

/// A small machine that runs `kernel`, and this end of its serial line.
fn machine(kernel: &Path) -> (VmConfig, UnixStream) {
    let (ours, theirs) = UnixStream::pair().expect("a socket pair");
    let boot = Boot { kernel: kernel.to_owned(), initrd: None, cmdline: String::new() };
    let serial = OwnedFd::from(theirs);
    let devices = Devices::default();
    let config = VmConfig { name: "test".to_owned(), cpus: 1, memory: 64 << 20, boot, serial, devices };
    (config, ours)
}
