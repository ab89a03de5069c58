//! Whether virtual machines can run.

use std::io::ErrorKind;

use super::{Check, Site, open_device};

const NAME: &str = "kvm";

pub(super) fn check(site: &Site) -> Check {
    let cpu = site.read("/proc/cpuinfo").unwrap_or_default();
    let node = site.at("/dev/kvm");
    let extension = extension(&cpu);
    match (open_device(&node), extension) {
        (Ok(()), Some(extension)) => Check::ok(NAME, format!("/dev/kvm works, CPU has {extension}")),
        (Ok(()), None) => Check::warn(
            NAME,
            "/dev/kvm is there, but the CPU shows neither vmx nor svm",
            "switch virtualisation on in the firmware, or nested virtualisation in the hypervisor below; machines run as containers meanwhile",
        ),
        (Err(error), _) if error.kind() == ErrorKind::PermissionDenied => Check::warn(
            NAME,
            "/dev/kvm is not yours to open",
            "run `sudo usermod -aG kvm $USER` and log in again; machines run as containers meanwhile",
        ),
        (Err(_), Some(extension)) => Check::warn(
            NAME,
            format!("the CPU has {extension}, but there is no working /dev/kvm"),
            "run `sudo modprobe kvm_intel` or `kvm_amd`; machines run as containers meanwhile",
        ),
        (Err(_), None) => Check::warn(
            NAME,
            "no /dev/kvm, and the CPU shows neither vmx nor svm",
            "switch virtualisation on in the firmware where it has it; machines run as containers",
        ),
    }
}

/// The CPU's virtualisation extension, by its flag in `/proc/cpuinfo`.
fn extension(cpuinfo: &str) -> Option<&'static str> {
    let flags = cpuinfo.lines().find(|line| line.starts_with("flags"))?;
    ["vmx", "svm"].into_iter().find(|wanted| flags.split_whitespace().any(|flag| flag == *wanted))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Verdict;

    fn site(cpu_flags: &str, device: bool) -> (tempfile::TempDir, Site) {
        let root = tempfile::tempdir().unwrap();
        fs_err::create_dir_all(root.path().join("proc")).unwrap();
        fs_err::create_dir_all(root.path().join("dev")).unwrap();
        fs_err::write(root.path().join("proc/cpuinfo"), format!("processor\t: 0\nflags\t\t: {cpu_flags}\n"))
            .unwrap();
        if device {
            fs_err::write(root.path().join("dev/kvm"), "").unwrap();
        }
        let site = Site { home: root.path().into(), path: "".into(), root: root.path().into() };
        (root, site)
    }

    #[test]
    fn takes_both_the_device_and_the_flag() {
        let (_root, both) = site("fpu vmx sse", true);
        assert_eq!(check(&both).verdict, Verdict::Ok);
        for (flags, device, finding) in [
            ("fpu sse", true, "neither vmx nor svm"),
            ("fpu svm", false, "the CPU has svm"),
            ("fpu vmx_like", false, "no /dev/kvm"),
        ] {
            let (_root, site) = site(flags, device);
            let check = check(&site);
            assert_eq!(check.verdict, Verdict::Warn);
            assert!(check.finding.contains(finding), "{}", check.finding);
            assert!(check.remedy.is_some());
        }
    }
}
