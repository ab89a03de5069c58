//! The store as its users see it.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use posada_chunks::{Adder, ChunkStore, Digest, Error, Manifest};

const NEVER: &(dyn Fn() -> bool + Sync) = &|| false;

fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// A sparse file of 1 GiB: data at its beginning, in its middle, and at an odd place.
fn image(path: &Path, seed: u64) -> Vec<(u64, Vec<u8>)> {
    let parts = vec![
        (0, noise(seed, 3_000_000)),
        (500 << 20, noise(seed + 1, 100)),
        ((600 << 20) + 77, noise(seed + 2, 700_000)),
    ];
    let mut file = File::create(path).unwrap();
    file.set_len(1 << 30).unwrap();
    for (offset, bytes) in &parts {
        file.seek(SeekFrom::Start(*offset)).unwrap();
        file.write_all(bytes).unwrap();
    }
    parts
}

fn add(store: &ChunkStore, path: &Path) -> Manifest {
    let adder = store.adder().unwrap();
    let manifest = adder.file(path, &|_| {}, NEVER).unwrap();
    drop(adder.commit().unwrap());
    manifest
}

fn assemble(store: &ChunkStore, manifest: &Manifest, path: &Path) -> Result<(), Error> {
    store.assemble(manifest, &File::create(path).unwrap(), &|_| {}, NEVER)
}

fn equal(a: &Path, b: &Path) {
    let status = std::process::Command::new("cmp").args([a, b]).status().unwrap();
    assert!(status.success());
}

fn file_of(store: &ChunkStore, digest: &Digest) -> PathBuf {
    let name = digest.to_string();
    store.root().join("data").join(&name[..2]).join(&name[2..])
}

#[test]
fn a_sparse_image_comes_out_as_it_went_in_and_is_kept_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = ChunkStore::open(&dir.path().join("chunks")).unwrap();
    let (first, again) = (dir.path().join("first"), dir.path().join("again"));
    image(&first, 1);
    let manifest = add(&store, &first);
    let kept = store.list().unwrap();
    assemble(&store, &manifest, &again).unwrap();
    equal(&first, &again);
    assert!(fs::metadata(&again).unwrap().blocks() * 512 < 4 << 20, "holes are holes again");
    assert!(store.missing(&manifest).unwrap().is_empty());

    // The same content with other holes in its file is the same list, and brings nothing.
    let mut dense = File::options().write(true).open(&first).unwrap();
    dense.seek(SeekFrom::Start(4_000_000)).unwrap();
    dense.write_all(&vec![0; 5_000_000]).unwrap();
    assert_eq!(add(&store, &first).digest(), manifest.digest());
    assert_eq!(store.list().unwrap(), kept);
}

#[test]
fn what_is_dropped_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = ChunkStore::open(dir.path()).unwrap();
    let adder = store.adder().unwrap();
    let digest = adder.put(b"one").unwrap();
    assert!(adder.has(&digest).unwrap());
    assert!(!store.has(&digest).unwrap(), "not before it is committed");
    drop(adder);
    assert!(!store.has(&digest).unwrap());
    assert_eq!(fs::read_dir(dir.path().join("adding")).unwrap().count(), 0);
}

#[test]
fn a_cancelled_content_and_a_failing_reader_end_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = ChunkStore::open(&dir.path().join("chunks")).unwrap();
    let path = dir.path().join("image");
    fs::write(&path, noise(5, 9 << 20)).unwrap();
    let adder = store.adder().unwrap();
    assert!(matches!(adder.file(&path, &|_| {}, &|| true), Err(Error::Cancelled)));
    let failing = adder.content(NEVER, |feed| {
        feed.data(&noise(6, 5 << 20))?;
        Err(Error::Missing(Digest::of(b"it")))
    });
    assert!(matches!(failing, Err(Error::Missing(_))));
}

#[test]
fn a_store_that_cannot_be_written_says_so_and_does_not_hang() {
    let dir = tempfile::tempdir().unwrap();
    let store = ChunkStore::open(dir.path()).unwrap();
    let adder = store.adder().unwrap();
    // Its directory is taken away while it works.
    fs::remove_dir_all(dir.path().join("adding")).unwrap();
    let failed = adder.content(NEVER, |feed| feed.data(&noise(7, 40 << 20)));
    assert!(matches!(failed, Err(Error::Io { what: "write", .. })), "{failed:?}");
}

#[test]
fn any_damage_is_found_named_and_never_assembled() {
    let dir = tempfile::tempdir().unwrap();
    let store = ChunkStore::open(&dir.path().join("chunks")).unwrap();
    let path = dir.path().join("image");
    fs::write(&path, noise(8, 2 << 20)).unwrap();
    let manifest = add(&store, &path);
    let chunks: Vec<Digest> = manifest.distinct().into_iter().map(|(digest, _)| digest).collect();
    assert!(chunks.len() > 8);
    assert_eq!(store.fsck(&|_| {}, NEVER).unwrap().damaged, []);
    let change = |digest: &Digest, how: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = fs::read(file_of(&store, digest)).unwrap();
        how(&mut bytes);
        fs::write(file_of(&store, digest), bytes).unwrap();
    };
    let bomb = zstd::bulk::compress(&vec![0; 64 << 20], 1).unwrap();
    let other = zstd::bulk::compress(b"other", 1).unwrap();
    change(&chunks[0], &|bytes| bytes.clear());
    change(&chunks[1], &|bytes| bytes.truncate(bytes.len() / 2));
    change(&chunks[2], &|bytes| bytes.fill(0));
    change(&chunks[3], &|bytes| *bytes = bomb.clone());
    change(&chunks[4], &|bytes| *bytes = other.clone());
    change(&chunks[5], &|bytes| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
    });
    let found = store.fsck(&|_| {}, NEVER).unwrap();
    let named: HashSet<Digest> = found.damaged.iter().map(|damage| damage.digest).collect();
    assert_eq!(named, chunks[..6].iter().copied().collect());
    assert!(matches!(store.get(&chunks[5]), Err(Error::Damaged { .. })));
    assert!(matches!(
        assemble(&store, &manifest, &dir.path().join("out")),
        Err(Error::Damaged { digest, .. }) if named.contains(&digest)
    ));
    // Taken out and added once more, all is well.
    for damage in &found.damaged {
        store.discard(&damage.digest).unwrap();
    }
    assert_eq!(store.missing(&manifest).unwrap().len(), 6);
    add(&store, &path);
    assemble(&store, &manifest, &dir.path().join("out")).unwrap();
    equal(&path, &dir.path().join("out"));
}

#[test]
fn what_comes_from_elsewhere_is_looked_at_first() {
    let dir = tempfile::tempdir().unwrap();
    let store = ChunkStore::open(dir.path()).unwrap();
    let digest = store.put(b"some bytes").unwrap();
    let frame = store.get_compressed(&digest).unwrap();
    let adder = store.adder().unwrap();
    let refused = |adder: &Adder, frame: &[u8]| {
        let wanted = Digest::of(b"something else");
        matches!(adder.put_compressed(&wanted, frame), Err(Error::Mismatch { .. }))
    };
    assert!(refused(&adder, &frame));
    assert!(refused(&adder, b""));
    assert!(refused(&adder, b"no frame at all"));
    assert!(refused(&adder, &zstd::bulk::compress(&vec![0; 64 << 20], 1).unwrap()));
    assert!(matches!(adder.put(&vec![0; (256 << 10) + 1]), Err(Error::TooLarge(_))));
    let new = noise(9, 1000);
    adder.put_compressed(&Digest::of(&new), &zstd::bulk::compress(&new, 1).unwrap()).unwrap();
    drop(adder.commit().unwrap());
    assert_eq!(store.get(&Digest::of(&new)).unwrap(), new);
}

#[test]
fn only_what_nobody_needs_is_collected() {
    let dir = tempfile::tempdir().unwrap();
    let store = ChunkStore::open(dir.path()).unwrap();
    let (needed, not) = (store.put(b"needed").unwrap(), store.put(b"not").unwrap());
    let live = || Ok::<_, Error>(HashSet::from([needed]));
    let would = store.gc(true, live).unwrap();
    assert_eq!(would.chunks, 1);
    assert!(store.has(&not).unwrap());
    assert_eq!(store.gc(false, live).unwrap(), would);
    assert!(store.has(&needed).unwrap() && !store.has(&not).unwrap());
    let failed = store.gc(false, || Err(Error::Cancelled));
    assert!(matches!(failed, Err(Error::Cancelled)));
    assert!(store.has(&needed).unwrap());
}

/// Whoever adds writes down what it needs before it lets go; a collection in between would lose chunks.
#[test]
fn collecting_beside_those_who_add_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = ChunkStore::open(dir.path()).unwrap();
    let written = std::sync::Mutex::new(HashSet::new());
    std::thread::scope(|scope| {
        for thread in 0..3 {
            let (store, written) = (&store, &written);
            scope.spawn(move || {
                for round in 0..20 {
                    let adder = store.adder().unwrap();
                    // Some of it is every thread's, and some was just collected.
                    let own = adder.put(&noise(thread * 1000 + round, 500)).unwrap();
                    let shared = adder.put(&noise(99_000 + round, 500)).unwrap();
                    let kept = adder.commit().unwrap();
                    store.put(&noise(77_000 + round, 100)).unwrap();
                    written.lock().unwrap().extend([own, shared]);
                    drop(kept);
                }
            });
        }
        for _ in 0..20 {
            store.gc(false, || Ok::<_, Error>(written.lock().unwrap().clone())).unwrap();
        }
    });
    let written = written.into_inner().unwrap();
    assert_eq!(written.len(), 80);
    for digest in &written {
        store.get(digest).unwrap();
    }
}
