//! A repository in a bucket of a server that speaks S3.

use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use posada_box_server::{Location, Retention, ServerError, Settings, Storage};
use posada_tests::buckets::Buckets;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{Running, bundle, cut, expect, file, mirroring, noise, start_at};

fn dir() -> Arc<TempDir> {
    Arc::new(tempfile::tempdir().unwrap())
}

fn location(buckets: &Buckets) -> Location {
    Location::parse("s3://boxes/here/we/are", buckets.options()).unwrap()
}

async fn serve(buckets: &Buckets, dir: &Arc<TempDir>) -> Running {
    start_at(&location(buckets), dir.clone(), Settings::default()).await
}

fn versions(catalog: &Value) -> Vec<&str> {
    let versions = catalog["versions"].as_array().unwrap().iter();
    versions.map(|version| version["version"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_repository_in_a_bucket_does_what_one_in_a_directory_does() {
    let dir = dir();
    let buckets = Buckets::start(dir.path());
    let server = serve(&buckets, &dir).await;
    let bytes = noise(1, 300_000);
    server.publish("team/web", "1.0", bytes.clone()).await;
    // A second version by chunks, of which one is new.
    let mut second = bytes.clone();
    second[..100_000].copy_from_slice(&noise(2, 100_000));
    let ((first, chunks), (manifest, all)) = (cut(&bytes, 100_000), cut(&second, 100_000));
    expect(server.post("/api/v1/chunks").body(bundle(&chunks)).send().await.unwrap(), 200).await;
    let digests: Vec<_> = manifest.chunks.iter().map(|(digest, _)| digest).collect();
    let asked = server.post("/api/v1/chunks/missing").json(&json!({"digests": digests}));
    let missing = expect(asked.send().await.unwrap(), 200).await;
    assert_eq!(missing["missing"], json!([manifest.chunks[0].0]));
    expect(server.post("/api/v1/chunks").body(bundle(&all[..1])).send().await.unwrap(), 200).await;
    let place = file("team/web", "1.1").replace("vagrant.box", "manifest");
    expect(server.put(&place).json(&manifest).send().await.unwrap(), 201).await;
    expect(server.release("team/web", "1.1").await, 200).await;
    assert_eq!(first.chunks.len(), 3);

    let catalog = expect(server.catalog("team/web").await, 200).await;
    let mut have = versions(&catalog);
    have.sort_unstable();
    assert_eq!(have, ["1.0", "1.1"]);
    let part =
        server.get(&file("team/web", "1.1")).header("range", "bytes=99990-100009").send().await.unwrap();
    assert_eq!(part.status(), 206);
    assert_eq!(part.bytes().await.unwrap()[..], second[99_990..100_010]);
    // What is released stays as it is.
    expect(server.push("team/web", "1.1", bytes).await, 409).await;
    drop(server);

    // All of it is in the bucket.
    let server = serve(&buckets, &dir).await;
    let retention = Retention { keep: Some(1), ..Retention::default() };
    let day = Duration::from_hours(24);
    let collected = server.repository.collect(Utc::now() + day * 3, &retention, day).await.unwrap();
    // The version is gone, and with it what was sent and never used; its file may be in somebody's hands still.
    assert_eq!((collected.versions, collected.files, collected.chunks), (1, 0, 1));
    let collected = server.repository.collect(Utc::now() + day * 6, &retention, day).await.unwrap();
    assert!(collected.files == 1 && collected.chunks > 0, "{collected:?}");
    let whole = server.get(&file("team/web", "1.1")).send().await.unwrap();
    assert!(whole.bytes().await.unwrap()[..] == second[..]);
    expect(server.get(&file("team/web", "1.0")).send().await.unwrap(), 404).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mirror_keeps_what_it_has_in_a_bucket() {
    let dir = dir();
    let buckets = Buckets::start(dir.path());
    let mut upstream = crate::support::start(Settings::default()).await;
    upstream.publish("team/web", "1.0", noise(1, 300_000)).await;
    let settings = mirroring(&dir, Settings::default(), &upstream.base, Duration::ZERO, |_| {});
    let mirror = start_at(&location(&buckets), dir.clone(), settings.clone()).await;
    for server in 0..2 {
        let mirror = match server {
            0 => &mirror,
            _ => &start_at(&location(&buckets), dir.clone(), settings.clone()).await,
        };
        expect(mirror.catalog("team/web").await, 200).await;
        let came = mirror.get(&file("team/web", "1.0")).send().await.unwrap().bytes().await.unwrap();
        assert!(came == noise(1, 300_000));
        mirror.settled().await;
        if server == 0 {
            upstream.tell_to_stop().await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_bucket_that_cannot_be_used_is_told() {
    let dir = dir();
    let buckets = Buckets::start(dir.path());
    let mut options = buckets.options();
    options.iter_mut().filter(|(name, _)| name.ends_with("secret_access_key")).for_each(|(_, secret)| {
        *secret = "wrong-secret".to_owned();
    });
    let strange = Location::parse("s3://boxes", options).unwrap();
    let refused = Storage::open(&strange).await.unwrap_err();
    assert!(matches!(refused, ServerError::Storage { .. }), "{refused:?}");
    assert!(!format!("{refused:?}").contains("wrong-secret"), "{refused:?}");
    let good = location(&buckets);
    drop(buckets);
    assert!(Storage::open(&good).await.is_err());
}
