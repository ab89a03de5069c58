//! Disks and machines of other hypervisors, made by qemu-img and packed as their makers pack them.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use libtest_mimic::Trial;
use posada_box_catalog::{BoxError, Cancel, Export, Quiet, Refusal, StoredBox};
use posada_image::{Backing, Format, Machine, Options, Told};
use posada_provider_api::{DiskFormat, Seeding};

use crate::disks::disk;
use crate::support::{World, run, trial, write};

pub fn trials() -> Vec<Trial> {
    vec![
        trial("disks_of_other_hypervisors_become_raw", single),
        trial("vagrants_boxes_for_other_providers_are_taken", boxes),
        trial("a_machine_in_an_ova_is_taken", ova),
        trial("a_disk_is_exported", exported),
        trial("machines_that_are_none_are_refused", refused),
    ]
}

fn convert(raw: &Path, to: &Path, format: &str, option: &str) {
    run(Command::new("qemu-img").args(["convert", "-O", format, "-o", option]).arg(raw).arg(to));
}

fn tar(world: &World, name: &str, parts: &Path) -> PathBuf {
    let file = world.path(name);
    run(Command::new("tar").arg("-czf").arg(&file).arg("-C").arg(parts).arg("."));
    file
}

fn is(stored: &StoredBox, raw: &Path) {
    let kept = stored.disk().unwrap();
    assert_eq!(kept.format, DiskFormat::Raw);
    let (mut bytes, expected) = (fs::read(&kept.path).unwrap(), fs::read(raw).unwrap());
    // Some formats round a disk's size up.
    assert!(bytes.len() >= expected.len() && bytes[expected.len()..].iter().all(|byte| *byte == 0));
    bytes.truncate(expected.len());
    assert!(bytes == expected);
    let stat = fs::metadata(&kept.path).unwrap();
    assert!(stat.blocks() * 512 < stat.len(), "holes stay holes");
    assert!(stored.boot().is_some());
}

fn single() {
    let world = World::new();
    let raw = disk(&world, "a.img", &[]);
    for (number, (format, option)) in [
        ("vmdk", "subformat=monolithicSparse"),
        ("vmdk", "subformat=streamOptimized"),
        ("vdi", "static=off"),
        ("vpc", "subformat=dynamic"),
        ("vpc", "subformat=fixed"),
        ("vhdx", "subformat=dynamic"),
        ("parallels", "cluster_size=1M"),
        ("qcow2", "compression_type=zstd"),
        ("qcow2", "extended_l2=on"),
    ]
    .into_iter()
    .enumerate()
    {
        // Names tell nothing.
        let file = world.path(&format!("{number}.bin"));
        convert(&raw, &file, format, option);
        if number == 0 {
            run(Command::new("gzip").arg("-k").arg(&file));
            is(&world.add(&world.path("0.bin.gz"), "team/vm", "99").unwrap_or_else(|e| panic!("{e}")), &raw);
        }
        let stored = world.add(&file, "team/vm", &number.to_string());
        is(&stored.unwrap_or_else(|error| panic!("{format} {option}: {error}")), &raw);
        fs::remove_file(file).unwrap();
    }
    let file = world.path("dirty.bin");
    convert(&raw, &file, "vhdx", "block_size=1M");
    leave_dirty(&file, &raw);
    is(&world.add(&file, "team/vm", "50").unwrap_or_else(|error| panic!("{error}")), &raw);
    world.assert_clean();
}

/// Has qemu write zeros to a block of a VHDX that is not there yet, and then fail to carry out what it has written into the log.
fn leave_dirty(file: &Path, raw: &Path) {
    const MIB: usize = 1 << 20;
    let bytes = fs::read(raw).unwrap();
    let hole = bytes.chunks_exact(MIB).position(|block| block.iter().all(|byte| *byte == 0)).unwrap();
    let options = format!(
        "driver=vhdx,file.driver=blkdebug,file.image.driver=file,file.image.filename={},\
         file.inject-error.0.event=none,file.inject-error.0.iotype=write,file.inject-error.0.sector={}",
        file.display(),
        2 * MIB / 512
    );
    let write = format!("write -P 0 {hole}M 64k");
    let output = Command::new("qemu-io").args(["-c", &write, "--image-opts", &options]).output().unwrap();
    assert!(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).contains("write failed"));
    let told = Command::new("qemu-img").arg("info").arg(file).output().unwrap();
    assert!(String::from_utf8_lossy(&told.stderr).contains("needs to be replayed"));
}

const OVF: &str = r#"<?xml version="1.0"?><Envelope xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1">
<References><File ovf:id="file1" ovf:href="box-disk001.vmdk"/></References>
<DiskSection><Disk ovf:diskId="vmdisk1" ovf:fileRef="file1"/></DiskSection></Envelope>"#;

const PARALLELS: &str = "<?xml version='1.0'?><Parallels_disk_image><StorageData><Storage><Image><Type>Compressed</Type>\
<File>harddisk.hdd.0.{5fbaabe3}.hds</File></Image></Storage></StorageData></Parallels_disk_image>";

/// A Parallels disk in an expanding piece, and one of bytes as they are.
fn in_two(raw: &Path, bundle: &Path) {
    let bytes = fs::read(raw).unwrap();
    let (middle, end) = (bytes.len() / 1024 * 512, bytes.len());
    assert_eq!(end % 512, 0);
    let (first, second) = (bundle.join("a.part"), bundle.join("harddisk.hdd.1.{5fbaabe3}.hds"));
    write(&first, &bytes[..middle]);
    write(&second, &bytes[middle..]);
    convert(&first, &bundle.join("harddisk.hdd.0.{5fbaabe3}.hds"), "parallels", "cluster_size=1M");
    fs::remove_file(first).unwrap();
    let storage = |start: usize, end: usize, kind: &str, number: u32| {
        format!(
            "<Storage><Start>{}</Start><End>{}</End><Image><Type>{kind}</Type>\
             <File>harddisk.hdd.{number}.{{5fbaabe3}}.hds</File></Image></Storage>",
            start / 512,
            end / 512
        )
    };
    let storages = storage(middle, end, "Plain", 1) + &storage(0, middle, "Compressed", 0);
    let text = format!("<Parallels_disk_image><StorageData>{storages}</StorageData></Parallels_disk_image>");
    write(&bundle.join("DiskDescriptor.xml"), text);
}

fn boxes() {
    let world = World::new();
    let passwd = "root:x:0:0::/root:/bin/sh\nvagrant:x:1001:1001::/home/vagrant:/bin/sh\n";
    let raw = disk(&world, "v.img", &[("etc/passwd", passwd)]);
    for provider in ["virtualbox", "vmware_desktop", "hyperv", "parallels", "parallels-split"] {
        let parts = world.path(provider);
        write(&parts.join("metadata.json"), format!("{{\"provider\":\"{provider}\"}}"));
        write(&parts.join("Vagrantfile"), "Vagrant.configure('2') {}");
        match provider {
            "virtualbox" => {
                write(&parts.join("box.ovf"), OVF);
                convert(&raw, &parts.join("box-disk001.vmdk"), "vmdk", "subformat=streamOptimized");
            }
            "vmware_desktop" => {
                write(&parts.join("box.vmx"), "scsi0:0.fileName = \"disk.vmdk\"");
                write(&parts.join("box.nvram"), [0; 100]);
                convert(&raw, &parts.join("disk.vmdk"), "vmdk", "subformat=twoGbMaxExtentSparse");
                assert!(parts.join("disk-s001.vmdk").exists());
            }
            "hyperv" => {
                write(&parts.join("Virtual Machines/box.xml"), "<configuration/>");
                fs::create_dir(parts.join("Virtual Hard Disks")).unwrap();
                convert(&raw, &parts.join("Virtual Hard Disks/a b.vhdx"), "vhdx", "subformat=dynamic");
            }
            _ => {
                let bundle = parts.join("box.pvm/harddisk.hdd");
                write(&parts.join("box.pvm/config.pvs"), "<x/>");
                write(&bundle.join("harddisk.hdd"), "");
                if provider == "parallels" {
                    write(&bundle.join("DiskDescriptor.xml"), PARALLELS);
                    convert(
                        &raw,
                        &bundle.join("harddisk.hdd.0.{5fbaabe3}.hds"),
                        "parallels",
                        "cluster_size=1M",
                    );
                } else {
                    in_two(&raw, &bundle);
                }
            }
        }
        let file = tar(&world, &format!("{provider}.box"), &parts);
        let stored = world.add(&file, &format!("generic/{}", provider.replace("_", "-")), "1");
        let stored = stored.unwrap_or_else(|error| panic!("{provider}: {error}"));
        is(&stored, &raw);
        assert_eq!(
            (stored.metadata.user.as_str(), stored.disk().unwrap().seeding),
            ("vagrant", Seeding::InsecureKey)
        );
    }
    world.assert_clean();
}

fn ova() {
    let world = World::new();
    let raw = disk(&world, "a.img", &[]);
    let file = world.path("a.ova");
    let (_, image) = posada_image::open(&raw, Backing::Refused).unwrap();
    let machine = Machine { name: "a".into(), cpus: 1, memory: 512 };
    let options = Options { stream_optimized: true, machine };
    let told = Told { progress: &|_| {}, cancelled: &|| false };
    posada_image::write(Format::Ova, image.as_ref(), &file, &options, told).unwrap();
    is(&world.add(&file, "team/ova", "1").unwrap(), &raw);
    world.assert_clean();
}

fn exported() {
    let world = World::new();
    let raw = disk(&world, "a.img", &[]);
    let stored = world.add(&raw, "team/vm", "1").unwrap();
    let output = world.path("out");
    for (format, stream_optimized, replace) in [
        (Format::Qcow2, false, false),
        (Format::Vmdk, false, true),
        (Format::Vmdk, true, true),
        (Format::Vdi, false, true),
        (Format::Vhdx, false, true),
    ] {
        let export = Export { format, stream_optimized, output: output.clone(), replace };
        stored.export(&export, &Quiet, &Cancel::default()).unwrap();
        let args = ["compare", "-q", "-f", "raw", "-F", format.name()];
        run(Command::new("qemu-img").args(args).arg(&raw).arg(&output));
        let again = stored.export(&Export { replace: false, ..export }, &Quiet, &Cancel::default());
        assert!(matches!(again, Err(BoxError::FileThere(_))));
    }
    let tree = world.add(&world.archive("t.tar", "t", &[]), "team/tree", "1").unwrap();
    let export = Export { format: Format::Raw, stream_optimized: false, output, replace: true };
    let none = tree.export(&export, &Quiet, &Cancel::default());
    assert!(matches!(none, Err(BoxError::MissingForm { .. })));
}

fn refused() {
    let world = World::new();
    let raw = disk(&world, "a.img", &[]);
    let reason = |path: &Path| {
        let refusal = world.refused(path);
        let Refusal::Disk { what, hint: Some(_) } = refusal else { panic!("{refusal:?}") };
        what
    };
    let vmdk = world.path("a.vmdk");
    convert(&raw, &vmdk, "vmdk", "subformat=monolithicFlat");
    assert!(reason(&vmdk).contains("a-flat.vmdk"), "a descriptor alone is no disk");
    convert(&raw, &vmdk, "vmdk", "subformat=streamOptimized");
    let bytes = fs::read(&vmdk).unwrap();
    write(&vmdk, &bytes[..bytes.len() / 2]);
    assert!(reason(&vmdk).starts_with("it ends too early"));
    let parts = world.path("parts");
    for (name, href) in [("out", "../../etc/passwd"), ("gone", "gone.vmdk")] {
        write(&parts.join("box.ovf"), OVF.replace("box-disk001.vmdk", href));
        assert!(reason(&tar(&world, name, &parts)).contains(href));
    }
    fs::remove_file(parts.join("box.ovf")).unwrap();
    for name in ["a.vmdk", "b.vmdk"] {
        convert(&raw, &parts.join(name), "vmdk", "subformat=monolithicSparse");
    }
    assert!(reason(&tar(&world, "two", &parts)).contains("several disks"));
}
