//! Boxes that hold a disk image, made by mke2fs, sfdisk's peers and qemu-img.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use libtest_mimic::Trial;
use posada_box_catalog::{BoxError, BoxRef, Cancel, Form, Quiet, Refusal, StoredBox, Which};
use posada_provider_api::{DiskFormat, Fault as _, Layer, Seeding};

use crate::support::{PACKED, World, entries, mode, new_box, run, trial, write};

pub fn trials() -> Vec<Trial> {
    vec![
        trial("a_disk_is_stored_with_what_it_boots", stored),
        trial("a_packed_kernel_is_kept_unpacked", unpacked),
        trial("compressed_and_packed_disks_are_the_same_disks", packed),
        trial("vagrants_boxes_for_libvirt_are_taken", vagrant),
        trial("one_name_stands_for_a_tree_and_a_disk", both),
        trial("a_disk_is_made_into_a_tree_once_and_follows_what_it_is_named_after", derived),
        trial("a_tree_becomes_a_disk_with_its_own_kernel_or_that_of_another_box", with_kernel),
        trial("disks_that_are_none_are_refused_with_a_way_out", refused),
    ]
}

const CMDLINE: &str = "root=/dev/vda ro console=ttyS0";

/// A file system that is a whole disk, with a kernel that GRUB would boot; `more` goes in beside it.
pub fn disk(world: &World, name: &str, more: &[(&str, &str)]) -> PathBuf {
    let mut kernel = vec![0x90; 200_000];
    kernel[0x202..0x206].copy_from_slice(b"HdrS");
    disk_with(world, name, &kernel, more)
}

fn disk_with(world: &World, name: &str, kernel: &[u8], more: &[(&str, &str)]) -> PathBuf {
    let (tree, image) = (world.rootfs(&format!("{name}.tree"), name), world.path(name));
    write(&tree.join("boot/vmlinuz-6.1"), kernel);
    write(&tree.join("boot/initrd.img-6.1"), vec![7; 1000]);
    let entry =
        "menuentry a { linux /boot/vmlinuz-6.1 root=/dev/vda ro console=ttyS0; initrd /boot/initrd.img-6.1 }";
    write(&tree.join("boot/grub/grub.cfg"), entry);
    for (path, text) in more {
        write(&tree.join(path), text);
    }
    fs::File::create(&image).unwrap().set_len(16 << 20).unwrap();
    run(Command::new("mke2fs").args(["-q", "-t", "ext4", "-F", "-d"]).arg(tree).arg(&image));
    image
}

fn qcow2(raw: &Path) -> PathBuf {
    let path = raw.with_extension("qcow2");
    run(Command::new("qemu-img").args(["convert", "-c", "-O", "qcow2"]).arg(raw).arg(&path));
    path
}

fn stored() {
    let world = World::new();
    let cloud = "system_info:\n  default_user:\n    name: debian\n";
    let raw = disk(&world, "a.img", &[("usr/bin/cloud-init", ""), ("etc/cloud/cloud.cfg", cloud)]);
    for (path, format, version) in
        [(raw.clone(), DiskFormat::Raw, "1"), (qcow2(&raw), DiskFormat::Qcow2, "2")]
    {
        let stored = world.add(&path, "team/vm", version).unwrap();
        assert_eq!((stored.rootfs(), stored.metadata.os.id.as_str()), (None, "debian"));
        // The first person of the system comes before the one whom cloud-init would make.
        assert_eq!(stored.metadata.user, "dev");
        assert_eq!(stored.metadata.architecture.as_deref(), Some(posada_box_catalog::host_architecture()));
        let kept = stored.disk().unwrap();
        assert_eq!((kept.format, kept.size, kept.seeding), (format, 16 << 20, Seeding::CloudInit));
        assert!(fs::read(&kept.path).unwrap() == fs::read(&path).unwrap());
        assert_eq!(mode(&kept.path), 0o444);
        let boot = stored.boot().unwrap();
        assert_eq!(boot.cmdline, CMDLINE);
        assert_eq!(fs::metadata(&boot.kernel).unwrap().len(), 200_000);
        assert_eq!(fs::read(boot.initrd.as_ref().unwrap()).unwrap(), vec![7; 1000]);
        let Layer::Disk { path, boot: Some(_), .. } = stored.layer(Form::Disk).unwrap() else {
            panic!("no disk")
        };
        assert_eq!(path, kept.path);
        assert_eq!(world.store.by_digest(&stored.digest).unwrap().unwrap(), stored);
        assert_eq!(entries(kept.path.parent().unwrap()).len(), 3);
    }
    let raw = world.store.list().unwrap().into_iter().find(|stored| stored.version.as_str() == "1").unwrap();
    let stat = fs::metadata(raw.disk().unwrap().path).unwrap();
    assert!(stat.blocks() * 512 < stat.len(), "holes stay holes");
    world.assert_clean();
}

fn unpacked() {
    let world = World::new();
    let mut kernel = vec![0x90; 200_000];
    kernel[0x202..0x206].copy_from_slice(b"HdrS");
    kernel.extend(PACKED);
    let image = disk_with(&world, "a.img", &kernel, &[]);
    let stored = world.add(&image, "team/vm", "1").unwrap();
    let kept = stored.boot().unwrap().kernel;
    assert!(fs::read(&kept).unwrap() == [b"unpacked", &kernel[..]].concat());
    assert_eq!(mode(&kept), 0o444);
    world.assert_clean();
}

fn packed() {
    let world = World::new();
    let raw = disk(&world, "disk.raw", &[]);
    let tar = world.path("cloud.tar");
    run(Command::new("tar").arg("-S").arg("-cf").arg(&tar).arg("-C").arg(world.dir.path()).arg("disk.raw"));
    run(Command::new("xz").args(["-k", "-0"]).arg(&tar));
    run(Command::new("gzip").arg("-k").arg(&raw));
    for (version, name) in [("1", "cloud.tar"), ("2", "cloud.tar.xz"), ("3", "disk.raw.gz")] {
        let stored = world.add(&world.path(name), "team/vm", version).unwrap();
        let kept = stored.disk().unwrap();
        assert!(fs::read(&kept.path).unwrap() == fs::read(&raw).unwrap(), "{name}");
        assert_eq!((kept.seeding, stored.boot().unwrap().cmdline.as_str()), (Seeding::None, CMDLINE));
    }
    world.assert_clean();
}

fn vagrant() {
    let world = World::new();
    let passwd = "root:x:0:0::/root:/bin/sh\nvagrant:x:1001:1001::/home/vagrant:/bin/sh\n";
    let image = qcow2(&disk(&world, "v.img", &[("etc/passwd", passwd)]));
    let parts = world.path("parts");
    write(&parts.join("metadata.json"), r#"{"provider":"libvirt","format":"qcow2","virtual_size":1}"#);
    write(&parts.join("Vagrantfile"), "Vagrant.configure('2') {}");
    fs::rename(image, parts.join("box.img")).unwrap();
    let file = world.path("v.box");
    run(Command::new("tar").arg("-czf").arg(&file).arg("-C").arg(&parts).args([
        "metadata.json",
        "Vagrantfile",
        "box.img",
    ]));
    let stored = world.add(&file, "generic/debian12", "1").unwrap();
    assert_eq!(stored.metadata.user, "vagrant");
    let kept = stored.disk().unwrap();
    assert_eq!((kept.format, kept.seeding), (DiskFormat::Qcow2, Seeding::InsecureKey));
    assert!(stored.boot().is_some());
    world.assert_clean();
}

fn both() {
    let world = World::new();
    let name = BoxRef::parse("team/web").unwrap();
    let resolve = |form| world.store.resolve(&name, None, form);
    let tree = world.add(&world.archive("a.tar", "a", &[]), "team/web", "1").unwrap();
    let error = resolve(Form::Disk).unwrap_err();
    assert!(matches!(&error, BoxError::MissingForm { needed: Form::Disk, .. }), "{error}");
    assert!(error.hint().unwrap().contains("posada box add FILE --name team/web"), "{:?}", error.hint());
    let image = disk(&world, "b.img", &[]);
    let disk = world.add(&image, "team/web", "1").unwrap();
    assert_eq!(resolve(Form::Rootfs).unwrap(), tree);
    assert_eq!(resolve(Form::Disk).unwrap(), disk);
    assert_eq!(world.store.list().unwrap().len(), 2);
    // Of one form there is one only.
    let other = self::disk(&world, "c.img", &[]);
    assert!(matches!(world.add(&other, "team/web", "1"), Err(BoxError::VersionTaken { .. })));
    let new = posada_box_catalog::NewBox { replace: true, ..new_box("team/web", "1") };
    let other = world.store.add(&other, &new, &Quiet, &Cancel::default()).unwrap();
    assert_eq!((resolve(Form::Rootfs).unwrap(), resolve(Form::Disk).unwrap()), (tree, other));
    // They go together.
    assert_eq!(world.store.remove("team/web", &Which::Only, false, &|_| Vec::new()).unwrap().boxes.len(), 2);
    // A Vmfile may name the file.
    let file = BoxRef::File(image);
    let obtain = |form| world.store.obtain(&file, None, form, &Quiet, &Cancel::default());
    assert!(matches!(obtain(Form::Rootfs), Err(BoxError::MissingForm { .. })));
    assert!(obtain(Form::Disk).unwrap().disk().is_some());
    world.assert_clean();
}

fn derived() {
    let world = World::new();
    let fstab = "/dev/vda / ext4 defaults 0 1\ntmpfs /tmp tmpfs nosuid\n";
    let image = disk(&world, "a.img", &[("etc/fstab", fstab), ("etc/motd", "first")]);
    let args = ["-w", "-R", "ea_set /etc/motd user.mark here"];
    run(Command::new("debugfs").args(args).arg(&image));
    let disk = world.add(&qcow2(&image), "team/vm", "1").unwrap();
    let name = BoxRef::parse("team/vm").unwrap();
    let derive = || world.store.derive(&name, None, Form::Rootfs, None, &Quiet, &Cancel::default());
    let motd = |stored: &StoredBox| fs::read_to_string(stored.rootfs().unwrap().join("etc/motd")).unwrap();

    let tree = derive().unwrap();
    assert_eq!((tree.name.as_str(), tree.version.as_str(), motd(&tree).as_str()), ("team/vm", "1", "first"));
    let root = tree.rootfs().unwrap();
    assert_eq!(fs::read_to_string(root.join("etc/fstab")).unwrap(), "tmpfs /tmp tmpfs nosuid\n");
    let mut value = [0; 8];
    let length = rustix::fs::getxattr(root.join("etc/motd"), "user.mark", &mut value).unwrap();
    assert_eq!(&value[..length], b"here");
    assert!(!root.join("lost+found").exists());
    assert_eq!((tree.metadata.user.as_str(), tree.metadata.os.id.as_str()), ("dev", "debian"));
    // It is there now, and is the same whoever makes it.
    assert_eq!(world.store.resolve(&name, None, Form::Rootfs).unwrap(), tree);
    assert_eq!(derive().unwrap(), tree);
    assert_eq!(world.store.list().unwrap().len(), 2);
    let again = World::new();
    again.add(&qcow2(&image), "other", "7").unwrap();
    let other = BoxRef::parse("other").unwrap();
    let other = again.store.derive(&other, None, Form::Rootfs, None, &Quiet, &Cancel::default()).unwrap();
    assert_eq!(other.digest, tree.digest);

    // A newer version is made into a tree of its own, and the older one is there for who asks for it.
    let newer = self::disk(&world, "n.img", &[("etc/motd", "newer")]);
    world.add(&newer, "team/vm", "1.5").unwrap();
    let gone = world.store.resolve(&name, None, Form::Rootfs);
    assert!(matches!(gone, Err(BoxError::MissingForm { .. })), "{gone:?}");
    let older = posada_box_catalog::VersionReq::parse("= 1").unwrap();
    assert_eq!(world.store.resolve(&name, Some(&older), Form::Rootfs).unwrap(), tree);
    assert_eq!(motd(&derive().unwrap()), "newer");
    let version = posada_box_catalog::Version::parse("1.5").unwrap();
    world.store.remove("team/vm", &Which::Version(version), false, &|_| Vec::new()).unwrap();

    // Another disk by that name takes the tree's name with it.
    let second = self::disk(&world, "b.img", &[("etc/motd", "second")]);
    let new = posada_box_catalog::NewBox { replace: true, ..new_box("team/vm", "1") };
    world.store.add(&second, &new, &Quiet, &Cancel::default()).unwrap();
    let gone = world.store.resolve(&name, None, Form::Rootfs);
    assert!(matches!(gone, Err(BoxError::MissingForm { .. })), "{gone:?}");
    assert_eq!(motd(&derive().unwrap()), "second");
    // And a tree of its own takes its place, without being told to.
    let own = world.add(&world.archive("own.tar", "own", &[]), "team/vm", "1").unwrap();
    assert_eq!(world.store.resolve(&name, None, Form::Rootfs).unwrap(), own);
    assert_eq!(derive().unwrap(), own);

    // A file that a Vmfile names.
    let file = BoxRef::File(image);
    let tree = world.store.derive(&file, None, Form::Rootfs, None, &Quiet, &Cancel::default()).unwrap();
    for form in [Form::Rootfs, Form::Disk] {
        let obtained = world.store.obtain(&file, None, form, &Quiet, &Cancel::default()).unwrap();
        assert_eq!(obtained.digest == tree.digest, form == Form::Rootfs);
    }
    assert_eq!(disk.metadata.provides.len(), 1);
    // Divided into chunks, a disk is put together for it.
    let third = self::disk(&world, "c.img", &[("etc/motd", "third")]);
    world.add(&third, "team/third", "1").unwrap();
    world.store.gc(false, &|_| Vec::new(), &Quiet, &Cancel::default()).unwrap();
    let third = BoxRef::parse("team/third").unwrap();
    assert_eq!(
        motd(&world.store.derive(&third, None, Form::Rootfs, None, &Quiet, &Cancel::default()).unwrap()),
        "third"
    );
    world.assert_clean();
}

fn with_kernel() {
    let world = World::new();
    let cloud = |name: &str, more: &[(&str, &str)]| {
        let tree = world.rootfs(&format!("{name}.tree"), name);
        write(&tree.join("usr/bin/cloud-init"), "#!/usr/bin/python3\n");
        more.iter().for_each(|(path, text)| write(&tree.join(path), text));
        let archive = world.path(name);
        run(Command::new("tar").arg("-cf").arg(&archive).arg("-C").arg(&tree).arg("."));
        archive
    };
    let derive = |name: &str, kernel: Option<&str>| {
        let (name, kernel) = (BoxRef::parse(name).unwrap(), kernel.map(|name| BoxRef::parse(name).unwrap()));
        world.store.derive(&name, None, Form::Disk, kernel.as_ref(), &Quiet, &Cancel::default())
    };
    let fstab = "LABEL=cloudimg-rootfs / ext4 defaults 0 1\ntmpfs /tmp tmpfs\n";
    let modules = "usr/lib/modules/6.1/kernel/virtio.ko";
    let kernel = disk(&world, "kernel.img", &[(modules, "a module"), ("etc/motd", "the kernel's box")]);
    world.add(&kernel, "team/kernel", "1").unwrap();
    let tree = world
        .add(&cloud("tree.tar", &[("etc/motd", "the tree's"), ("etc/fstab", fstab)]), "team/tree", "2")
        .unwrap();

    let none = derive("team/tree", None).unwrap_err();
    assert!(matches!(&none, BoxError::NoKernel(name) if name == "team/tree"), "{none}");
    assert!(none.hint().unwrap().contains("kernel: BOX"));
    let made = derive("team/tree", Some("team/kernel")).unwrap();
    assert_eq!((made.name.as_str(), made.version.as_str()), ("team/tree", "2"));
    assert_ne!(made.digest, tree.digest);
    assert_eq!(made.disk().unwrap().seeding, Seeding::CloudInit);
    let boot = made.boot().unwrap();
    assert_eq!(
        fs::read(&boot.kernel).unwrap(),
        fs::read(world.path("kernel.img.tree").join("boot/vmlinuz-6.1")).unwrap()
    );
    assert_eq!(fs::read(boot.initrd.unwrap()).unwrap(), vec![7; 1000]);
    assert!(boot.cmdline.starts_with("root=PARTUUID="), "{}", boot.cmdline);
    let image = format!("{}?offset={}", made.disk().unwrap().path.display(), 1 << 20);
    run(Command::new("e2fsck").arg("-fn").arg(&image));
    let cat = |path: &str| {
        let output = Command::new("debugfs").args(["-R", &format!("cat {path}"), &image]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(cat("/etc/motd"), "the tree's");
    assert_eq!(cat("/etc/fstab"), "LABEL=posada / ext4 errors=remount-ro 0 1\ntmpfs /tmp tmpfs\n");
    // Where this system looks for them: its /lib is none of its own, or is.
    let usr = fs::symlink_metadata(tree.rootfs().unwrap().join("lib")).is_ok_and(|lib| lib.is_symlink());
    assert_eq!(cat(&modules[if usr { 0 } else { "usr/".len() }..]), "a module");
    // Made once.
    assert_eq!(derive("team/tree", None).unwrap(), made);
    assert_eq!(world.store.resolve(&BoxRef::parse("team/tree").unwrap(), None, Form::Rootfs).unwrap(), tree);

    // One with a kernel needs no other.
    let own = cloud("own.tar", &[]);
    let tree = world.path("own.tar.tree");
    fs::create_dir_all(tree.join("boot")).unwrap();
    fs::copy(world.path("kernel.img.tree").join("boot/vmlinuz-6.1"), tree.join("boot/vmlinuz-6.2")).unwrap();
    run(Command::new("tar").arg("-cf").arg(&own).arg("-C").arg(&tree).arg("."));
    world.add(&own, "team/own", "1").unwrap();
    assert!(derive("team/own", None).unwrap().boot().unwrap().initrd.is_none());
    // Nobody could be let in to this one.
    world.add(&world.archive("plain.tar", "plain", &[]), "team/plain", "1").unwrap();
    let plain = derive("team/plain", Some("team/kernel")).unwrap_err();
    assert!(matches!(&plain, BoxError::NoWayIn(name) if name == "team/plain"), "{plain}");
    assert!(plain.hint().unwrap().contains("cloud-init"));
    world.assert_clean();
}

fn refused() {
    let world = World::new();
    let image = disk(&world, "a.img", &[]);
    let whole = qcow2(&image);
    let reason = |path: &Path| {
        let refusal = world.refused(path);
        let Refusal::Disk { what, hint: Some(_) } = refusal else { panic!("{refusal:?}") };
        what
    };
    let cut = world.path("cut.qcow2");
    let bytes = fs::read(&whole).unwrap();
    write(&cut, &bytes[..bytes.len() * 2 / 3]);
    assert!(reason(&cut).starts_with("it ends too early"));
    let overlay = world.path("overlay.qcow2");
    run(Command::new("qemu-img")
        .args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b", "/etc/passwd"])
        .arg(&overlay));
    assert!(reason(&overlay).contains("/etc/passwd"), "no file of the host is read");
    let empty = world.path("empty.img");
    fs::File::create(&empty).unwrap().set_len(4 << 20).unwrap();
    run(Command::new("mke2fs").args(["-q", "-t", "ext4", "-F"]).arg(&empty));
    assert!(reason(&empty).contains("holds a system"));
}
