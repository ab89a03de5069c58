//! A mirror of another catalog: of a server of ours, on the same host.

use std::time::Duration;

use posada_box_server::{MirrorSettings, Scopes, Settings};
use serde_json::json;

use crate::support::{Running, expect, file, mirror, mirror_of, noise, sha256, start};

const FRESH: Duration = Duration::from_secs(3600);

async fn bytes(server: &Running, path: &str) -> Vec<u8> {
    let answer = server.get(path).send().await.unwrap();
    assert_eq!(answer.status(), 200, "{path}");
    answer.bytes().await.unwrap().to_vec()
}

/// The requests for files that `server` was asked.
fn files_asked(server: &Running) -> usize {
    let seen = server.seen.0.lock().unwrap();
    seen.iter().filter(|access| access.method == "GET" && access.path.ends_with("vagrant.box")).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_asked_for_once_is_there_when_upstream_is_not() {
    let mut upstream = start(Settings::default()).await;
    let content = noise(1, 3 << 20);
    upstream.publish("team/web", "1.0", content.clone()).await;
    upstream.publish("team/other", "1.0", noise(2, 10)).await;
    let mirror = mirror_of(&upstream, Duration::ZERO).await;
    let catalog = expect(mirror.catalog("team/web").await, 200).await;
    let provider = &catalog["versions"][0]["providers"][0];
    assert_eq!(provider["url"], format!("{}{}", mirror.base, file("team/web", "1.0")));
    assert_eq!((&provider["checksum_type"], &provider["size"]), (&json!("sha256"), &json!(3 << 20)));
    assert_eq!(provider["checksum"], sha256(&content).to_string());
    assert!(provider.get("manifest").is_none(), "{provider}");
    let path = file("team/web", "1.0");
    let head = mirror.client.head(format!("{}{path}", mirror.base)).send().await.unwrap();
    assert_eq!(
        (head.status().as_u16(), head.headers()["content-length"].to_str().unwrap()),
        (200, "3145728")
    );
    assert_eq!(files_asked(&upstream), 0);

    assert!(bytes(&mirror, &path).await == content);
    mirror.settled().await;
    let asked = files_asked(&upstream);
    assert!(bytes(&mirror, &path).await == content);
    let range = mirror.get(&path).header("range", "bytes=1000-1999").send().await.unwrap();
    assert!(range.status() == 206 && range.bytes().await.unwrap() == content[1000..2000]);
    assert_eq!(files_asked(&upstream), asked, "it is here");
    let catalog = mirror.catalog("team/web").await;
    assert!(catalog.headers().get("warning").is_none() && catalog.headers()["age"] == "0");
    assert!(expect(catalog, 200).await["versions"][0]["providers"][0]["manifest"].is_string());
    let manifest = mirror.get("/team/web/versions/1.0/libvirt/amd64/manifest").send().await.unwrap();
    assert_eq!(expect(manifest, 200).await["sha256"], sha256(&content).to_string());

    upstream.tell_to_stop().await.unwrap();
    let stale = mirror.catalog("team/web").await;
    assert_eq!(stale.headers()["warning"], "110 posada \"Response is Stale\"");
    assert_eq!(expect(stale, 200).await["versions"][0]["version"], "1.0");
    assert!(bytes(&mirror, &path).await == content);
    let refused = expect(mirror.catalog("team/other").await, 502).await;
    assert!(refused["error"].as_str().unwrap().contains("cannot have it"), "{refused}");
    let seen = mirror.seen.0.lock().unwrap().clone();
    let told = seen.iter().find(|access| access.mirror == Some("stale")).unwrap();
    assert!(told.cause.as_ref().unwrap().contains("s ago"), "{told:?}");
    let text = bytes(&mirror, "/metrics").await;
    let text = String::from_utf8(text).unwrap();
    for line in [
        "posada_mirror_stale_total 1",
        "posada_mirror_upstream_bytes_total 3145728",
        "posada_mirror_misses_total",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_document_is_asked_for_again_and_what_was_yanked_is_gone() {
    let upstream = start(Settings::default()).await;
    for version in ["1.0", "1.1"] {
        upstream.publish("team/web", version, noise(1, 1000)).await;
    }
    let (mirror, lasting) = (mirror_of(&upstream, Duration::ZERO).await, mirror_of(&upstream, FRESH).await);
    for server in [&mirror, &mirror, &lasting, &lasting] {
        let catalog = expect(server.catalog("team/web").await, 200).await;
        assert_eq!(catalog["versions"].as_array().unwrap().len(), 2);
    }
    let statuses = || -> Vec<u16> {
        upstream
            .seen
            .0
            .lock()
            .unwrap()
            .iter()
            .filter(|it| it.path == "/team/web")
            .map(|it| it.status)
            .collect()
    };
    assert_eq!(statuses(), [200, 304, 200], "the same document does not come twice");
    assert_eq!(bytes(&mirror, &file("team/web", "1.1")).await, noise(1, 1000));
    let yank = upstream.post("/api/v1/boxes/team/web/versions/1.1/yank").send().await.unwrap();
    expect(yank, 200).await;
    let catalog = expect(mirror.catalog("team/web").await, 200).await;
    assert_eq!(catalog["versions"].as_array().unwrap().len(), 1);
    expect(mirror.get(&file("team/web", "1.1")).send().await.unwrap(), 404).await;
    let catalog = expect(lasting.catalog("team/web").await, 200).await;
    assert_eq!(catalog["versions"].as_array().unwrap().len(), 2, "it is taken to be current");
    expect(mirror.catalog("team/none").await, 404).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_box_of_its_own_comes_first_and_a_mirrored_one_is_not_pushed_to() {
    let upstream = start(Settings::default()).await;
    upstream.publish("team/web", "1.0", noise(1, 1000)).await;
    upstream.publish("team/own", "9.0", noise(2, 1000)).await;
    let mirror = mirror_of(&upstream, FRESH).await;
    mirror.publish("team/own", "1.0", noise(3, 1000)).await;
    assert_eq!(expect(mirror.catalog("team/own").await, 200).await["versions"][0]["version"], "1.0");
    expect(mirror.get(&file("team/own", "9.0")).send().await.unwrap(), 404).await;
    expect(mirror.catalog("team/web").await, 200).await;
    let refused = expect(mirror.push("team/web", "2.0", noise(4, 10)).await, 409).await;
    assert!(refused["error"].as_str().unwrap().contains("mirrored here"), "{refused}");
    let list = expect(mirror.get("/api/v1/boxes").send().await.unwrap(), 200).await;
    assert_eq!(
        (&list["boxes"][0]["name"], &list["mirrored"][0]["name"]),
        (&json!("team/own"), &json!("team/web"))
    );
    let from = format!("mirrored from localhost:{}", upstream.address.port());
    for path in ["/", "/team/web"] {
        let page = mirror.get(path).send().await.unwrap().text().await.unwrap();
        assert!(page.contains(&from), "{page}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mirror_asks_for_tokens_of_its_own_and_shows_upstream_one() {
    let upstream = start(Settings { anonymous_read: false, ..Settings::default() }).await;
    upstream.publish("team/web", "1.0", noise(1, 1000)).await;
    let scopes = Scopes { read: vec!["team".into()], push: vec![] };
    let secret = upstream.repository.create_token("mirror", scopes).await.unwrap();
    let with = |secret: &str| {
        let token =
            posada_fetch::Token { server: upstream.base.parse().unwrap(), secret: secret.to_owned().into() };
        move |settings: &mut MirrorSettings| settings.client.tokens = vec![token]
    };
    let private = Settings { anonymous_read: false, ..Settings::default() };
    let server = mirror(private, &upstream.base, FRESH, with(&secret)).await;
    let path = file("team/web", "1.0");
    expect(server.catalog("team/web").await, 401).await;
    expect(server.get(&path).send().await.unwrap(), 401).await;
    let other = Scopes { read: vec!["other".into()], push: vec![] };
    let other = server.repository.create_token("other", other).await.unwrap();
    let allowed = |request: reqwest::RequestBuilder| request.bearer_auth(server.token.clone()).send();
    for path in ["/api/v2/vagrant/team/web", &path] {
        expect(allowed(server.get(path)).await.unwrap(), 200).await;
        expect(server.get(path).bearer_auth(&other).send().await.unwrap(), 403).await;
    }
    server.settled().await;
    expect(server.get(&path).bearer_auth(&other).send().await.unwrap(), 403).await;
    let list = expect(server.get("/api/v1/boxes").bearer_auth(&other).send().await.unwrap(), 200).await;
    assert_eq!(list["mirrored"], json!([]));
    let told = format!("{:?} {:?}", server.seen.0.lock().unwrap(), server.seen.1.lock().unwrap());
    assert!(!told.contains(&secret));

    let wrong = mirror(Settings::default(), &upstream.base, FRESH, with("posada_wrong")).await;
    let refused = expect(wrong.catalog("team/web").await, 502).await;
    assert!(refused["error"].as_str().unwrap().contains("token"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mirrors_that_go_round_in_a_circle_are_told_so() {
    let (listener, other) = (crate::support::listener(), crate::support::listener());
    let url = |listener: &std::net::TcpListener| {
        format!("http://localhost:{}", listener.local_addr().unwrap().port())
    };
    let (one_at, other_at) = (url(&listener), url(&other));
    let (one_address, other_address) = (listener.local_addr().unwrap(), other.local_addr().unwrap());
    drop((listener, other));
    let one = crate::support::mirror_at(one_address, &other_at).await;
    let other = crate::support::mirror_at(other_address, &one_at).await;
    for server in [&one, &other] {
        let refused = expect(server.catalog("team/web").await, 508).await;
        assert!(refused["error"].as_str().unwrap().contains("circle"), "{refused}");
    }
    // Both at once: neither waits for the other.
    let (a, b) = tokio::join!(one.catalog("team/db"), other.catalog("team/db"));
    assert_eq!((a.status(), b.status()), (508.try_into().unwrap(), 508.try_into().unwrap()));
    let own = crate::support::listener();
    let (own_at, address) = (url(&own), own.local_addr().unwrap());
    drop(own);
    let own = crate::support::mirror_at(address, &own_at).await;
    expect(own.catalog("team/web").await, 508).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mirror_of_a_mirror_passes_all_on() {
    let upstream = start(Settings::default()).await;
    upstream.publish("team/web", "1.0", noise(1, 100_000)).await;
    let first = mirror_of(&upstream, FRESH).await;
    let second = mirror_of(&first, FRESH).await;
    expect(second.catalog("team/web").await, 200).await;
    assert!(bytes(&second, &file("team/web", "1.0")).await == noise(1, 100_000));
}
