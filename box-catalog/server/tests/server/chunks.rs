//! Files by chunks: only what is not there travels.

use posada_box_server::{FileManifest, Packed, Settings, Unbundle};
use reqwest::Response;
use serde_json::json;

use crate::support::{Running, bundle, cut, expect, file, noise, pack, sha256, start};

const MANIFEST: &str = "/team/web/versions/1/libvirt/amd64/manifest";

async fn missing(server: &Running, chunks: &[Packed]) -> usize {
    let digests: Vec<_> = chunks.iter().map(|chunk| chunk.digest).collect();
    let request = server.post("/api/v1/chunks/missing").json(&json!({"digests": digests}));
    expect(request.send().await.unwrap(), 200).await["missing"].as_array().unwrap().len()
}

async fn send(server: &Running, bytes: Vec<u8>) -> Response {
    server.post("/api/v1/chunks").body(bytes).send().await.unwrap()
}

async fn commit(server: &Running, version: &str, manifest: &FileManifest) -> Response {
    let path = format!("/team/web/versions/{version}/libvirt/amd64/manifest");
    server.put(&path).json(manifest).send().await.unwrap()
}

#[tokio::test]
async fn a_second_version_brings_only_what_is_new() {
    let server = start(Settings::default()).await;
    let mut bytes = noise(1, 1_000_000);
    let (manifest, chunks) = cut(&bytes, 100_000);
    assert_eq!(missing(&server, &chunks).await, 10);
    assert_eq!(expect(send(&server, bundle(&chunks[..4])).await, 200).await["stored"], 4);
    let refused = expect(commit(&server, "1", &manifest).await, 409).await;
    assert_eq!(refused["missing"].as_array().unwrap().len(), 6);
    assert_eq!(expect(send(&server, bundle(&chunks)).await, 200).await["stored"], 6);
    expect(commit(&server, "1", &manifest).await, 201).await;
    expect(server.release("team/web", "1").await, 200).await;
    assert!(server.get(&file("team/web", "1")).send().await.unwrap().bytes().await.unwrap() == bytes);

    bytes[555_555] ^= 1;
    let (manifest, chunks) = cut(&bytes, 100_000);
    assert_eq!(missing(&server, &chunks).await, 1);
    expect(send(&server, bundle(&chunks[5..6])).await, 200).await;
    expect(commit(&server, "2", &manifest).await, 201).await;

    let told = expect(server.get(MANIFEST).send().await.unwrap(), 200).await;
    assert_eq!(told["chunks"].as_array().unwrap().len(), 10);
    let url = format!("/api/v1/chunks/{}", chunks[3].digest);
    let frame = server.get(&url).send().await.unwrap().bytes().await.unwrap();
    assert!(zstd::bulk::decompress(&frame, 100_000).unwrap() == bytes[300_000..400_000]);
    let digests = [chunks[9].digest, chunks[0].digest, chunks[9].digest];
    let asked =
        server.client.post(format!("{}/api/v1/chunks/get", server.base)).json(&json!({"digests": digests}));
    let answer = asked.send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let mut unbundle = Unbundle::default();
    unbundle.feed(&answer.bytes().await.unwrap());
    for chunk in [&chunks[9], &chunks[0], &chunks[9]] {
        assert_eq!(unbundle.take().unwrap().unwrap().digest, chunk.digest);
    }
    unbundle.end().unwrap();
}

#[tokio::test]
async fn what_is_not_what_it_says_is_not_kept() {
    let server = start(Settings::default()).await;
    let good = pack(b"good");
    let liar = Packed { digest: good.digest, ..pack(b"evil") };
    expect(send(&server, bundle([&liar])).await, 422).await;
    let longer = Packed { length: 1 << 20, ..good.clone() };
    expect(send(&server, bundle([&longer])).await, 422).await;
    let noise = Packed { frame: noise(1, 50).into(), ..good.clone() };
    expect(send(&server, bundle([&noise])).await, 422).await;
    // A bomb: what it unpacks to is more than it says.
    let bomb = Packed { length: 10, ..pack(&vec![0; 16 << 20]) };
    expect(send(&server, bundle([&bomb])).await, 422).await;
    assert_eq!(missing(&server, &[good.clone(), bomb]).await, 2);
    let broken = bundle([&good, &pack(b"next")]);
    expect(send(&server, broken[..broken.len() - 1].to_vec()).await, 400).await;
    assert_eq!(missing(&server, &[good]).await, 0, "what came whole is kept");
}

#[tokio::test]
async fn a_manifest_is_held_to_what_it_says() {
    let server = start(Settings::default()).await;
    let (manifest, chunks) = cut(&noise(1, 1000), 100);
    expect(send(&server, bundle(&chunks)).await, 200).await;
    let wrong = FileManifest { sha256: sha256(b"other"), ..manifest.clone() };
    expect(commit(&server, "1", &wrong).await, 422).await;
    let wrong = FileManifest { size: 999, ..manifest.clone() };
    expect(commit(&server, "1", &wrong).await, 400).await;
    let mut wrong = manifest.clone();
    (wrong.chunks[0].1, wrong.chunks[1].1) = (99, 101);
    expect(commit(&server, "1", &wrong).await, 409).await;
    expect(server.release("team/web", "1").await, 404).await;
    expect(commit(&server, "1", &manifest).await, 201).await;
}

#[tokio::test]
async fn a_chunk_that_a_power_cut_spoilt_is_asked_for_again() {
    let server = start(Settings::default()).await;
    let (manifest, chunks) = cut(&noise(1, 1000), 100);
    expect(send(&server, bundle(&chunks)).await, 200).await;
    let path = |chunk: &Packed| {
        let hex = chunk.digest.to_string();
        server.dir.path().join("repository/chunks").join(&hex[..2]).join(hex)
    };
    std::fs::write(path(&chunks[2]), b"").unwrap();
    std::fs::write(path(&chunks[7]), &chunks[6].frame).unwrap();
    assert_eq!(missing(&server, &chunks).await, 1, "an empty one is seen at once");
    expect(send(&server, bundle(&chunks)).await, 200).await;
    let refused = expect(commit(&server, "1", &manifest).await, 409).await;
    assert_eq!(refused["missing"], json!([chunks[7].digest]));
    expect(send(&server, bundle(&chunks)).await, 200).await;
    expect(commit(&server, "1", &manifest).await, 201).await;
}
