//! What fails in the monitor and in what it is handed.

use std::io;

use posada_provider_api::{Fault, ProviderError};
use posada_vmm::arch::current::boot::BootError;
use posada_vmm::block::OpenError;
use posada_vmm::hypervisor::HypervisorError;
use posada_vmm::machine::VmError;
use posada_vmm::virtio::blk::BlkError;

use super::is_out_of_files;
use crate::facts::Facts;
use crate::seed::SeedError;

/// A fault of the seed.
pub(crate) fn seed(error: SeedError) -> ProviderError {
    let what = chain(&error);
    match error.hint() {
        Some(remedy) => ProviderError::Host { what, remedy },
        None => ProviderError::Internal { what },
    }
}

/// A fault of the monitor, before the machine runs.
pub(crate) fn vm(error: VmError) -> ProviderError {
    let what = chain(&error);
    let host = |remedy: &str| ProviderError::Host { what: what.clone(), remedy: remedy.to_owned() };
    match &error {
        VmError::Hypervisor(HypervisorError::Open { .. }) => match Facts::here().obstacle() {
            Some((_, remedy)) => host(remedy),
            None => host("try again: it can be opened now"),
        },
        VmError::Hypervisor(HypervisorError::Lacks(_)) => host("use `provider: container` on this host"),
        VmError::Hypervisor(HypervisorError::Memory { .. }) => {
            host("set `memory` lower, or stop other machines")
        }
        VmError::Hypervisor(HypervisorError::Call { source, .. })
            if source.kind() == io::ErrorKind::ResourceBusy =>
        {
            host("another hypervisor, such as VirtualBox, holds the CPU: stop its machines")
        }
        VmError::Memory(_) => host("set another amount of `memory`"),
        VmError::Cpu(_) => host("set fewer `cpus`"),
        VmError::Boot(BootError::KernelTooLarge { .. } | BootError::InitrdTooLarge { .. }) => {
            host("set `memory` higher")
        }
        VmError::Boot(BootError::Read(_)) | VmError::Disk(BlkError::Open(OpenError::Io { .. })) => {
            host("see to it that POSADA_HOME and all in it is there, and yours to read and write")
        }
        VmError::Boot(_) => ProviderError::Box {
            what,
            remedy: "virtual machines boot 64-bit Linux kernels; use a box that has one".to_owned(),
        },
        VmError::Disk(BlkError::Open(OpenError::TooManyFiles { .. })) => {
            host("raise the limit of open files (`ulimit -Hn`)")
        }
        VmError::Disk(BlkError::Open(OpenError::Locked { .. })) => host("stop the program that uses it"),
        VmError::Disk(BlkError::Open(_)) => {
            host("repair the image, or make the machine anew with `posada destroy` and `posada up`")
        }
        VmError::Device { source, .. } if is_out_of_files(source) => {
            host("raise the limit of open files (`ulimit -Hn`)")
        }
        _ => ProviderError::Internal { what },
    }
}

/// An error with what caused it, each told once.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        let said = source.to_string();
        if !text.ends_with(&said) {
            text = format!("{text}: {said}");
        }
        next = source.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_told_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("the disk cannot be used: no such file")]
        struct Told(#[source] io::Error);
        #[derive(Debug, thiserror::Error)]
        #[error("a file cannot be read")]
        struct Untold(#[source] io::Error);
        let cause = || io::Error::other("no such file");
        assert_eq!(chain(&Told(cause())), "the disk cannot be used: no such file");
        assert_eq!(chain(&Untold(cause())), "a file cannot be read: no such file");
    }

    #[test]
    fn what_a_user_can_mend_says_how() {
        let refused = |kind| VmError::Boot(BootError::Read(io::Error::from(kind)));
        assert!(matches!(vm(refused(io::ErrorKind::PermissionDenied)), ProviderError::Host { .. }));
        assert!(matches!(vm(VmError::Boot(BootError::Only32Bit)), ProviderError::Box { .. }));
        let busy = HypervisorError::Call {
            doing: "make a machine",
            source: io::Error::from(io::ErrorKind::ResourceBusy),
        };
        let ProviderError::Host { remedy, .. } = vm(busy.into()) else { panic!("no remedy") };
        assert!(remedy.contains("VirtualBox"), "{remedy}");
        let short = VmError::Device { device: "disk".into(), source: rustix::io::Errno::MFILE.into() };
        let ProviderError::Host { remedy, .. } = vm(short) else { panic!("no remedy") };
        assert!(remedy.contains("ulimit"), "{remedy}");
    }
}
