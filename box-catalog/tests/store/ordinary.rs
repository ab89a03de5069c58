//! The store of an ordinary user, whose boxes' files belong to the user's subordinate ids.

use std::fs::File;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use libtest_mimic::Trial;
use posada_box_catalog::{Store, StoredBox};

use crate::support::{self, World, entries, exe, mode, run, trial, write};

const USER: &str = "posada-test";

pub fn trials() -> Vec<Trial> {
    vec![
        trial("an_ordinary_users_boxes_belong_to_subordinate_ids", owners),
        trial("an_ordinary_user_builds_and_cancels", builds),
        trial("an_ordinary_user_is_rid_of_what_was_refused_or_removed", rid),
    ]
}

/// The test user's id and first subordinate id; the user is made where it is not there.
fn user() -> (u32, u32) {
    // The folder and the lock that the end-to-end tests use for the same.
    let cache = std::env::var_os("POSADA_TEST_CACHE").filter(|value| !value.is_empty());
    let cache = cache.map_or_else(|| "/var/tmp/posada-test-0".into(), PathBuf::from);
    std::fs::create_dir_all(&cache).unwrap();
    std::fs::set_permissions(&cache, std::fs::Permissions::from_mode(0o755)).unwrap();
    let lock = File::create(cache.join("user.lock")).unwrap();
    lock.lock().unwrap();
    if !Command::new("id").arg(USER).output().unwrap().status.success() {
        run(Command::new("useradd").args(["--create-home", "--shell", "/bin/bash", USER]));
    }
    let uid = String::from_utf8(run(Command::new("id").args(["-u", USER]))).unwrap();
    let subuids = std::fs::read_to_string("/etc/subuid").unwrap();
    let line = subuids.lines().find_map(|line| line.strip_prefix(USER)?.strip_prefix(':'));
    let start = line.unwrap_or_else(|| panic!("{USER} has no subordinate ids")).split(':').next().unwrap();
    (uid.trim().parse().unwrap(), start.parse().unwrap())
}

/// Runs a word of this binary as the test user.
fn as_user(cwd: &Path, word: &str, args: &[&Path], rest: &[&str]) -> Output {
    let binary = std::fs::read_link(exe()).unwrap();
    let mut command = Command::new("setpriv");
    command.args(["--reuid", USER, "--regid", USER, "--init-groups", "--"]).arg(binary).arg(word);
    command.args(args).args(rest).current_dir(cwd).output().unwrap()
}

fn world(uid: u32) -> World {
    let world = World::new();
    chown(world.dir.path(), Some(uid), Some(uid)).unwrap();
    world
}

fn add(world: &World, archive: &Path, version: &str) -> Output {
    as_user(Path::new("/"), support::CHILD, &[&world.path("mine"), archive], &["web", version])
}

fn listed(world: &World) -> Vec<StoredBox> {
    Store::open(world.path("mine"), exe()).unwrap().list().unwrap()
}

fn owners() {
    let (uid, first) = user();
    let world = world(uid);
    let root = world.rootfs("root", "ordinary");
    write(&root.join("usr/bin/sudo"), "suid");
    write(&root.join("home/dev/mine"), "mine");
    write(&root.join("etc/group42"), "42");
    let script = "chown -R 0:0 .; chown -R 1000:1000 home/dev; chown 0:42 etc/group42; chmod 750 etc/group42; \
                  chmod 4755 usr/bin/sudo; mknod etc/null c 1 3";
    run(Command::new("sh").current_dir(&root).args(["-ec", script]));
    let archive = world.path("a.tar");
    run(Command::new("tar").arg("-cf").arg(&archive).arg("-C").arg(&root).arg("."));
    run(Command::new("chmod").arg("0644").arg(&archive));
    let output = add(&world, &archive, "1");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let tree = listed(&world).pop().unwrap().rootfs().unwrap();
    let owner = |path: &str| {
        let stat = std::fs::symlink_metadata(tree.join(path)).unwrap();
        (stat.uid(), stat.gid())
    };
    assert_eq!(owner("etc/passwd").0, first);
    assert_eq!(owner("etc/group42"), (owner("etc").0, owner("etc").1 + 42));
    assert_eq!(owner("home/dev/mine"), (uid, uid), "the user inside is the user outside");
    assert_eq!(mode(&tree.join("usr/bin/sudo")), 0o4755);
    assert_eq!(mode(&tree.join("etc/group42")), 0o750);
    assert!(!tree.join("etc/null").exists());
}

fn builds() {
    let (uid, first) = user();
    let world = world(uid);
    let recipe = world.path("small.yaml");
    write(&recipe, crate::build::SMALL);
    chown(&recipe, Some(uid), Some(uid)).unwrap();
    let left_by_mmdebstrap = || {
        let owners = [uid, first];
        let belongs =
            |path: &Path| std::fs::symlink_metadata(path).is_ok_and(|stat| owners.contains(&stat.uid()));
        let mine =
            |name: &String| name.starts_with("posada-build-") && belongs(&Path::new("/var/tmp").join(name));
        entries(Path::new("/var/tmp")).into_iter().filter(mine).count()
    };
    // The store by a relative path, as programs of its own work in other directories.
    let build =
        |rest: &[&str]| as_user(world.dir.path(), support::BUILD, &[Path::new("mine"), &recipe], rest);
    let before = left_by_mmdebstrap();
    let output = build(&["installing essential packages"]);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && told.ends_with("cancelled\n"), "{told}");
    assert_eq!(left_by_mmdebstrap(), before);
    for directory in ["incoming", "trash", "trees"] {
        assert_eq!(entries(&world.path("mine").join(directory)), Vec::<String>::new(), "{directory}");
    }
    let output = build(&[]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let tree = listed(&world).pop().unwrap().rootfs().unwrap();
    assert_eq!(std::fs::read_to_string(tree.join("etc/answer")).unwrap(), "42\n");
}

fn rid() {
    let (uid, _) = user();
    let world = world(uid);
    let archive = world.archive("a.tar", "a", &[]);
    let bytes = std::fs::read(&archive).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    write(&world.path("cut.tar"), &bytes[..end * 9 / 10]);
    run(Command::new("chmod").arg("0644").args([&archive, &world.path("cut.tar")]));
    assert!(!add(&world, &world.path("cut.tar"), "1").status.success());
    let left = |directory: &str| entries(&world.path("mine").join(directory));
    for directory in ["incoming", "trash", "trees"] {
        assert_eq!(left(directory), Vec::<String>::new(), "{directory}");
    }
    assert!(add(&world, &archive, "1").status.success());
    assert_eq!(left("trees").len(), 1);
    let output = as_user(Path::new("/"), support::REMOVE, &[&world.path("mine")], &["web"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for directory in ["incoming", "trash", "trees"] {
        assert_eq!(left(directory), Vec::<String>::new(), "{directory}");
    }
}
