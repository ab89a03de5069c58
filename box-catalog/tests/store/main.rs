//! The store against real archives, made by the system's own tools. The test binary is also the binary that the
//! store re-executes.

mod add;
mod bucket;
mod build;
mod chunks;
mod crash;
mod delta;
mod disks;
mod foreign;
mod formats;
mod hostile;
mod oci;
mod ordinary;
mod registry;
mod remote;
mod squashfs;
mod support;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().skip(1).collect();
    match args.first().and_then(|word| word.to_str()) {
        Some(posada_box_catalog::WORKER) => {
            return posada_box_catalog::worker_entry(&args[1..], support::unpacked);
        }
        Some("__userns") => return posada_userns::entry(&args[1..]),
        Some(support::CHILD) => return support::child(&args[1..]),
        Some(support::REMOVE) => return support::remove(&args[1..]),
        Some(support::GC) => return support::gc(&args[1..]),
        Some(support::BUILD) => return support::build(&args[1..]),
        _ => {}
    }
    let trials = [
        add::trials(),
        formats::trials(),
        hostile::trials(),
        crash::trials(),
        disks::trials(),
        foreign::trials(),
        chunks::trials(),
        ordinary::trials(),
        build::trials(),
        remote::trials(),
        oci::trials(),
        squashfs::trials(),
        bucket::trials(),
        delta::trials(),
    ];
    let trials: Vec<Trial> = trials.into_iter().flatten().collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}
