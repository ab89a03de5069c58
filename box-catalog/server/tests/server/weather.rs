//! Many at once, and things that go away meanwhile.

use std::sync::Arc;
use std::time::Duration;

use chrono::{TimeDelta, Utc};
use futures_util::{StreamExt as _, TryStreamExt as _};
use posada_box_server::{Collected, Retention, Settings};
use reqwest::Body;

use crate::support::{bundle, cut, expect, file, noise, start, start_in};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pushes_at_once_lose_nothing_also_through_two_servers() {
    let one = start(Settings::default()).await;
    let other = start_in(one.dir.clone(), Settings::default()).await;
    let push = async |number: usize| {
        let server = if number.is_multiple_of(2) { &one } else { &other };
        server.publish("team/web", &format!("1.{number}"), noise(number as u8, 50_000)).await;
    };
    futures_util::stream::iter(0..24).for_each_concurrent(12, push).await;
    let catalog = expect(other.catalog("team/web").await, 200).await;
    let versions = catalog["versions"].as_array().unwrap();
    let names: Vec<_> = versions.iter().map(|it| it["version"].as_str().unwrap().to_owned()).collect();
    let wanted: Vec<_> = (0..24).rev().map(|number| format!("1.{number}")).collect();
    assert_eq!(names, wanted);
    for number in [0, 13, 23] {
        let came =
            one.get(&file("team/web", &format!("1.{number}"))).send().await.unwrap().bytes().await.unwrap();
        assert!(came == noise(number, 50_000));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_who_release_different_content_under_one_version_cannot_both_win() {
    let server = start(Settings::default()).await;
    let both = futures_util::future::join_all((0..8).map(async |seed| {
        let pushed = server.push("team/web", "1", noise(seed, 1000)).await.status();
        let released = server.release("team/web", "1").await.status();
        (pushed, released)
    }));
    both.await;
    let now = server.get(&file("team/web", "1")).send().await.unwrap().bytes().await.unwrap();
    expect(server.push("team/web", "1", noise(99, 1000)).await, 409).await;
    let later = server.get(&file("team/web", "1")).send().await.unwrap().bytes().await.unwrap();
    assert!(now == later && (0..8).any(|seed| now == noise(seed, 1000)));
}

#[tokio::test]
async fn a_push_that_breaks_off_shows_nothing_and_can_be_made_again() {
    let server = start(Settings::default()).await;
    let bytes = noise(1, 2 << 20);
    let half: Vec<Result<Vec<u8>, std::io::Error>> =
        vec![Ok(bytes[..1 << 20].to_vec()), Err(std::io::ErrorKind::ConnectionReset.into())];
    let body = Body::wrap_stream(futures_util::stream::iter(half));
    assert!(server.put(&file("team/web", "1")).body(body).send().await.is_err());
    expect(server.release("team/web", "1").await, 404).await;
    server.publish("team/web", "1", bytes.clone()).await;
    assert!(server.get(&file("team/web", "1")).send().await.unwrap().bytes().await.unwrap() == bytes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_download_goes_on_while_its_version_is_let_go() {
    let server = start(Settings::default()).await;
    let (old, new) = (noise(1, 16 << 20), noise(2, 1 << 20));
    server.publish("team/web", "1", old.clone()).await;
    server.publish("team/web", "2", new.clone()).await;
    let mut download = server.get(&file("team/web", "1")).send().await.unwrap().bytes_stream();
    let first = download.next().await.unwrap().unwrap();

    // Later than any grace: all that keeps the file is who reads it.
    let later = Utc::now() + TimeDelta::days(2);
    let (keep_one, grace) = (Retention { keep: Some(1), days: None }, Duration::from_secs(3600));
    let collected = server.repository.collect(later, &keep_one, grace).await.unwrap();
    assert_eq!((collected.versions, collected.files, collected.chunks), (1, 0, 0));
    expect(server.get(&file("team/web", "1")).send().await.unwrap(), 404).await;
    let rest: Vec<_> = download.try_collect().await.unwrap();
    assert!([first.to_vec(), rest.concat()].concat() == old);

    let later = later + TimeDelta::days(2);
    let collected = server.repository.collect(later, &keep_one, grace).await.unwrap();
    assert_eq!(collected.files, 1);
    assert!(collected.chunks > 10 && collected.bytes >= 16 << 20, "{collected:?}");
    assert!(server.get(&file("team/web", "2")).send().await.unwrap().bytes().await.unwrap() == new);
    let again = server.repository.collect(later, &keep_one, grace).await.unwrap();
    assert_eq!(again, Collected::default());
}

#[tokio::test]
async fn what_is_shared_or_young_is_not_let_go() {
    let server = start(Settings::default()).await;
    let (manifest, chunks) = cut(&noise(1, 1000), 100);
    expect(server.post("/api/v1/chunks").body(bundle(&chunks)).send().await.unwrap(), 200).await;
    let collect = async |days| {
        let at = Utc::now() + TimeDelta::days(days);
        server.repository.collect(at, &Retention::default(), Duration::from_secs(3600)).await.unwrap()
    };
    assert_eq!(collect(0).await, Collected::default(), "a push may be under way");
    let path = "/team/web/versions/1/libvirt/amd64/manifest";
    expect(server.put(path).json(&manifest).send().await.unwrap(), 201).await;
    assert_eq!(collect(2).await, Collected::default(), "an open version is named");
    let drop = server.client.delete(format!("{}/api/v1/boxes/team/web/versions/1", server.base));
    assert_eq!(drop.bearer_auth(&server.token).send().await.unwrap().status(), 204);
    assert_eq!(collect(0).await, Collected::default());
    assert_eq!(collect(2).await.chunks, 10);
    // And all can come again.
    expect(server.put(path).json(&manifest).send().await.unwrap(), 409).await;
    expect(server.post("/api/v1/chunks").body(bundle(&chunks)).send().await.unwrap(), 200).await;
    expect(server.put(path).json(&manifest).send().await.unwrap(), 201).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn collecting_beside_pushes_breaks_none() {
    let server = Arc::new(start(Settings::default()).await);
    let collecting = tokio::spawn({
        let server = server.clone();
        async move {
            for _ in 0..60 {
                // Everything is old at once: only locks and names keep what is being pushed.
                let later = Utc::now() + TimeDelta::days(2);
                server.repository.collect(later, &Retention::default(), Duration::ZERO).await.unwrap();
            }
        }
    });
    for number in 0..8_u8 {
        let (manifest, chunks) = cut(&noise(number, 10_000), 1000);
        let path = format!("/team/web/versions/1.{number}/libvirt/amd64/manifest");
        loop {
            expect(server.post("/api/v1/chunks").body(bundle(&chunks)).send().await.unwrap(), 200).await;
            // What was collected between the two is told, and comes again.
            let answer = server.put(&path).json(&manifest).send().await.unwrap();
            if answer.status() == 201 {
                break;
            }
            assert_eq!(answer.status(), 409);
        }
    }
    collecting.await.unwrap();
}
