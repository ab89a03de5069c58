//! The newest kernel in `/boot`, for disks whose boot loader is configured in no way that is known.

use super::{Choice, Place, Rule, Volumes, version};
use crate::DiskError;

/// Where kernels lie: on the root file system, or on one of its own for `/boot`.
const DIRECTORIES: [&str; 2] = ["/boot", ""];
const KERNELS: [&str; 2] = ["vmlinuz-", "vmlinux-"];

/// Takes the newest kernel of the first directory that has one.
pub fn choose(volumes: &Volumes, first: Option<usize>) -> Result<Option<Choice>, DiskError> {
    for volume in volumes.beginning_with(first) {
        for directory in DIRECTORIES {
            let listed = if directory.is_empty() { "/" } else { directory };
            let names = volumes.list(volume, listed)?;
            let versions = names.iter().filter_map(|name| {
                let version = KERNELS.iter().find_map(|start| name.strip_prefix(start))?;
                // A rescue kernel of Fedora's is no newer one.
                let is_rescue = version.contains("rescue") || version.ends_with(".old");
                (!is_rescue).then_some((name, version))
            });
            let Some((kernel, version)) = versions.max_by(|a, b| version::compare(a.1, b.1)) else {
                continue;
            };
            let place = |name: &str| Place { volume, path: format!("{directory}/{name}") };
            let initrds = [
                format!("initrd.img-{version}"),
                format!("initramfs-{version}.img"),
                format!("initrd-{version}"),
            ];
            let initrd = initrds.iter().find(|wanted| names.contains(wanted));
            return Ok(Some(Choice {
                kernel: place(kernel),
                initrds: initrd.map(|name| place(name)).into_iter().collect(),
                cmdline: String::new(),
                version: Some(version.to_owned()),
                rule: Rule::Newest,
            }));
        }
    }
    Ok(None)
}
