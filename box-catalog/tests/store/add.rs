//! Adding, finding and removing.

use std::collections::HashSet;

use libtest_mimic::Trial;
use posada_box_catalog::{BoxError, BoxRef, Cancel, Digest, Form, NewBox, Quiet, Store, VersionReq, Which};
use posada_provider_api::Fault;
use sha2::Digest as _;

use crate::support::{World, exe, mode, new_box, trial};

pub fn trials() -> Vec<Trial> {
    vec![
        trial("added_boxes_are_found_by_name_and_version", found),
        trial("what_is_missing_is_told_with_what_is_near", missing),
        trial("the_digest_is_that_of_the_archive_and_content_is_kept_once", once),
        trial("a_version_is_not_changed_unless_asked", replaced),
        trial("removing_frees_the_disk_and_spares_what_is_in_use", removed),
        trial("a_file_is_added_once_and_again_when_it_changes", files),
        trial("a_file_has_the_checksum_it_should_have", checked),
        trial("a_file_that_changes_after_it_was_verified_is_not_stored", changing),
        trial("a_login_user_must_be_there", login_user),
        trial("a_cancelled_add_leaves_nothing", cancelled),
        trial("the_store_is_closed_to_others", closed),
    ]
}

fn checked() {
    use posada_fetch::{Algorithm, Checksum};

    let world = World::new();
    let archive = world.archive("a.tar", "one", &[]);
    let bytes = std::fs::read(&archive).unwrap();
    let new = new_box("team/web", "1.0");
    let add =
        |checksum: &Checksum| world.store.add_checked(&archive, checksum, &new, &Quiet, &Cancel::default());
    for algorithm in Algorithm::ALL {
        let error = add(&Checksum::of(algorithm, b"something else")).unwrap_err();
        assert!(matches!(&error, BoxError::Mismatch { got, .. } if *got == Checksum::of(algorithm, &bytes)));
        assert!(error.hint().unwrap().starts_with("nothing was stored"), "{error}");
        assert_eq!(world.store.list().unwrap(), []);
    }
    for algorithm in Algorithm::ALL {
        let stored = add(&Checksum::of(algorithm, &bytes)).unwrap();
        assert_eq!(std::fs::read_to_string(stored.rootfs().unwrap().join("etc/text")).unwrap(), "one");
    }
    let cancel = Cancel::default();
    cancel.cancel();
    let checksum = Checksum::of(Algorithm::Sha256, &bytes);
    let cancelled = world.store.add_checked(&archive, &checksum, &new, &Quiet, &cancel);
    assert!(matches!(cancelled, Err(BoxError::Cancelled)), "{cancelled:?}");
}

/// Something is written behind the end of the file while it is unpacked, and so after it was verified.
fn changing() {
    struct Writer(std::path::PathBuf);
    impl posada_box_catalog::Progress for Writer {
        fn advance(&self, _: u64) {}
        fn warn(&self, _: &str) {}
        fn phase(&self, phase: &str, _: Option<u64>) {
            if phase == "unpacking" {
                let mut file = std::fs::File::options().append(true).open(&self.0).unwrap();
                std::io::Write::write_all(&mut file, &[0; 512]).unwrap();
            }
        }
    }
    let world = World::new();
    let archive = world.archive("a.tar", "one", &[]);
    let checksum =
        posada_fetch::Checksum::of(posada_fetch::Algorithm::Md5, &std::fs::read(&archive).unwrap());
    let new = new_box("team/web", "1.0");
    let writer = Writer(archive.clone());
    let added = world.store.add_checked(&archive, &checksum, &new, &writer, &Cancel::default());
    assert!(matches!(&added, Err(BoxError::Changing(path)) if *path == archive), "{added:?}");
    assert_eq!(world.store.list().unwrap(), []);
}

fn nobody(_: &Digest) -> Vec<String> {
    Vec::new()
}

fn named(name: &str) -> BoxRef {
    BoxRef::parse(name).unwrap()
}

fn found() {
    let world = World::new();
    for version in ["1.0", "1.10", "1.9", "2.0.rc1"] {
        let archive = world.archive(&format!("{version}.tar"), version, &[]);
        let stored = world.add(&archive, "team/web", version).unwrap();
        assert_eq!(std::fs::read_to_string(stored.rootfs().unwrap().join("etc/text")).unwrap(), version);
    }
    let newest = |requirement: Option<&str>| {
        let requirement = requirement.map(|text| VersionReq::parse(text).unwrap());
        world
            .store
            .resolve(&named("team/web"), requirement.as_ref(), Form::Rootfs)
            .map(|stored| stored.version.to_string())
    };
    assert_eq!(newest(None).unwrap(), "2.0.rc1");
    assert_eq!(newest(Some("~> 1.0")).unwrap(), "1.10");
    assert_eq!(newest(Some("< 1.10")).unwrap(), "1.9");
    let error = newest(Some("> 3")).unwrap_err();
    assert_eq!(error.to_string(), "no version of `team/web` in the store is `> 3`");
    assert_eq!(error.hint().unwrap(), "there is `2.0.rc1`, `1.10`, `1.9`, `1.0`");

    let stored = world.store.resolve(&named("team/web"), None, Form::Rootfs).unwrap();
    assert_eq!(stored.metadata.user, "dev");
    assert_eq!(stored.metadata.os.name, "Debian 12");
    assert_eq!(stored.metadata.architecture.as_deref(), Some(posada_box_catalog::host_architecture()));
    let again = Store::open(world.path("boxes"), exe()).unwrap();
    assert_eq!(again.list().unwrap(), world.store.list().unwrap());
    world.assert_clean();
}

fn missing() {
    let world = World::new();
    world.add(&world.archive("a.tar", "a", &[]), "team/webserver", "1").unwrap();
    let hint = |name: &str| {
        let error = world.store.resolve(&named(name), None, Form::Rootfs).unwrap_err();
        assert_eq!(error.to_string(), format!("the box `{name}` is not in the store"));
        error.hint().unwrap()
    };
    assert_eq!(hint("debian/12"), "build it with `posada box build debian/12`");
    assert!(hint("team/webservr").contains("did you mean `team/webserver`"), "{}", hint("team/webservr"));
    assert!(hint("debain/12").contains("`debian/12`"), "{}", hint("debain/12"));
    assert!(hint("zzz").contains("posada box add"), "{}", hint("zzz"));
}

fn once() {
    let world = World::new();
    let archive = world.archive("a.tar", "a", &[]);
    let first = world.add(&archive, "one", "1").unwrap();
    let expected: [u8; 32] = sha2::Sha256::digest(std::fs::read(&archive).unwrap()).into();
    assert_eq!(first.digest, Digest::from_bytes(expected));
    let second = world.add(&archive, "two", "7").unwrap();
    let third = world.add(&archive, "one", "1").unwrap();
    assert_eq!(
        (second.rootfs().unwrap(), third.rootfs().unwrap()),
        (first.rootfs().unwrap(), first.rootfs().unwrap())
    );
    assert_eq!(world.store.list().unwrap().len(), 2);

    assert_eq!(world.store.remove("one", &Which::Only, false, &nobody).unwrap().freed, 0);
    assert!(first.rootfs().unwrap().exists(), "it has another name");
    assert!(world.store.remove("two", &Which::Only, false, &nobody).unwrap().freed > 0);
    assert!(!first.rootfs().unwrap().exists());
    world.assert_clean();
}

fn replaced() {
    let world = World::new();
    let (a, b) = (world.archive("a.tar", "a", &[]), world.archive("b.tar", "b", &[]));
    let old = world.add(&a, "web", "1").unwrap();
    let error = world.add(&b, "web", "1.0").unwrap_err();
    assert!(matches!(error, BoxError::VersionTaken { .. }), "{error}");
    world.assert_clean();
    let new = NewBox { replace: true, ..new_box("web", "1") };
    let new = world.store.add(&b, &new, &Quiet, &Cancel::default()).unwrap();
    assert_eq!(world.store.list().unwrap(), std::slice::from_ref(&new));
    assert!(old.rootfs().unwrap().exists(), "machines may be made from it");
    assert_eq!(world.store.by_digest(&old.digest).unwrap().unwrap().rootfs().unwrap(), old.rootfs().unwrap());
    world
        .store
        .prune(&|digest| if *digest == old.digest { vec!["web-1".to_owned()] } else { Vec::new() })
        .unwrap();
    assert!(old.rootfs().unwrap().exists());
    world.store.prune(&nobody).unwrap();
    assert!(!old.rootfs().unwrap().exists() && new.rootfs().unwrap().exists());
    assert_eq!(world.store.by_digest(&old.digest).unwrap(), None);
    let back = NewBox { replace: true, ..new_box("web", "1") };
    let back = world.store.add(&a, &back, &Quiet, &Cancel::default()).unwrap();
    assert_eq!(world.store.list().unwrap(), [back]);
    world.assert_clean();
}

fn removed() {
    let world = World::new();
    let used = world.add(&world.archive("a.tar", "a", &[]), "web", "1").unwrap();
    world.add(&world.archive("b.tar", "b", &[]), "web", "2").unwrap();
    let error = world.store.remove("web", &Which::Only, false, &nobody).unwrap_err();
    assert!(matches!(&error, BoxError::Ambiguous { have, .. } if have.len() == 2), "{error}");
    let missing = Which::Version("3".to_owned().try_into().unwrap());
    assert!(matches!(world.store.remove("web", &missing, false, &nobody), Err(BoxError::NoVersion { .. })));
    assert!(matches!(world.store.remove("wob", &Which::All, false, &nobody), Err(BoxError::Missing { .. })));

    let users =
        |digest: &Digest| if *digest == used.digest { vec!["web-3f9a1c20".to_owned()] } else { Vec::new() };
    let error = world.store.remove("web", &Which::All, false, &users).unwrap_err();
    assert_eq!(error.to_string(), "the box `web` 1 is used by web-3f9a1c20");
    assert_eq!(world.store.list().unwrap().len(), 2, "all or nothing");
    let gone = world.store.remove("web", &Which::All, true, &users).unwrap();
    assert_eq!(gone.boxes.len(), 2);
    assert_eq!(world.store.list().unwrap(), []);
    assert!(!used.rootfs().unwrap().exists());
    world.assert_clean();
}

fn files() {
    let world = World::new();
    let archive = world.archive("my box.tar", "a", &[]);
    let wanted = BoxRef::File(archive.clone());
    let error = world.store.resolve(&wanted, None, Form::Rootfs).unwrap_err();
    assert!(matches!(error, BoxError::FileNotAdded(_)), "{error}");
    let obtain = || world.store.obtain(&wanted, None, Form::Rootfs, &Quiet, &Cancel::default()).unwrap();
    let first = obtain();
    assert_eq!(world.store.resolve(&wanted, None, Form::Rootfs).unwrap(), first);
    assert_eq!(obtain(), first);

    world.archive("my box.tar", "b", &[]);
    assert!(
        matches!(world.store.resolve(&wanted, None, Form::Rootfs), Err(BoxError::FileNotAdded(_))),
        "the file is another one"
    );
    let second = obtain();
    assert_ne!(second.digest, first.digest);
    assert_eq!(second.name, first.name);
    std::fs::create_dir(world.path("other")).unwrap();
    std::fs::copy(&archive, world.path("other/my box.tar")).unwrap();
    let other = BoxRef::File(world.path("other/my box.tar"));
    let third = world.store.obtain(&other, None, Form::Rootfs, &Quiet, &Cancel::default()).unwrap();
    assert_eq!(third.rootfs().unwrap(), second.rootfs().unwrap());
    let digests: HashSet<_> = world.store.list().unwrap().into_iter().map(|stored| stored.digest).collect();
    assert_eq!(digests, HashSet::from([second.digest]));
    let gone = BoxRef::File(world.path("nothing.tar"));
    assert!(matches!(world.store.resolve(&gone, None, Form::Rootfs), Err(BoxError::FileMissing(_))));
}

fn login_user() {
    let world = World::new();
    let archive = world.archive("a.tar", "a", &[]);
    let add = |user: &str| {
        let new = NewBox { user: Some(user.to_owned()), ..new_box("web", "1") };
        world.store.add(&archive, &new, &Quiet, &Cancel::default())
    };
    let error = add("nobody-here").unwrap_err();
    assert!(error.to_string().contains("`nobody-here`"), "{error}");
    world.assert_clean();
    assert_eq!(add("root").unwrap().metadata.user, "root");
}

fn cancelled() {
    let world = World::new();
    let archive = world.archive("a.tar", "a", &[]);
    let cancel = Cancel::default();
    cancel.cancel();
    let error = world.store.add(&archive, &new_box("web", "1"), &Quiet, &cancel).unwrap_err();
    assert!(matches!(error, BoxError::Cancelled), "{error}");
    assert_eq!(world.store.list().unwrap(), []);
    world.assert_clean();
}

fn closed() {
    let world = World::new();
    for directory in ["", "trees", "incoming", "trash"] {
        assert_eq!(mode(&world.path("boxes").join(directory)), 0o700, "{directory}");
    }
}
