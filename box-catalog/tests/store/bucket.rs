//! Boxes in buckets, which a server on the loopback has that speaks S3.

use std::path::Path;

use libtest_mimic::Trial;
use posada_box_catalog::source::Wanted;
use posada_box_catalog::trust::{PublicKey, SigningKey};
use posada_box_catalog::{
    BoxError, BoxRef, BucketRef, Cancel, FetchOptions, Form, Place, Published, Pushed, Quiet, Remotes, Store,
    StoredBox, Trust, Version, VersionReq, push_file,
};
use posada_fetch::{Client, FetchError, Settings};
use posada_tests::buckets::Buckets;
use sha2::Digest as _;

use crate::support::{World, entries, trial};

pub fn trials() -> Vec<Trial> {
    vec![
        trial("a_file_in_a_bucket_is_held_to_its_checksum", file),
        trial("versions_of_a_box_are_pushed_to_a_bucket_and_chosen_from", versions),
        trial("a_large_file_goes_into_a_bucket_and_out_of_it_in_parts", large),
        trial("a_catalog_in_a_bucket_leads_to_files_beside_it", catalog),
        trial("a_bucket_that_does_not_let_in_or_has_nothing_is_told", refused),
        trial("a_public_bucket_is_asked_without_a_name", public),
        trial("a_signed_box_in_a_bucket_is_held_to_its_signature", signed),
    ]
}

fn settings() -> Settings {
    Settings { proxies: false, ..Settings::default() }
}

fn store(world: &World, options: Vec<(String, String)>, trust: Trust) -> Store {
    let remotes = Remotes { settings: settings(), buckets: options, trust, ..Remotes::default() };
    world.store.clone().with_remotes(remotes)
}

fn fetch(
    store: &Store,
    reference: &str,
    requirement: Option<&str>,
    name: Option<&str>,
) -> Result<StoredBox, BoxError> {
    let requirement = requirement.map(|text| VersionReq::parse(text).unwrap());
    let wanted = Wanted { requirement, form: Some(Form::Rootfs), provider: None, architecture: None };
    let options = FetchOptions { name: name.map(str::to_owned), ..FetchOptions::default() };
    store.fetch(&BoxRef::parse(reference).unwrap(), &wanted, &options, &Quiet, &Cancel::default())
}

fn push(buckets: &Buckets, version: &str, path: &Path, key: Option<&SigningKey>) -> Result<Pushed, BoxError> {
    let to = Published {
        place: Place::Bucket(BucketRef::parse("s3://boxes/team/web").unwrap(), buckets.options()),
        name: "team/web".to_owned(),
        version: Version::parse(version).unwrap(),
        provider: "lxc".to_owned(),
        architecture: posada_box_catalog::host_architecture().to_owned(),
        release: true,
    };
    push_file(&Client::new(settings()).unwrap(), path, &to, key, &Quiet, &Cancel::default())
}

fn text(stored: &StoredBox) -> String {
    std::fs::read_to_string(stored.rootfs().unwrap().join("etc/text")).unwrap()
}

fn sha256(bytes: &[u8]) -> String {
    sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn file() {
    let world = World::new();
    let buckets = Buckets::start(&world.path("s3"));
    let store = store(&world, buckets.options(), Trust::default());
    let bytes = std::fs::read(world.archive("a.tar", "in a bucket", &[])).unwrap();
    buckets.put("web/a.tar", &bytes);
    buckets.put("web/SHA256SUMS", format!("{}  a.tar\n", "0".repeat(64)).as_bytes());
    let refused = fetch(&store, "s3://boxes/web/a.tar", None, None).unwrap_err();
    assert!(matches!(refused, BoxError::Fetch(FetchError::Mismatch { .. })), "{refused:?}");
    assert!(!format!("{refused} {refused:?}").contains("X-Amz"), "{refused:?}");
    let pinned = format!("s3://boxes/web/a.tar#sha256={}", sha256(&bytes));
    assert_eq!(text(&fetch(&store, &pinned, None, Some("web")).unwrap()), "in a bucket");
    buckets.put("web/SHA256SUMS", format!("{}  a.tar\n", sha256(&bytes)).as_bytes());
    let stored = fetch(&store, "s3://boxes/web/a.tar", None, None).unwrap();
    assert!(stored.name.starts_with("bucket/"), "{}", stored.name);
    // What a Vmfile names is found again without the bucket.
    drop(buckets);
    let reference = BoxRef::parse("s3://boxes/web/a.tar").unwrap();
    let again = store.obtain(&reference, None, Form::Rootfs, &Quiet, &Cancel::default()).unwrap();
    assert_eq!(again.digest, stored.digest);
    assert_eq!(entries(&store.root().join("downloads")), Vec::<String>::new());
}

fn versions() {
    let world = World::new();
    let buckets = Buckets::start(&world.path("s3"));
    let store = store(&world, buckets.options(), Trust::default());
    for version in ["1.0", "2.0", "1.1"] {
        let archive = world.archive(&format!("{version}.tar"), version, &[]);
        let pushed = push(&buckets, version, &archive, None).unwrap();
        assert_eq!(pushed.sent, pushed.size);
    }
    let again = push(&buckets, "1.1", &world.path("1.1.tar"), None).unwrap();
    assert_eq!(again.sent, 0, "what is there does not travel again");
    let refused = push(&buckets, "1.1", &world.path("2.0.tar"), None).unwrap_err();
    assert!(refused.to_string().contains("with other content"), "{refused}");
    for (requirement, version) in [(None, "2.0"), (Some("~> 1.0"), "1.1"), (Some("= 1.0"), "1.0")] {
        let stored = fetch(&store, "s3://boxes/team/web", requirement, Some("team/web")).unwrap();
        assert_eq!((stored.version.to_string().as_str(), text(&stored).as_str()), (version, version));
    }
    let refused = fetch(&store, "s3://boxes/team/web/", Some("> 3"), None).unwrap_err();
    assert!(matches!(refused, BoxError::NotOffered { .. }), "{refused}");
    // A push that was killed after its checksum came, and before its file did.
    let place = format!("team/web/1.0/lxc/{}/vagrant.box", posada_box_catalog::host_architecture());
    std::fs::remove_file(buckets.object(&place)).unwrap();
    let pushed = push(&buckets, "1.0", &world.path("1.0.tar"), None).unwrap();
    assert_eq!(pushed.sent, pushed.size);
    assert_eq!(std::fs::read(buckets.object(&place)).unwrap(), std::fs::read(world.path("1.0.tar")).unwrap());
}

fn large() {
    let world = World::new();
    let buckets = Buckets::start(&world.path("s3"));
    let store = store(&world, buckets.options(), Trust::default());
    // Three parts, the last of them short; no two blocks alike.
    let mut noise = Vec::new();
    while noise.len() < 33 << 20 {
        noise.extend_from_slice(&sha2::Sha256::digest(noise.len().to_le_bytes()));
    }
    std::fs::create_dir_all(world.path("large.tar.d/usr")).unwrap();
    std::fs::write(world.path("large.tar.d/usr/noise"), &noise).unwrap();
    let archive = world.archive("large.tar", "large", &[]);
    push(&buckets, "1.0", &archive, None).unwrap();
    let stored = fetch(&store, "s3://boxes/team/web", None, None).unwrap();
    assert!(std::fs::read(stored.rootfs().unwrap().join("usr/noise")).unwrap() == noise);
    assert_eq!(stored.digest.to_string(), sha256(&std::fs::read(archive).unwrap()));
}

fn catalog() {
    let world = World::new();
    let buckets = Buckets::start(&world.path("s3"));
    let store = store(&world, buckets.options(), Trust::default());
    let bytes = std::fs::read(world.archive("a.tar", "beside", &[])).unwrap();
    buckets.put("old/files/a.tar", &bytes);
    let document = |url: &str| {
        format!(
            r#"{{"name": "team/old", "versions": [{{"version": "1.4", "providers": [{{"name": "lxc", "url": "{url}",
            "checksum_type": "sha256", "checksum": "{}"}}]}}]}}"#,
            sha256(&bytes)
        )
    };
    buckets.put("old/old.json", document("files/a.tar").as_bytes());
    let stored = fetch(&store, "s3://boxes/old/old.json", None, None).unwrap();
    assert_eq!((stored.name.as_str(), stored.version.to_string().as_str()), ("team/old", "1.4"));
    assert_eq!(text(&stored), "beside");
    // Keys of the user's open no other bucket for whoever writes a document.
    buckets.put("old/other.json", document("s3://secrets/a.tar").as_bytes());
    let refused = fetch(&store, "s3://boxes/old/other.json", None, None).unwrap_err();
    assert!(matches!(refused, BoxError::Repository { .. }), "{refused}");
}

fn refused() {
    let world = World::new();
    let buckets = Buckets::start(&world.path("s3"));
    let mut options = buckets.options();
    let good = store(&world, options.clone(), Trust::default());
    let told = |error: &BoxError| {
        use posada_provider_api::Fault as _;
        format!("{error}; {}", error.hint().unwrap_or_default())
    };
    for (reference, what) in [
        ("s3://boxes/none", "has no box at `none`"),
        ("s3://boxes", "has no box at ``"),
        ("s3://boxes/none.json", "has no box at `none.json`"),
    ] {
        let refused = fetch(&good, reference, None, None).unwrap_err();
        assert!(refused.to_string().contains(what), "{refused}");
    }
    let missing = fetch(&good, "s3://other/web", None, None).unwrap_err();
    assert!(told(&missing).contains("AWS_ENDPOINT"), "{}", told(&missing));
    for (name, value) in &mut options {
        if name == "aws_secret_access_key" {
            *value = "wrong-secret".to_owned();
        }
    }
    let strange = store(&world, options.clone(), Trust::default());
    let refused = fetch(&strange, "s3://boxes/web", None, None).unwrap_err();
    assert!(told(&refused).contains("refuses it") && told(&refused).contains("AWS_PROFILE"), "{refused}");
    assert!(!format!("{refused:?}").contains("wrong-secret"), "{refused:?}");
    drop(buckets);
    let gone = fetch(&good, "s3://boxes/web", None, None).unwrap_err();
    assert!(told(&gone).contains("AWS_ENDPOINT"), "{}", told(&gone));
}

fn public() {
    let world = World::new();
    let buckets = Buckets::open(&world.path("s3"));
    let store = store(&world, buckets.options(), Trust::default());
    buckets.put("a.tar", &std::fs::read(world.archive("a.tar", "for all", &[])).unwrap());
    assert_eq!(text(&fetch(&store, "s3://boxes/a.tar", None, None).unwrap()), "for all");
}

fn signed() {
    let world = World::new();
    let buckets = Buckets::start(&world.path("s3"));
    let (key, public) = SigningKey::generate().unwrap();
    let (_, other) = SigningKey::generate().unwrap();
    push(&buckets, "1.0", &world.archive("a.tar", "signed", &[]), Some(&key)).unwrap();
    push(&buckets, "2.0", &world.archive("b.tar", "not signed", &[]), None).unwrap();
    let trusting = |key: &PublicKey| {
        let keys = [("team".to_owned(), vec![key.clone()])].into();
        store(&world, buckets.options(), Trust { keys, ..Trust::default() })
    };
    let get = |store: &Store, version| fetch(store, "s3://boxes/team/web", Some(version), Some("team/web"));
    for (store, version) in [(trusting(&other), "= 1.0"), (trusting(&public), "= 2.0")] {
        let refused = get(&store, version).unwrap_err();
        assert!(matches!(refused, BoxError::Signature { .. }), "{refused}");
    }
    assert_eq!(text(&get(&trusting(&public), "= 1.0").unwrap()), "signed");
}
