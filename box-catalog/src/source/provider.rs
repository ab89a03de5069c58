//! What Vagrant's providers are here.

use crate::Form;

/// Providers whose boxes hold a disk image, the one that fits best first.
const DISKS: [&str; 11] = [
    "kvm",
    "libvirt",
    "qemu",
    "virtualbox",
    "vmware_desktop",
    "vmware_workstation",
    "vmware_fusion",
    "vmware",
    "hyperv",
    "parallels",
    "xenserver",
];
/// Providers whose boxes hold a root file system.
const TREES: [&str; 3] = ["container", "lxc", "docker"];

/// The form that a box made for `provider` holds; `None` where Posada knows no such provider.
#[must_use]
pub fn form_of(provider: &str) -> Option<Form> {
    if DISKS.contains(&provider) {
        Some(Form::Disk)
    } else if TREES.contains(&provider) {
        Some(Form::Rootfs)
    } else {
        None
    }
}

/// How well a box made for `provider` fits, the less the better.
pub(super) fn rank(provider: &str) -> usize {
    let find = |names: &[&str]| names.iter().position(|name| *name == provider);
    find(&DISKS).or_else(|| find(&TREES)).unwrap_or(usize::MAX)
}

/// Whether a box made for `offered` is what somebody wants who says `wanted`: the same provider, or ours that takes it.
pub(super) fn stands_for(wanted: &str, offered: &str) -> bool {
    wanted == offered
        || match wanted {
            "kvm" => form_of(offered) == Some(Form::Disk),
            "container" => form_of(offered) == Some(Form::Rootfs),
            _ => false,
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_of_our_providers_takes_what_it_can_run() {
        for (wanted, offered, fits) in [
            ("kvm", "libvirt", true),
            ("kvm", "virtualbox", true),
            ("kvm", "lxc", false),
            ("container", "lxc", true),
            ("libvirt", "libvirt", true),
            ("libvirt", "virtualbox", false),
            ("kvm", "aws", false),
        ] {
            assert_eq!(stands_for(wanted, offered), fits, "{wanted} {offered}");
        }
        assert!(rank("kvm") < rank("libvirt") && rank("libvirt") < rank("virtualbox"));
        assert!(rank("aws") > rank("lxc"));
    }
}
