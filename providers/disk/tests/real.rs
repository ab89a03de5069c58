//! Images made by the tools that everybody makes them with: qemu-img, sfdisk, mke2fs.

mod common;

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use posada_disk::{Backing, DiskError, Image, Rule, inspect, overlay};
use posada_provider_api::{DiskFormat, Fault as _};

use common::run;

const MIB: u64 = 1 << 20;
const VERSION: &str = "6.1.0-40-cloud-amd64";

fn qemu_img(arguments: &[&dyn AsRef<std::ffi::OsStr>]) -> String {
    run(Command::new("qemu-img").args(arguments))
}

fn write(root: &Path, path: &str, content: impl AsRef<[u8]>) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

/// Something that looks like a bzImage of this version.
fn kernel(version: &str) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..3_000_000_u32).map(|index| ((index * 7) >> 3) as u8).collect();
    bytes[0x202..0x206].copy_from_slice(b"HdrS");
    bytes[0x20e..0x210].copy_from_slice(&0x1000_u16.to_le_bytes());
    let text = format!("{version} (builder) #1\0");
    bytes[0x1200..0x1200 + text.len()].copy_from_slice(text.as_bytes());
    bytes
}

/// A system without a boot loader's configuration.
fn system(root: &Path) {
    write(root, "usr/lib/os-release", "ID=debian\nVERSION_ID=\"12\"\n");
    fs::create_dir_all(root.join("etc")).unwrap();
    std::os::unix::fs::symlink("../usr/lib/os-release", root.join("etc/os-release")).unwrap();
    write(root, "etc/passwd", "root:x:0:0::/root:/bin/sh\n");
    write(root, "usr/bin/cloud-init", "#!/usr/bin/python3\n");
    write(root, "usr/lib/systemd/systemd", fs::read("/bin/true").unwrap());
}

fn boot(directory: &Path) {
    write(directory, &format!("vmlinuz-{VERSION}"), kernel(VERSION));
    write(directory, "vmlinuz-6.1.0-9-cloud-amd64", kernel("6.1.0-9-cloud-amd64"));
    write(directory, &format!("initrd.img-{VERSION}"), vec![0x5a; 2_000_001]);
}

fn ext4(tree: &Path, image: &Path, size: u64, options: &[&str]) {
    File::create(image).unwrap().set_len(size).unwrap();
    run(Command::new("mke2fs").args(["-q", "-t", "ext4", "-F"]).args(options).arg("-d").arg(tree).arg(image));
}

/// Puts file systems into partitions of a new disk, one MiB apart, by sfdisk; `lines` is what it is told.
fn disk(path: &Path, size: u64, label: &str, lines: &str, parts: &[(u64, &Path)]) {
    let file = File::create(path).unwrap();
    file.set_len(size).unwrap();
    let mut child = Command::new("sfdisk").arg("-q").arg(path).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(format!("label: {label}\n{lines}").as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
    for (offset, part) in parts {
        file.write_all_at(&fs::read(part).unwrap(), *offset).unwrap();
    }
}

struct World(tempfile::TempDir);

impl World {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A GPT disk with a root file system on it.
    fn plain(&self) -> PathBuf {
        let (tree, fs, path) = (self.path("tree"), self.path("fs"), self.path("disk.raw"));
        if path.exists() {
            return path;
        }
        system(&tree);
        boot(&tree.join("boot"));
        ext4(&tree, &fs, 32 * MIB, &["-L", "root"]);
        let root = "start=2048, size=65536, uuid=11111111-2222-3333-4444-555555555555, name=root\n";
        disk(&path, 40 * MIB, "gpt", root, &[(MIB, &fs)]);
        path
    }

    /// The same as qcow2, with options of qemu-img.
    fn qcow2(&self, name: &str, options: &[&str]) -> PathBuf {
        let path = self.path(name);
        run(Command::new("qemu-img")
            .args(["convert", "-O", "qcow2"])
            .args(options)
            .arg(self.plain())
            .arg(&path));
        path
    }
}

fn open(path: &Path) -> Image {
    Image::open(path, Backing::Refused).unwrap()
}

#[test]
fn the_newest_kernel_of_a_gpt_disk_boots_from_the_partition_it_was_found_on() {
    let world = World::new();
    let contents = inspect(&open(&world.plain())).unwrap();
    assert_eq!(contents.system.root.number, 1);
    assert!(contents.system.cloud_init && contents.system.systemd);
    assert!(contents.system.os_release.starts_with("ID=debian"));
    assert!(contents.system.init.unwrap().starts_with(b"\x7fELF"));
    let boot = contents.boot.unwrap();
    assert_eq!((boot.version.as_str(), boot.chosen_by), (VERSION, Rule::Newest));
    assert_eq!(boot.kernel, kernel(VERSION));
    assert_eq!(boot.initrd.unwrap(), vec![0x5a; 2_000_001]);
    assert_eq!(boot.cmdline, "root=PARTUUID=11111111-2222-3333-4444-555555555555 ro");
}

#[test]
fn all_that_qemu_img_makes_of_a_disk_is_read_the_same() {
    let world = World::new();
    let raw = world.plain();
    let expected = fs::read(&raw).unwrap();
    for options in [
        &[][..],
        &["-c"],
        &["-o", "compat=0.10"],
        &["-o", "cluster_size=4k"],
        &["-o", "cluster_size=2M,lazy_refcounts=on"],
    ] {
        let path = world.path("copy.qcow2");
        run(Command::new("qemu-img").args(["convert", "-O", "qcow2"]).args(options).arg(&raw).arg(&path));
        let image = open(&path);
        image.check().unwrap();
        assert_eq!((image.format(), image.size()), (DiskFormat::Qcow2, 40 * MIB));
        let mut bytes = vec![0; expected.len()];
        image.read_at(0, &mut bytes).unwrap();
        assert!(bytes == expected, "{options:?}");
        assert_eq!(inspect(&image).unwrap().boot.unwrap().version, VERSION);
    }
}

#[test]
fn grubs_configuration_on_a_partition_of_its_own_is_followed() {
    let world = World::new();
    let (tree, boot_tree) = (world.path("tree"), world.path("boot"));
    system(&tree);
    boot(&boot_tree);
    let uuid = "0f0f0f0f-1111-4222-8333-444444444444";
    write(
        &boot_tree,
        "grub/grub.cfg",
        format!(
            "set default=0\nmenuentry 'Debian' {{\n search --no-floppy --fs-uuid --set=root {uuid}\n linux /vmlinuz-6.1.0-9-cloud-amd64 root=LABEL=system ro quiet\n}}\n"
        ),
    );
    let (root_fs, boot_fs) = (world.path("root.fs"), world.path("boot.fs"));
    ext4(&tree, &root_fs, 16 * MIB, &["-L", "system"]);
    ext4(&boot_tree, &boot_fs, 24 * MIB, &["-U", uuid]);
    let path = world.path("disk.raw");
    let table =
        "label-id: 0xcafe0001\nstart=2048, size=49152\nstart=53248, type=5\nstart=55296, size=32768\n";
    disk(&path, 64 * MIB, "dos", table, &[(MIB, &boot_fs), (27 * MIB, &root_fs)]);
    let contents = inspect(&open(&path)).unwrap();
    assert_eq!(contents.system.root.number, 5);
    let boot = contents.boot.unwrap();
    assert_eq!(boot.chosen_by, Rule::Grub);
    assert!(boot.version.starts_with("6.1.0-9"));
    // Without an initial RAM file system the kernel itself has to find the root.
    assert_eq!((boot.cmdline.as_str(), boot.initrd), ("root=PARTUUID=cafe0001-05 ro quiet", None));
}

#[test]
fn a_file_system_without_a_table_is_a_disk() {
    let world = World::new();
    let (tree, path) = (world.path("tree"), world.path("fs.img"));
    system(&tree);
    boot(&tree.join("boot"));
    ext4(&tree, &path, 32 * MIB, &["-U", "0f0f0f0f-1111-4222-8333-444444444444"]);
    let contents = inspect(&open(&path)).unwrap();
    assert_eq!(contents.boot.unwrap().cmdline, "root=UUID=0f0f0f0f-1111-4222-8333-444444444444 ro");
    assert_eq!(contents.system.root.number, 0);
}

#[test]
fn what_is_no_whole_disk_is_told() {
    let world = World::new();
    let at = |name: &str, bytes: &[u8]| {
        let path = world.path(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let fault = |path: &Path| {
        let seen = Image::open(path, Backing::Refused).and_then(|image| {
            image.check()?;
            inspect(&image).map(|_| ())
        });
        let error = seen.expect_err("it is no disk");
        assert!(error.hint().is_some(), "{error}");
        error
    };
    let raw = fs::read(world.plain()).unwrap();
    let qcow2 = fs::read(world.qcow2("a.qcow2", &[])).unwrap();
    let compressed = fs::read(world.qcow2("c.qcow2", &["-c"])).unwrap();
    assert!(matches!(fault(&at("text", &b"no disk at all\n".repeat(1000))), DiskError::NotADisk { .. }));
    assert!(matches!(fault(&at("empty", b"")), DiskError::NotADisk { .. }));
    assert!(matches!(fault(world.0.path()), DiskError::NotADisk { .. }));
    for (name, bytes) in [("raw", &raw), ("qcow2", &qcow2), ("compressed", &compressed)] {
        for tenths in [1, 5, 9] {
            let error = fault(&at("cut", &bytes[..bytes.len() / 10 * tenths]));
            assert!(matches!(error, DiskError::Truncated { .. }), "{name} {tenths}: {error:?}");
        }
    }
    assert!(matches!(fault(&at("cut", &qcow2[..60])), DiskError::Truncated { .. }));
    let patched = |at_byte: usize, with: &[u8]| {
        let mut bytes = qcow2.clone();
        bytes[at_byte..at_byte + with.len()].copy_from_slice(with);
        fault(&at("patched", &bytes))
    };
    assert!(matches!(patched(24, &(1_u64 << 60).to_be_bytes()), DiskError::Absurd { .. }));
    assert!(matches!(patched(20, &60_u32.to_be_bytes()), DiskError::Corrupt { .. }));
    assert!(matches!(patched(36, &u32::MAX.to_be_bytes()), DiskError::Corrupt { .. }));
    assert!(matches!(patched(72, &4_u64.to_be_bytes()), DiskError::Unsupported { .. }));
    let vmdk = world.path("a.vmdk");
    qemu_img(&[&"convert", &"-O", &"vmdk", &world.path("disk.raw"), &vmdk]);
    assert!(matches!(fault(&vmdk), DiskError::Foreign { format: "VMDK", .. }));
}

#[test]
fn file_systems_that_cannot_be_read_are_named() {
    let world = World::new();
    let mut xfs = vec![0; 4 << 20];
    xfs[..4].copy_from_slice(b"XFSB");
    let part = world.path("xfs");
    fs::write(&part, xfs).unwrap();
    let path = world.path("disk.raw");
    disk(&path, 8 * MIB, "gpt", "start=2048, size=8192\n", &[(MIB, &part)]);
    let error = inspect(&open(&path)).unwrap_err();
    assert!(matches!(&error, DiskError::Unsupported { what, .. } if what.contains("xfs")), "{error}");
}

#[test]
fn a_chain_that_leads_back_or_nowhere_is_told() {
    let world = World::new();
    let (a, b) = (world.path("a.qcow2"), world.path("b.qcow2"));
    let make = |path: &Path, on: &Path| {
        qemu_img(&[&"create", &"-q", &"-f", &"qcow2", &"-F", &"qcow2", &"-b", &on, &"-u", &path, &"40M"]);
    };
    make(&a, &b);
    let missing = Image::open(&a, Backing::Followed).unwrap_err();
    assert!(matches!(&missing, DiskError::BackingMissing { backing, .. } if *backing == b), "{missing:?}");
    make(&b, &a);
    assert!(matches!(Image::open(&a, Backing::Followed), Err(DiskError::BackingLoop { .. })));
    qemu_img(&[&"rebase", &"-u", &"-F", &"qcow2", &"-b", &a, &a]);
    assert!(matches!(Image::open(&a, Backing::Followed), Err(DiskError::BackingLoop { .. })));
    assert!(matches!(Image::open(&a, Backing::Refused), Err(DiskError::HasBacking { .. })));
    // What is given takes the place of what is named.
    make(&a, Path::new("/nowhere"));
    let given = [world.qcow2("c.qcow2", &[])];
    let image = Image::open(&a, Backing::Given(&given)).unwrap();
    assert_eq!(inspect(&image).unwrap().boot.unwrap().version, VERSION);
}

#[test]
fn an_overlay_is_one_to_qemu_and_holds_the_machines_changes() {
    let world = World::new();
    let bases = [world.plain(), world.qcow2("base.qcow2", &["-c"])];
    for (base, format) in bases.iter().zip(["raw", "qcow2"]) {
        let before = fs::read(base).unwrap();
        let path = world.path("machine.qcow2");
        let made = overlay::create(&path, base, Some(10 << 30)).unwrap();
        assert_eq!(overlay::read(&path).unwrap(), made);
        assert_eq!((made.size, &made.base), (10 << 30, base));
        assert!(fs::metadata(&path).unwrap().len() <= 5 << 16);
        qemu_img(&[&"check", &path]);
        let told = qemu_img(&[&"info", &"--backing-chain", &path]);
        for line in [
            "virtual size: 10 GiB",
            &format!("backing file format: {format}"),
            &format!("backing file: {}", base.display()),
        ] {
            assert!(told.contains(line), "{line}: {told}");
        }
        let image = Image::open(&path, Backing::Followed).unwrap();
        image.check().unwrap();
        assert_eq!(image.size(), 10 << 30);
        assert_eq!(inspect(&image).unwrap().boot.unwrap().version, VERSION);
        // What is beyond the base is zero.
        let mut beyond = vec![1; 4096];
        image.read_at(9 << 30, &mut beyond).unwrap();
        assert!(beyond.iter().all(|byte| *byte == 0));
        // QEMU writes into it, far and near; the base stays.
        run(Command::new("qemu-io").args(["-c", "write -P 7 9G 64k", "-c", "write -P 9 0 512"]).arg(&path));
        qemu_img(&[&"check", &path]);
        let image = Image::open(&path, Backing::Followed).unwrap();
        image.check().unwrap();
        image.read_at(9 << 30, &mut beyond).unwrap();
        assert!(beyond.iter().all(|byte| *byte == 7));
        assert!(fs::read(base).unwrap() == before);
        // Another one above it.
        let above = world.path("above.qcow2");
        overlay::create(&above, &path, None).unwrap();
        qemu_img(&[&"check", &above]);
        let image = Image::open(&above, Backing::Followed).unwrap();
        image.read_at(0, &mut beyond[..512]).unwrap();
        assert!(beyond[..512].iter().all(|byte| *byte == 9));
    }
    let small = overlay::create(&world.path("small"), &bases[0], Some(MIB));
    assert!(matches!(small, Err(DiskError::TooSmall { .. })) && !world.path("small").exists());
    let large = overlay::create(&world.path("large"), &bases[0], Some(100 << 40));
    assert!(matches!(large, Err(DiskError::Absurd { .. })));
}

#[test]
fn a_damaged_file_system_is_an_error_and_never_more() {
    let world = World::new();
    let path = world.plain();
    let file = File::options().read(true).write(true).open(&path).unwrap();
    // The superblock, the descriptors and what lies behind them.
    for step in 0..200_u64 {
        let at = MIB + 1024 + step * 37 % 12_000;
        let mut good = vec![0; 1 + step as usize % 5];
        file.read_exact_at(&mut good, at).unwrap();
        let bad: Vec<u8> =
            good.iter().map(|byte| byte.wrapping_mul(31).wrapping_add(step as u8 | 1)).collect();
        file.write_all_at(&bad, at).unwrap();
        let _ = inspect(&open(&path));
        file.write_all_at(&good, at).unwrap();
    }
    assert!(inspect(&open(&path)).unwrap().boot.is_some());
}
