//! Versions, from the first push to the last download.

use posada_box_server::{Retention, Settings};
use serde_json::{Value, json};

use crate::support::{expect, file, noise, sha256, start};

#[tokio::test]
async fn a_version_is_seen_when_it_is_released_and_looks_as_vagrant_wants_it() {
    let server = start(Settings::default()).await;
    let bytes = noise(1, 300_000);
    let pushed = expect(server.push("team/web", "1.0", bytes.clone()).await, 201).await;
    assert_eq!(pushed["checksum"], sha256(&bytes).to_string());
    expect(server.catalog("team/web").await, 404).await;
    expect(server.get(&file("team/web", "1.0")).send().await.unwrap(), 404).await;

    expect(server.release("team/web", "1.0").await, 200).await;
    let catalog = expect(server.catalog("team/web").await, 200).await;
    assert_eq!(catalog["name"], "team/web");
    let version = &catalog["versions"][0];
    assert_eq!((&version["version"], &version["status"]), (&json!("1.0"), &json!("active")));
    let url = format!("{}/team/web/versions/1.0/libvirt/amd64", server.base);
    assert_eq!(
        version["providers"],
        json!([{
            "name": "libvirt", "url": format!("{url}/vagrant.box"), "manifest": format!("{url}/manifest"),
            "checksum": sha256(&bytes).to_string(), "checksum_type": "sha256", "size": 300_000,
            "architecture": "amd64", "default_architecture": true,
        }])
    );
    let newer = server.get("/api/v2/vagrant/team/web").send().await.unwrap();
    assert_eq!(expect(newer, 200).await, catalog);
    let head = server.client.head(format!("{}/team/web", server.base)).header("accept", "application/json");
    let head = head.send().await.unwrap();
    assert_eq!(
        (head.status().as_u16(), &head.headers()["content-type"]),
        (200, &"application/json".parse().unwrap())
    );
    let came = server.get(&file("team/web", "1.0")).send().await.unwrap().bytes().await.unwrap();
    assert!(came == bytes);
}

#[tokio::test]
async fn a_released_version_never_changes() {
    let server = start(Settings::default()).await;
    let (one, other) = (noise(1, 1000), noise(2, 1000));
    // As long as it is open it does.
    expect(server.push("team/web", "1.0", other.clone()).await, 201).await;
    server.publish("team/web", "1.0", one.clone()).await;
    let refused = expect(server.push("team/web", "1.0", other).await, 409).await;
    assert!(refused["error"].as_str().unwrap().contains("released"), "{refused}");
    let arm = "/team/web/versions/1.0/libvirt/arm64/vagrant.box";
    expect(server.put(arm).body("new").send().await.unwrap(), 409).await;
    let drop = server.client.delete(format!("{}/api/v1/boxes/team/web/versions/1.0", server.base));
    expect(drop.bearer_auth(&server.token).send().await.unwrap(), 409).await;
    // Whoever did not hear the answer may say the same again.
    let again = server.put(&file("team/web", "1.0")).header("x-checksum-sha256", sha256(&one).to_string());
    expect(again.body(one.clone()).send().await.unwrap(), 201).await;
    expect(server.release("team/web", "1.0").await, 200).await;
    let came = server.get(&file("team/web", "1.0")).send().await.unwrap().bytes().await.unwrap();
    assert!(came == one);
}

#[tokio::test]
async fn a_yanked_version_is_found_no_more_but_still_fetched() {
    let server = start(Settings::default()).await;
    for version in ["1.0", "1.1"] {
        server.publish("team/web", version, noise(1, 1000)).await;
    }
    let versions = |catalog: &Value| -> Vec<String> {
        let all = catalog["versions"].as_array().unwrap();
        all.iter().map(|version| version["version"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(versions(&expect(server.catalog("team/web").await, 200).await), ["1.1", "1.0"]);
    let say = |what: &str| server.post(&format!("/api/v1/boxes/team/web/versions/1.1/{what}")).send();
    expect(say("yank").await.unwrap(), 200).await;
    assert_eq!(versions(&expect(server.catalog("team/web").await, 200).await), ["1.0"]);
    expect(server.get(&file("team/web", "1.1")).bearer_auth(&server.token).send().await.unwrap(), 200).await;
    expect(server.get(&file("team/web", "1.1")).send().await.unwrap(), 200).await;
    expect(server.push("team/web", "1.1", noise(3, 10)).await, 409).await;
    expect(say("release").await.unwrap(), 409).await;
    expect(say("unyank").await.unwrap(), 200).await;
    assert_eq!(versions(&expect(server.catalog("team/web").await, 200).await), ["1.1", "1.0"]);
    expect(server.post("/api/v1/boxes/team/web/versions/9/yank").send().await.unwrap(), 404).await;
}

#[tokio::test]
async fn an_older_vagrant_gets_the_default_architecture_as_it_takes_the_last() {
    let server = start(Settings::default()).await;
    for architecture in ["riscv64", "amd64", "arm64"] {
        let path = format!("/team/web/versions/1/libvirt/{architecture}/vagrant.box");
        expect(server.put(&path).body(architecture).send().await.unwrap(), 201).await;
    }
    expect(server.release("team/web", "1").await, 200).await;
    let catalog = expect(server.catalog("team/web").await, 200).await;
    let providers = catalog["versions"][0]["providers"].as_array().unwrap();
    let order: Vec<_> = providers.iter().map(|file| file["architecture"].as_str().unwrap()).collect();
    assert_eq!(order, ["arm64", "riscv64", "amd64"]);
}

#[tokio::test]
async fn retention_lets_older_versions_go_when_a_new_one_comes() {
    let retention = Retention { keep: Some(2), days: None };
    let server = start(Settings { retention, ..Settings::default() }).await;
    for version in ["1", "2", "3"] {
        server.publish("team/web", version, noise(1, 1000)).await;
    }
    let catalog = expect(server.catalog("team/web").await, 200).await;
    let left: Vec<_> = catalog["versions"].as_array().unwrap().iter().map(|it| &it["version"]).collect();
    assert_eq!(left, ["3", "2"]);
    expect(server.get(&file("team/web", "1")).send().await.unwrap(), 404).await;
}

#[tokio::test]
async fn what_a_box_is_can_be_told() {
    let server = start(Settings::default()).await;
    server.publish("team/web", "1", noise(1, 10)).await;
    let patch =
        server.client.patch(format!("{}/api/v1/boxes/team/web", server.base)).bearer_auth(&server.token);
    expect(patch.json(&json!({"description": "Our site\nand more"})).send().await.unwrap(), 200).await;
    let catalog = expect(server.catalog("team/web").await, 200).await;
    assert_eq!(catalog["short_description"], "Our site");
    assert_eq!(catalog["description"], "Our site\nand more");
}
