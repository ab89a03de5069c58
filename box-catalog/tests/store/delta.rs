//! New versions of a box of which only what is new is fetched.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Mutex;

use libtest_mimic::Trial;
use posada_box_catalog::source::Wanted;
use posada_box_catalog::{BoxRef, Cancel, FetchOptions, Form, Progress, Quiet, Store, StoredBox};
use posada_chunks::{Cutter, Digest};

use crate::disks::disk;
use crate::remote::{Site, hex, store};
use crate::support::{World, entries, trial};

pub fn trials() -> Vec<Trial> {
    vec![
        trial("of_a_new_version_only_what_is_new_is_fetched", new),
        trial("chunks_that_the_store_has_are_not_fetched", divided),
        trial("where_nothing_is_alike_the_whole_file_is_fetched", strange),
        trial("a_repository_that_lies_of_its_chunks_fills_no_store", hostile),
    ]
}

const MANIFEST: &str = "/team/vm/versions/2/libvirt/amd64/manifest";
const CHUNKS: &str = "/api/v1/chunks/get";
const FILE: &str = "/team/vm/versions/2/libvirt/amd64/vagrant.box";

/// What is told on the way.
#[derive(Default)]
struct Told(Mutex<Vec<String>>);

impl Progress for Told {
    fn phase(&self, _: &str, _: Option<u64>) {}
    fn advance(&self, _: u64) {}
    fn warn(&self, text: &str) {
        self.0.lock().unwrap().push(text.to_owned());
    }
}

/// A disk with four megabytes on it that cannot be compressed, and the next version of it.
fn images(world: &World) -> [PathBuf; 2] {
    let noise: String =
        (0..240_000).map(|n: u64| format!("{:016x}", n.wrapping_mul(0x9E37_79B9_7F4A_7C15))).collect();
    let first = disk(world, "a.img", &[("usr/bin/noise", &noise)]);
    let second = world.path("b.img");
    fs::copy(&first, &second).unwrap();
    let bytes = fs::read(&second).unwrap();
    let at = bytes.windows(7).rposition(|window| window == b"a.img\0\0").unwrap();
    fs::File::options().write(true).open(&second).unwrap().write_all_at(b"b", at as u64).unwrap();
    [first, second]
}

fn chunks(bytes: &[u8]) -> Vec<&[u8]> {
    Cutter::pieces(bytes)
        .into_iter()
        .flat_map(|(start, length)| {
            bytes[start as usize..(start + length) as usize].chunks(posada_chunks::MAX_CHUNK)
        })
        .collect()
}

fn manifest(bytes: &[u8]) -> String {
    let chunks: Vec<String> =
        chunks(bytes).iter().map(|chunk| format!("[\"{}\", {}]", Digest::of(chunk), chunk.len())).collect();
    format!(r#"{{"size": {}, "sha256": "{}", "chunks": [{}]}}"#, bytes.len(), hex(bytes), chunks.join(","))
}

/// Which chunks are not in `others`.
fn not_in(others: &[u8]) -> impl Fn(&[u8]) -> bool + use<> {
    let known: HashSet<Digest> = chunks(others).iter().map(|chunk| Digest::of(chunk)).collect();
    move |chunk| !known.contains(&Digest::of(chunk))
}

/// The chunks of `bytes` that are `wanted`.
fn bundle(bytes: &[u8], wanted: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    let mut bundle = Vec::new();
    for chunk in chunks(bytes).into_iter().filter(|chunk| wanted(chunk)) {
        let digest = Digest::of(chunk);
        let frame = zstd::bulk::compress(chunk, 1).unwrap();
        bundle.extend_from_slice(digest.as_bytes());
        bundle.extend_from_slice(&(chunk.len() as u32).to_le_bytes());
        bundle.extend_from_slice(&(frame.len() as u32).to_le_bytes());
        bundle.extend_from_slice(&frame);
    }
    bundle
}

/// Has `bytes` published as version 2.
fn publish(site: &Site, base: &str, bytes: &[u8]) {
    let document = format!(
        r#"{{"name": "team/vm", "versions": [{{"version": "2", "providers": [{{"name": "libvirt", "url": "{base}{FILE}",
        "architecture": "amd64", "default_architecture": true, "checksum_type": "sha256", "checksum": "{}", "manifest": "{base}{MANIFEST}"}}]}}]}}"#,
        hex(bytes)
    );
    site.put("/team/vm", document);
    site.put(FILE, bytes);
}

fn fetch(store: &Store, told: &Told) -> StoredBox {
    let wanted = Wanted { architecture: Some("amd64".to_owned()), ..Wanted::newest(Form::Disk) };
    let reference = BoxRef::parse("team/vm").unwrap();
    store.fetch(&reference, &wanted, &FetchOptions::default(), told, &Cancel::default()).unwrap()
}

fn image(stored: &StoredBox) -> Vec<u8> {
    fs::read(stored.disk().unwrap().path).unwrap()
}

fn new() {
    let (world, site) = (World::new(), Site::default());
    let base = site.start();
    let store = store(&world, &base, Vec::new());
    let [first, second] = images(&world);
    let (old, bytes) = (fs::read(&first).unwrap(), fs::read(&second).unwrap());
    world.add(&first, "team/vm", "1").unwrap();
    publish(&site, &base, &bytes);
    site.put(MANIFEST, manifest(&bytes));
    let new = bundle(&bytes, not_in(&old));
    assert!(!new.is_empty() && new.len() < 1 << 20, "{}", new.len());
    site.put(CHUNKS, new);
    let told = Told::default();
    assert!(image(&fetch(&store, &told)) == bytes);
    assert_eq!(site.asked(), ["/team/vm", MANIFEST, CHUNKS]);
    assert_eq!(*told.0.lock().unwrap(), Vec::<String>::new());
    assert_eq!(entries(&store.root().join("downloads")), Vec::<String>::new());
    world.assert_clean();
}

fn divided() {
    let (world, site) = (World::new(), Site::default());
    let base = site.start();
    let store = store(&world, &base, Vec::new());
    let [first, second] = images(&world);
    let bytes = fs::read(&second).unwrap();
    let stored = world.add(&first, "team/vm", "1").unwrap();
    store.gc(false, &|_| Vec::new(), &Quiet, &Cancel::default()).unwrap();
    assert!(!stored.disk().unwrap().path.exists());
    publish(&site, &base, &bytes);
    site.put(MANIFEST, manifest(&bytes));
    // The ends of holes are no chunks in a store.
    let new = not_in(&fs::read(&first).unwrap());
    let new = bundle(&bytes, |chunk| new(chunk) || chunk.iter().all(|byte| *byte == 0));
    assert!(new.len() < 1 << 20, "{}", new.len());
    site.put(CHUNKS, new);
    assert!(image(&fetch(&store, &Told::default())) == bytes);
    assert_eq!(site.asked(), ["/team/vm", MANIFEST, CHUNKS]);
}

fn strange() {
    let (world, site) = (World::new(), Site::default());
    let base = site.start();
    let store = store(&world, &base, Vec::new());
    let [first, second] = images(&world);
    world.add(&first, "team/vm", "1").unwrap();
    let bytes = fs::read(&second).unwrap();
    publish(&site, &base, &bytes);
    // Cut as nobody here cuts.
    let list: Vec<String> =
        bytes.chunks(100_001).map(|chunk| format!("[\"{}\", {}]", Digest::of(chunk), chunk.len())).collect();
    let list = format!(
        r#"{{"size": {}, "sha256": "{}", "chunks": [{}]}}"#,
        bytes.len(),
        hex(&bytes),
        list.join(",")
    );
    site.put(MANIFEST, list);
    let told = Told::default();
    assert!(image(&fetch(&store, &told)) == bytes);
    assert_eq!(site.asked(), ["/team/vm", MANIFEST, FILE]);
    assert_eq!(*told.0.lock().unwrap(), Vec::<String>::new());
}

/// What is wrong, the list of chunks, and the chunks.
type Case<'a> = (&'a str, Option<&'a str>, Option<&'a [u8]>);

fn hostile() {
    let scratch = World::new();
    let [first, second] = images(&scratch);
    let (old, bytes) = (fs::read(&first).unwrap(), fs::read(&second).unwrap());
    let (sound, new) = (manifest(&bytes), bundle(&bytes, not_in(&old)));
    let mut flipped = new.clone();
    *flipped.last_mut().unwrap() ^= 1;
    // Chunks that are right in an order that is not, which only the whole tells.
    let swapped = {
        let mut value: serde_json::Value = serde_json::from_str(&sound).unwrap();
        let list = value["chunks"].as_array_mut().unwrap();
        let last = list.len() - 1;
        list.swap(0, last);
        value.to_string()
    };
    let cases: [Case<'_>; 8] = [
        ("no list", None, Some(&new)),
        ("no JSON", Some("<html>"), Some(&new)),
        ("of another file", Some(&manifest(&old)), Some(&new)),
        ("of another size", Some(&sound.replace("\"size\": 16", "\"size\": 17")), Some(&new)),
        (
            "of an absurd size",
            Some(&sound.replace("\"chunks\": [", "\"chunks\": [[\"00\", 4294967295],")),
            Some(&new),
        ),
        ("in another order", Some(&swapped), Some(&bundle(&bytes, |_| true))),
        ("no chunks", Some(&sound), None),
        ("other chunks", Some(&sound), Some(&flipped)),
    ];
    for (what, list, chunks) in cases {
        let (world, site) = (World::new(), Site::default());
        let base = site.start();
        let store = store(&world, &base, Vec::new());
        world.add(&first, "team/vm", "1").unwrap();
        publish(&site, &base, &bytes);
        if let Some(list) = list {
            site.put(MANIFEST, list);
        }
        if let Some(chunks) = chunks {
            site.put(CHUNKS, chunks);
        }
        let told = Told::default();
        assert!(image(&fetch(&store, &told)) == bytes, "{what}");
        assert_eq!(site.asked().last().unwrap(), FILE, "{what}");
        let told = told.0.lock().unwrap();
        let whole = told.iter().filter(|text| text.ends_with("the whole file is fetched instead")).count();
        // One without a list is a repository of another kind.
        assert_eq!((told.len(), whole), if list.is_some() { (1, 1) } else { (0, 0) }, "{what}: {told:?}");
        assert_eq!(entries(&store.root().join("downloads")), Vec::<String>::new(), "{what}");
    }
}
