//! Whether this host can run a stock kernel in a virtual machine, for `posada doctor` and for the choice of a backend.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::FromRawFd;
use std::os::fd::IntoRawFd;
use std::path::Path;

use kvm_ioctls::Kvm;
use posada_provider_api::Availability;

/// The version of the interface there has been since Linux 2.6.22 (`Documentation/virt/kvm/api.rst`, section 4.1).
const API_VERSION: i32 = 12;

/// What was found at `/dev/kvm`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Device {
    /// It opens, and answers as KVM does.
    Answers,
    /// There is none.
    Absent,
    /// It is not the caller's to open.
    Forbidden,
    /// It is there and does not work.
    Broken(String),
}

/// Facts about this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The device node.
    pub device: Device,
    /// The CPU's virtualisation extension, by its flag in `/proc/cpuinfo`: `vmx` or `svm`. Without one a KVM that
    /// answers is one that works the guest's instructions out in software; it does not know all of those that a
    /// distribution's kernel has.
    pub extension: Option<&'static str>,
}

impl Facts {
    /// Looks at this host.
    #[must_use]
    pub fn here() -> Self {
        Self::below(Path::new("/"))
    }

    /// Looks at the host whose `proc` and `dev` are in `root`.
    #[must_use]
    pub fn below(root: &Path) -> Self {
        let cpu = fs_err::read_to_string(root.join("proc/cpuinfo")).unwrap_or_default();
        Self { device: device(&root.join("dev/kvm")), extension: extension(&cpu) }
    }

    /// What is in the way of virtual machines, and what would remove it; `None` where nothing is.
    #[must_use]
    pub fn obstacle(&self) -> Option<(String, &'static str)> {
        if cfg!(not(target_arch = "x86_64")) {
            let what =
                format!("virtual machines run on x86-64 only yet, and this is {}", std::env::consts::ARCH);
            return Some((what, "use an x86-64 host for them"));
        }
        let (what, remedy) = match (&self.device, self.extension) {
            (Device::Answers, Some(_)) => return None,
            (Device::Answers, None) => (
                "/dev/kvm is there, but the CPU shows neither vmx nor svm".to_owned(),
                "switch virtualisation on in the firmware, or nested virtualisation in the hypervisor below",
            ),
            (Device::Forbidden, _) => (
                "/dev/kvm is not yours to open".to_owned(),
                "run `sudo usermod -aG kvm $USER` and log in again",
            ),
            (Device::Broken(why), _) => {
                (format!("/dev/kvm does not work: {why}"), "run `sudo modprobe kvm_intel` or `kvm_amd`")
            }
            (Device::Absent, Some(extension)) => (
                format!("the CPU has {extension}, but there is no working /dev/kvm"),
                "run `sudo modprobe kvm_intel` or `kvm_amd`",
            ),
            (Device::Absent, None) => (
                "no /dev/kvm, and the CPU shows neither vmx nor svm".to_owned(),
                "switch virtualisation on in the firmware where it has it",
            ),
        };
        Some((what, remedy))
    }

    /// Whether virtual machines can run here.
    #[must_use]
    pub fn availability(&self) -> Availability {
        self.obstacle().map_or(Availability::Usable, |(reason, remedy)| Availability::Unusable {
            reason,
            remedy: remedy.to_owned(),
        })
    }
}

fn device(node: &Path) -> Device {
    let opened = match File::options().read(true).write(true).open(node) {
        Ok(file) => file,
        Err(error) => {
            return match error.kind() {
                ErrorKind::NotFound => Device::Absent,
                ErrorKind::PermissionDenied => Device::Forbidden,
                _ => Device::Broken(error.to_string()),
            };
        }
    };
    // SAFETY: the descriptor is open and is handed over; nothing else closes it.
    let kvm = unsafe { Kvm::from_raw_fd(opened.into_raw_fd()) };
    match kvm.get_api_version() {
        API_VERSION => Device::Answers,
        -1 => Device::Broken(io::Error::last_os_error().to_string()),
        other => Device::Broken(format!("its interface has the version {other}")),
    }
}

fn extension(cpuinfo: &str) -> Option<&'static str> {
    let flags = cpuinfo.lines().find(|line| line.starts_with("flags"))?;
    ["vmx", "svm"].into_iter().find(|wanted| flags.split_whitespace().any(|flag| flag == *wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_extension_is_a_whole_flag() {
        let cpu = |flags: &str| extension(&format!("processor\t: 0\nflags\t\t: {flags}\n"));
        assert_eq!(cpu("fpu vmx sse"), Some("vmx"));
        assert_eq!(cpu("fpu svm"), Some("svm"));
        assert_eq!(cpu("fpu vmx_like svm_lock"), None);
        assert_eq!(extension(""), None);
    }

    #[test]
    fn a_node_that_answers_on_a_cpu_without_the_extension_is_not_believed() {
        let facts = |device, extension| Facts { device, extension };
        assert_eq!(facts(Device::Answers, Some("svm")).availability(), Availability::Usable);
        for (facts, reason) in [
            (facts(Device::Answers, None), "neither vmx nor svm"),
            (facts(Device::Absent, None), "no /dev/kvm"),
            (facts(Device::Absent, Some("vmx")), "the CPU has vmx"),
            (facts(Device::Broken("Inappropriate ioctl for device".into()), Some("vmx")), "does not work"),
        ] {
            let (what, _) = facts.obstacle().expect("an obstacle");
            assert!(what.contains(reason), "{what}");
        }
        let (_, remedy) = facts(Device::Forbidden, Some("vmx")).obstacle().expect("an obstacle");
        assert!(remedy.contains("usermod -aG kvm"), "{remedy}");
    }

    #[test]
    fn what_is_no_kvm_is_told_apart() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(Facts::below(root.path()).device, Device::Absent);
        fs_err::create_dir(root.path().join("dev")).unwrap();
        fs_err::write(root.path().join("dev/kvm"), "").unwrap();
        assert!(matches!(Facts::below(root.path()).device, Device::Broken(_)));
    }
}
