//! Whole machines with a stock kernel. They need a KVM that runs one: where the host's does not, these tests are
//! listed as ignored, and `tests/rig/run-in-kvm.sh` runs them in a machine that has one (`make test-kvm`).

mod devices;
mod guest;
mod life;
mod weather;

use libtest_mimic::{Arguments, Trial};

/// Set where a KVM is known to be there: a test that finds none then fails.
const DEMANDED: &str = "POSADA_TEST_NEEDS_KVM";

fn main() {
    if let Some(folder) = std::env::var_os(weather::VICTIM) {
        return weather::run_victim(std::path::Path::new(&folder));
    }
    let arguments = Arguments::from_args();
    let missing = std::env::var_os(DEMANDED).is_none() && !guest::kvm_runs_stock_kernels();
    if missing && !arguments.list {
        eprintln_loudly();
    }
    let trials = life::ALL.iter().chain(devices::ALL).chain(weather::ALL).map(|(name, test)| {
        Trial::test(*name, || {
            test();
            Ok(())
        })
        .with_ignored_flag(missing)
    });
    libtest_mimic::run(&arguments, trials.collect()).exit();
}

#[allow(clippy::print_stderr)]
fn eprintln_loudly() {
    eprintln!("**** NOT RUN: no KVM here that runs a stock kernel; `make test-kvm` makes one ****");
}
