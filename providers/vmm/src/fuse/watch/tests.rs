use std::os::unix::fs::MetadataExt;

use super::super::RAISING;
use super::super::tests::{Guest, ROOT, SetAttr};
use super::*;

/// Long enough for any busy machine; nothing waits for it that works.
const PATIENCE: Duration = Duration::from_secs(20);

fn watch(guest: &Guest, folders: usize) -> (Watch, Receiver<Changes>) {
    let (sender, changes) = channel();
    let watch = Watch::start(Arc::clone(&guest.server.share), folders, move |changes| {
        let _ = sender.send(changes);
    });
    let watch = watch.unwrap();
    watch.wait();
    (watch, changes)
}

/// What is told up to the path `last`.
fn told(changes: &Receiver<Changes>, last: &str) -> Vec<(String, Kind)> {
    let mut told = Vec::new();
    while !told.iter().any(|(path, _)| path == last) {
        let more = changes.recv_timeout(PATIENCE).expect("nothing is told");
        assert!(!more.lost);
        told.extend(more.paths.into_iter().map(|(path, kind)| (path.to_str().unwrap().to_owned(), kind)));
    }
    told
}

#[test]
fn what_the_host_changes_is_told_once_and_not_at_once() {
    let guest = Guest::new();
    fs_err::create_dir_all(guest.host("a/b")).unwrap();
    fs_err::write(guest.host("a/b/old"), "").unwrap();
    fs_err::write(guest.host("gone"), "").unwrap();
    let (_watch, changes) = watch(&guest, 100);
    let start = Instant::now();
    for _ in 0..10 {
        fs_err::write(guest.host("a/b/old"), "more").unwrap();
    }
    assert_eq!(told(&changes, "a/b/old"), [("a/b/old".to_owned(), Kind::Modified)]);
    assert!(start.elapsed() >= super::super::VALIDITY);
    fs_err::remove_file(guest.host("gone")).unwrap();
    let told_gone = told(&changes, "gone");
    assert!(told_gone.contains(&("gone".to_owned(), Kind::Removed)), "{told_gone:?}");
}

#[test]
fn new_and_moved_folders_are_watched() {
    let guest = Guest::new();
    let (_watch, changes) = watch(&guest, 100);
    fs_err::create_dir_all(guest.host("x/y")).unwrap();
    fs_err::write(guest.host("x/y/1"), "").unwrap();
    let first = told(&changes, "x/y/1");
    assert!(first.contains(&("x/y/1".to_owned(), Kind::Created)), "{first:?}");
    fs_err::rename(guest.host("x"), guest.host("z")).unwrap();
    let moved = told(&changes, "z/y/1");
    assert!(moved.contains(&("x".to_owned(), Kind::Removed)), "{moved:?}");
    fs_err::write(guest.host("z/y/2"), "").unwrap();
    assert!(told(&changes, "z/y/2").contains(&("z/y/2".to_owned(), Kind::Created)));
}

#[test]
fn the_guests_own_changes_are_not_told() {
    let mut guest = Guest::new();
    let (_watch, changes) = watch(&guest, 100);
    let (_, handle) = guest.create(ROOT, "mine", libc::O_RDWR).unwrap();
    guest.write(handle, 0, b"x", 0).unwrap();
    guest.mkdir(ROOT, "dir").unwrap();
    fs_err::write(guest.host("theirs"), "").unwrap();
    assert_eq!(told(&changes, "theirs"), [("theirs".to_owned(), Kind::Created)]);
}

#[test]
fn what_is_raised_changes_nothing_and_is_not_the_guests_doing() {
    let mut guest = Guest::new();
    fs_err::write(guest.host("file"), "x").unwrap();
    let file = guest.lookup(ROOT, "file").unwrap();
    let before = fs_err::metadata(guest.host("file")).unwrap();
    let (_watch, changes) = watch(&guest, 100);
    let raising = SetAttr { valid: 1 << 5, mtime: RAISING, ..SetAttr::default() };
    let told_guest = guest.setattr(file.node, &raising).unwrap();
    assert_eq!(told_guest, guest.getattr(file.node).unwrap());
    let after = fs_err::metadata(guest.host("file")).unwrap();
    assert_eq!(
        (before.mtime(), before.mtime_nsec(), before.ctime(), before.ctime_nsec()),
        (after.mtime(), after.mtime_nsec(), after.ctime(), after.ctime_nsec())
    );
    fs_err::write(guest.host("file"), "y").unwrap();
    assert_eq!(told(&changes, "file"), [("file".to_owned(), Kind::Modified)]);
    // With anything else it is a change like any other.
    let real = SetAttr { valid: 1 | 1 << 5, mtime: RAISING, mode: 0o600, ..SetAttr::default() };
    guest.setattr(file.node, &real).unwrap();
    assert_eq!(fs_err::metadata(guest.host("file")).unwrap().mtime(), RAISING as i64);
}

#[test]
fn folders_beyond_the_limit_are_not_watched() {
    let guest = Guest::new();
    fs_err::create_dir_all(guest.host("a/b")).unwrap();
    let (_watch, changes) = watch(&guest, 2);
    fs_err::write(guest.host("a/b/unseen"), "").unwrap();
    fs_err::write(guest.host("a/seen"), "").unwrap();
    assert_eq!(told(&changes, "a/seen"), [("a/seen".to_owned(), Kind::Created)]);
}

#[test]
fn more_than_can_be_remembered_is_told_as_such() {
    let mut pending = Pending::new(2);
    let now = Instant::now();
    for name in ["a", "b", "c", "a"] {
        pending.add(name.into(), Kind::Modified, now);
    }
    let due = pending.due().unwrap();
    assert_eq!(pending.take(now), Changes::default());
    let changes = pending.take(due);
    assert_eq!((changes.paths.len(), changes.lost), (2, true));
    assert_eq!(pending.due(), None);
}

#[test]
fn a_path_that_changes_on_and_on_is_told_on_and_on() {
    let mut pending = Pending::new(2);
    let start = Instant::now();
    pending.add("log".into(), Kind::Created, start);
    let later = start + super::super::VALIDITY / 2;
    pending.add("log".into(), Kind::Modified, later);
    let due = pending.due().unwrap();
    assert_eq!(pending.take(due).paths, [("log".into(), Kind::Created)]);
    let due = pending.due().unwrap();
    assert_eq!(due, later + super::super::VALIDITY);
    assert_eq!(pending.take(due).paths, [("log".into(), Kind::Modified)]);
    assert_eq!(pending.due(), None);
}
