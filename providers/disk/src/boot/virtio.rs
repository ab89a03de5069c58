//! Whether a guest that was installed on other hardware finds its disk here: the drivers for it have to be in its kernel or in
//! its initial RAM file system. Where they are only on its disk, they are put in beside what is there, with the indexes by
//! which its udev finds them.

use std::collections::BTreeSet;

use super::initrd::{self, Unread};
use super::{BootFiles, Place, Volumes};
use crate::DiskError;

/// What drives the bus, and the disk.
const DRIVERS: [&str; 2] = ["virtio_pci", "virtio_blk"];
/// What modprobe(8) and udev look drivers up in.
const INDEXES: [&str; 10] = [
    "modules.dep",
    "modules.dep.bin",
    "modules.alias",
    "modules.alias.bin",
    "modules.symbols",
    "modules.symbols.bin",
    "modules.builtin",
    "modules.builtin.bin",
    "modules.builtin.alias.bin",
    "modules.softdep",
];
/// Largest file of drivers, bytes.
const MAX_MODULE: u64 = 16 << 20;
/// Largest index, bytes.
const MAX_INDEX: u64 = 32 << 20;
/// Where modules are; the second is what the first leads to, on newer systems.
const PLACES: [&str; 2] = ["lib/modules", "usr/lib/modules"];

/// Whether what boots has the drivers for its disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Drivers {
    /// It has, or that cannot be seen.
    There,
    /// It had not, and now has: an archive to be put behind its initial RAM file system ([`BootFiles::with_drivers`]).
    Added {
        /// Names of drivers.
        names: Vec<String>,
        /// The archive.
        archive: Vec<u8>,
    },
    /// It has not, and cannot be helped.
    Missing {
        /// Names of drivers.
        names: Vec<String>,
        /// Why they were not added.
        why: &'static str,
    },
}

/// Looks whether what `boot` boots from `volumes`, of which `root` holds the system, has the drivers for its disk.
pub(crate) fn drivers(volumes: &Volumes, root: usize, boot: &BootFiles) -> Result<Drivers, DiskError> {
    let folder = format!("/lib/modules/{}", boot.version);
    if boot.version.is_empty() || boot.version.contains('/') {
        return Ok(Drivers::There);
    }
    let text =
        |name: &str| volumes.text(&Place { volume: root, path: format!("{folder}/{name}") }, MAX_INDEX);
    // A kernel without modules has what it has.
    let (Some(built_in), Some(dependencies)) = (text("modules.builtin")?, text("modules.dep")?) else {
        return Ok(Drivers::There);
    };
    let inside: BTreeSet<String> = built_in.lines().map(module).collect();
    let needed: Vec<&str> = DRIVERS.into_iter().filter(|name| !inside.contains(*name)).collect();
    if needed.is_empty() {
        return Ok(Drivers::There);
    }
    let missing = |names: &[&str], why| Drivers::Missing {
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        why,
    };
    let Some(initrd) = &boot.initrd else {
        return Ok(missing(&needed, "it boots without an initial RAM file system"));
    };
    // Paths of modules below the folder of this kernel, and where that folder is.
    let (mut there, mut place) = (BTreeSet::new(), None);
    let looked = initrd::paths(initrd, &mut |path| {
        for start in PLACES {
            let below = path.strip_prefix(start).and_then(|rest| rest.strip_prefix('/'));
            let below = below.and_then(|rest| rest.strip_prefix(&boot.version)?.strip_prefix('/'));
            if let Some(below) = below {
                place = Some(start);
                if below.contains(".ko") {
                    there.insert(below.to_owned());
                }
            }
        }
    });
    match looked {
        Ok(()) => {}
        // The kernel may know more than we do.
        Err(Unread::Compression | Unread::Damaged) => return Ok(Drivers::There),
    }
    let has: BTreeSet<String> = there.iter().map(|path| module(path)).collect();
    let needed: Vec<&str> = needed.into_iter().filter(|name| !has.contains(*name)).collect();
    if needed.is_empty() {
        return Ok(Drivers::There);
    }
    let Some(place) = place else {
        return Ok(missing(&needed, "its initial RAM file system loads no modules"));
    };
    let known: Vec<(&str, Vec<&str>)> = dependencies
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(path, needs)| (path.trim(), needs.split_ascii_whitespace().collect()))
        .collect();
    // Its own modules have to be where the indexes of the disk say that they are.
    let listed: BTreeSet<&str> = known.iter().map(|(path, _)| *path).collect();
    if !there.iter().all(|path| listed.contains(path.as_str())) {
        return Ok(missing(&needed, "its initial RAM file system has its modules elsewhere than its disk"));
    }
    let mut files = Vec::new();
    let mut added = BTreeSet::new();
    for name in &needed {
        let Some((path, needs)) = known.iter().find(|(path, _)| module(path) == **name) else {
            return Ok(missing(&[*name], "they are not on its disk either"));
        };
        for path in std::iter::once(path).chain(needs) {
            if there.contains(*path) || !added.insert((*path).to_owned()) {
                continue;
            }
            let file = Place { volume: root, path: format!("{folder}/{path}") };
            let Some(content) = volumes.read(&file, MAX_MODULE)? else {
                return Ok(missing(&[*name], "they are not on its disk either"));
            };
            for directory in directories(path) {
                let directory = format!("{place}/{}/{directory}/", boot.version);
                if !files.iter().any(|(name, _): &(String, Vec<u8>)| *name == directory) {
                    files.push((directory, Vec::new()));
                }
            }
            files.push((format!("{place}/{}/{path}", boot.version), content));
        }
    }
    for index in INDEXES {
        let file = Place { volume: root, path: format!("{folder}/{index}") };
        if let Some(content) = volumes.read(&file, MAX_INDEX)? {
            files.push((format!("{place}/{}/{index}", boot.version), content));
        }
    }
    let names = needed.iter().map(|name| (*name).to_owned()).collect();
    Ok(Drivers::Added { names, archive: initrd::pack(&files) })
}

impl BootFiles {
    /// The initial RAM file system, with `archive` behind it.
    #[must_use]
    pub fn with_drivers(mut self, archive: &[u8]) -> Self {
        if let Some(initrd) = &mut self.initrd {
            initrd.resize(initrd.len().next_multiple_of(4), 0);
            initrd.extend(archive);
        }
        self
    }
}

/// Whether `there` is `initrd`, or that [`BootFiles::with_drivers`].
#[must_use]
pub fn continues(there: &[u8], initrd: &[u8]) -> bool {
    let behind =
        || there.get(initrd.len().next_multiple_of(4)..).is_some_and(|rest| rest.starts_with(initrd::MAGIC));
    there.starts_with(initrd) && (there.len() == initrd.len() || behind())
}

/// The name of the module in a file: `kernel/drivers/block/virtio_blk.ko.xz` is `virtio_blk`, and dashes are underscores.
fn module(path: &str) -> String {
    let name = path.trim().rsplit('/').next().unwrap_or_default();
    name.split(".ko").next().unwrap_or_default().replace('-', "_")
}

/// The directories above `path`, the uppermost first.
fn directories(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').map(|(at, _)| &path[..at])
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};

    use super::*;
    use crate::boot::Rule;
    use crate::boot::testing::volumes;

    const DEP: &str = "kernel/fs/ext4/ext4.ko: kernel/lib/crc16.ko\nkernel/lib/crc16.ko:\n\
        kernel/drivers/ata/ahci.ko:\n\
        kernel/drivers/virtio/virtio.ko:\nkernel/drivers/virtio/virtio_ring.ko: kernel/drivers/virtio/virtio.ko\n\
        kernel/drivers/virtio/virtio_pci.ko: kernel/drivers/virtio/virtio_ring.ko kernel/drivers/virtio/virtio.ko\n\
        kernel/drivers/block/virtio_blk.ko: kernel/drivers/virtio/virtio_ring.ko kernel/drivers/virtio/virtio.ko\n";

    /// A disk with the drivers, whose kernel has `built_in`.
    fn disk(built_in: &str) -> Volumes {
        let at = |name: &str| format!("/lib/modules/6.1.0/{name}");
        let mut files = vec![
            (at("modules.dep"), DEP.to_owned()),
            (at("modules.dep.bin"), "index".to_owned()),
            (at("modules.builtin"), built_in.to_owned()),
        ];
        for line in DEP.lines() {
            let path = line.split(':').next().unwrap();
            files.push((at(path), format!("the module {path}")));
        }
        let files: Vec<(&str, &str)> =
            files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
        volumes(&[&files])
    }

    fn boot(initrd: Option<Vec<u8>>) -> BootFiles {
        BootFiles {
            kernel: Vec::new(),
            initrd,
            cmdline: String::new(),
            version: "6.1.0".to_owned(),
            chosen_by: Rule::Newest,
        }
    }

    /// An archive as cpio(1) makes it, put through `compress`, behind one that is plain.
    fn initrd(paths: &[&str], compress: &[&str]) -> Vec<u8> {
        let temp = tempfile::tempdir().unwrap();
        let mut names = Vec::new();
        for path in paths {
            let file = temp.path().join(path);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(&file, format!("of the initrd: {path}")).unwrap();
            names.extend(directories(path).map(str::to_owned));
            names.push((*path).to_owned());
        }
        let through = |words: &[&str], input: Vec<u8>| {
            let mut child = Command::new(words[0])
                .args(&words[1..])
                .current_dir(temp.path())
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            child.stdin.take().unwrap().write_all(&input).unwrap();
            child.wait_with_output().unwrap().stdout
        };
        let archive = through(&["cpio", "-o", "-H", "newc"], names.join("\n").into_bytes());
        let mut early = initrd::pack(&[("kernel/x86/microcode/GenuineIntel.bin".to_owned(), vec![1; 5000])]);
        early.resize(early.len().next_multiple_of(512), 0);
        early.extend(if compress.is_empty() { archive } else { through(compress, archive) });
        early
    }

    const OTHER_HARDWARE: [&str; 4] = [
        "init",
        "usr/lib/modules/6.1.0/kernel/drivers/ata/ahci.ko",
        "usr/lib/modules/6.1.0/kernel/fs/ext4/ext4.ko",
        "usr/lib/modules/6.1.0/modules.dep",
    ];

    fn of(initrd: &[u8]) -> Vec<String> {
        let mut paths = Vec::new();
        initrd::paths(initrd, &mut |path| paths.push(path.to_owned())).unwrap();
        paths
    }

    #[test]
    fn drivers_that_only_the_disk_has_are_added_with_what_they_need() {
        let disk = disk("kernel/fs/binfmt_script.ko\n");
        let ways: [&[&str]; 5] =
            [&[], &["gzip"], &["xz", "--check=crc32"], &["zstd", "-q"], &["xz", "--format=lzma"]];
        for way in ways {
            let boot = boot(Some(initrd(&OTHER_HARDWARE, way)));
            let Drivers::Added { names, archive } = drivers(&disk, 0, &boot).unwrap() else {
                panic!("{way:?}: nothing was added")
            };
            assert_eq!(names, ["virtio_pci", "virtio_blk"]);
            let complete = boot.with_drivers(&archive);
            let paths = of(complete.initrd.as_ref().unwrap());
            let at = |name: &str| format!("usr/lib/modules/6.1.0/{name}");
            for name in ["virtio/virtio", "virtio/virtio_ring", "virtio/virtio_pci", "block/virtio_blk"] {
                let path = at(&format!("kernel/drivers/{name}.ko"));
                assert_eq!(paths.iter().filter(|other| **other == path).count(), 1, "{way:?}: {paths:?}");
            }
            assert!(paths.contains(&at("modules.dep.bin")), "{paths:?}");
            assert_eq!(paths.iter().filter(|path| path.ends_with("crc16.ko")).count(), 0);
            // And then they are there.
            assert_eq!(drivers(&disk, 0, &complete).unwrap(), Drivers::There);
            // What cpio makes of it.
            let temp = tempfile::tempdir().unwrap();
            let mut child = Command::new("cpio")
                .args(["-i", "--quiet", "-d"])
                .current_dir(temp.path())
                .stdin(Stdio::piped())
                .spawn()
                .unwrap();
            child.stdin.take().unwrap().write_all(&archive).unwrap();
            assert!(child.wait().unwrap().success());
            let module = at("kernel/drivers/block/virtio_blk.ko");
            let text = std::fs::read_to_string(temp.path().join(&module)).unwrap();
            assert_eq!(text, "the module kernel/drivers/block/virtio_blk.ko");
        }
    }

    #[test]
    fn what_needs_nothing_is_left_alone() {
        let both = "kernel/drivers/virtio/virtio_pci.ko\nkernel/drivers/block/virtio_blk.ko\n";
        let of_other_hardware = boot(Some(initrd(&OTHER_HARDWARE, &[])));
        assert_eq!(drivers(&disk(both), 0, &of_other_hardware).unwrap(), Drivers::There);
        let has = [
            "lib/modules/6.1.0/kernel/drivers/virtio/virtio_pci.ko.xz",
            "lib/modules/6.1.0/kernel/drivers/block/virtio-blk.ko.xz",
        ];
        let has = boot(Some(initrd(&has, &["gzip"])));
        assert_eq!(drivers(&disk(""), 0, &has).unwrap(), Drivers::There);
        // Nothing is known of this kernel; nor of this compression.
        assert_eq!(drivers(&volumes(&[&[]]), 0, &of_other_hardware).unwrap(), Drivers::There);
        let unknown = boot(Some(b"\x02\x21\x4c\x18 lz4".to_vec()));
        assert_eq!(drivers(&disk(""), 0, &unknown).unwrap(), Drivers::There);
    }

    #[test]
    fn what_cannot_be_helped_is_told() {
        let why = |disk: &Volumes, boot: &BootFiles| match drivers(disk, 0, boot).unwrap() {
            Drivers::Missing { why, .. } => why,
            other => panic!("{other:?}"),
        };
        assert!(why(&disk(""), &boot(None)).contains("without an initial RAM file system"));
        assert!(why(&disk(""), &boot(Some(initrd(&["init"], &[])))).contains("loads no modules"));
        let packed = ["lib/modules/6.1.0/kernel/fs/ext4/ext4.ko.xz"];
        assert!(why(&disk(""), &boot(Some(initrd(&packed, &[])))).contains("elsewhere"));
        let bare =
            [("/lib/modules/6.1.0/modules.dep", "a.ko:\n"), ("/lib/modules/6.1.0/modules.builtin", "")];
        let empty = ["lib/modules/6.1.0/a.ko"];
        assert!(why(&volumes(&[&bare]), &boot(Some(initrd(&empty, &[])))).contains("not on its disk"));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(start in 0..5_usize, rest in proptest::collection::vec(proptest::num::u8::ANY, 0..400)) {
            let starts: [&[u8]; 5] = [b"070701", b"\x1f\x8b\x08\0\0\0\0\0\0\x03", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd", b""];
            let bytes = [starts[start], &rest].concat();
            let _ = initrd::paths(&bytes, &mut |_| {});
        }
    }
}
