//! Real machines: Debian's systemd in containers made by the keeper. Needs root, mmdebstrap, and a host whose
//! kernel permits namespaces; what is missing fails with its name.
//!
//! The test program is its own `exe`: it answers to the hidden words before it becomes a test program.

mod attacks;
mod boots;
mod crashes;
mod faults;
mod folders;
mod inside;
mod ordinary;
mod rig;

use std::ffi::OsString;
use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    match args.split_first() {
        Some((word, rest)) if word == posada_userns::ENTRY => posada_userns::entry(rest),
        Some((word, rest)) if word == posada_container::keeper::ENTRY => posada_container::keeper_entry(rest),
        Some((word, rest)) if word == crashes::SUPERVISE => crashes::supervise(rest),
        Some((word, rest)) if word == ordinary::SCENARIO => ordinary::play(rest),
        _ => libtest_mimic::run(&Arguments::from_args(), trials()).exit_code(),
    }
}

fn trials() -> Vec<Trial> {
    [boots::trials(), inside::trials(), folders::trials(), attacks::trials(), faults::trials()]
        .into_iter()
        .chain([crashes::trials(), ordinary::trials()])
        .flatten()
        .collect()
}

/// A trial that runs on a runtime of its own.
fn trial<F>(name: &'static str, test: fn() -> F) -> Trial
where
    F: Future<Output = ()> + 'static,
{
    Trial::test(name, move || run(test).map_err(Failed::from))
}

/// Runs `test` on a runtime.
fn run<F: Future<Output = ()>>(test: fn() -> F) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.map_err(|error| error.to_string())?.block_on(test());
    Ok(())
}
