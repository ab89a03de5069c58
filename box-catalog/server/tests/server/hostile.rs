//! What nobody means well with.

use std::time::Duration;

use posada_box_server::{Limits, Settings};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::{Running, expect, file, noise, start};

/// Sends bytes as they are; what came back until the server closed.
async fn raw(server: &Running, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn no_path_leads_out_of_the_repository() {
    let server = start(Settings::default()).await;
    std::fs::write(server.dir.path().join("secret"), "secret").unwrap();
    for path in [
        "/../secret",
        "/../../../../etc/passwd",
        "/..%2f..%2fsecret/x",
        "/team/..%2f..%2f..%2fsecret",
        "/team%2f..%2f../web",
        "/%2e%2e/%2e%2e",
        "/team/web%00",
        "/api/v1/chunks/..%2f..%2f..%2fsecret",
        "/api/v1/chunks/../../tokens.json",
        "/team/web/versions/..%2f1/libvirt/amd64/vagrant.box",
        "/team/web/versions/1/..%2f..%2f..%2f/amd64/vagrant.box",
        "//etc/passwd",
        "/tokens.json",
        "/boxes/team/web/box.json",
        "/assets/..%2f..%2fsecret",
    ] {
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAccept: application/json\r\n\r\n"
        );
        let answer = raw(&server, request.as_bytes()).await;
        let status = answer.split(' ').nth(1).unwrap_or_default();
        assert!(status == "400" || status == "404", "{path}: {answer}");
        assert!(!answer.contains("root:") && !answer.ends_with("secret"), "{path}: {answer}");
        let request = request.replace("GET", "PUT").replace(
            "Host: x",
            &format!("Host: x\r\nAuthorization: Bearer {}\r\nContent-Length: 1", server.token),
        );
        let answer = raw(&server, format!("{request}x").as_bytes()).await;
        let status = answer.split(' ').nth(1).unwrap_or_default();
        assert!(["400", "404", "405"].contains(&status), "{path}: {answer}");
    }
    let outside: Vec<_> =
        std::fs::read_dir(server.dir.path()).unwrap().map(|it| it.unwrap().file_name()).collect();
    assert_eq!(outside.len(), 2, "{outside:?}");
}

#[tokio::test]
async fn a_host_that_is_none_is_not_repeated() {
    let server = start(Settings::default()).await;
    server.publish("team/web", "1", noise(1, 10)).await;
    let request = "GET /team/web HTTP/1.1\r\nHost: \"><script>x</script>\r\nConnection: close\r\n\r\n";
    let answer = raw(&server, request.as_bytes()).await;
    assert!(!answer.contains("<script"), "{answer}");
}

#[tokio::test]
async fn bodies_that_make_no_sense_are_refused() {
    let server = start(Settings::default()).await;
    let post =
        async |path: &str, body: String| server.post(path).body(body).send().await.unwrap().status().as_u16();
    for body in
        ["", "{", "[]", "{\"digests\": [\"x\"]}", "{\"digests\": 1}", "{\"digests\": [], \"more\": 1}"]
    {
        assert_eq!(post("/api/v1/chunks/missing", body.into()).await, 400, "{body}");
    }
    let many = json!({"digests": vec!["0".repeat(64); 70_000]});
    assert_eq!(post("/api/v1/chunks/missing", many.to_string()).await, 413);
    let deep = "[".repeat(100_000);
    assert_eq!(post("/api/v1/chunks/missing", deep).await, 400);
    assert_eq!(post("/api/v1/chunks/missing", "x".repeat(9 << 20)).await, 413);
    for version in ["v1", "1..2", "1 0", "%31%2f", "latest"] {
        let path = format!("/team/web/versions/{version}/libvirt/amd64/vagrant.box");
        assert_eq!(server.put(&path).body("x").send().await.unwrap().status(), 400, "{version}");
    }
    assert_eq!(post("/team/web", String::new()).await, 405);
    assert_eq!(post("/nothing/of/that/kind", String::new()).await, 404);
}

#[tokio::test]
async fn too_large_a_file_is_refused_and_nothing_of_it_is_seen() {
    let limits = Limits { file: 100_000, ..Limits::default() };
    let server = start(Settings { limits, ..Settings::default() }).await;
    expect(server.push("team/web", "1", noise(1, 100_001)).await, 413).await;
    expect(server.push("team/web", "1", noise(1, 100_000)).await, 201).await;
}

#[tokio::test]
async fn who_sends_or_takes_nothing_is_left() {
    let limits =
        Limits { head: Duration::from_millis(50), stall: Duration::from_millis(50), ..Limits::default() };
    let server = start(Settings { limits, ..Settings::default() }).await;
    // A head that never ends.
    assert!(!raw(&server, b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ").await.contains("200"));
    // A body that never comes.
    let request = format!(
        "PUT {} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Length: 100\r\n\r\nabc",
        file("team/web", "1"),
        server.token
    );
    assert!(raw(&server, request.as_bytes()).await.contains("408"));
    // An answer that is never taken: more than sockets hold.
    let (manifest, chunks) = crate::support::cut(&noise(1, 1 << 20), 1 << 20);
    let manifest = posada_box_server::FileManifest {
        size: 64 << 20,
        chunks: vec![manifest.chunks[0]; 64],
        sha256: crate::support::sha256(&noise(1, 1 << 20).repeat(64)),
    };
    expect(server.post("/api/v1/chunks").body(crate::support::bundle(&chunks)).send().await.unwrap(), 200)
        .await;
    let path = "/team/web/versions/1/libvirt/amd64/manifest";
    expect(server.put(path).json(&manifest).send().await.unwrap(), 201).await;
    expect(server.release("team/web", "1").await, 200).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let request = format!("GET {} HTTP/1.1\r\nHost: x\r\n\r\n", file("team/web", "1"));
    stream.write_all(request.as_bytes()).await.unwrap();
    let over = async {
        loop {
            let seen = server.seen.0.lock().unwrap().last().cloned();
            if let Some(access) =
                seen.filter(|access| access.method == "GET" && access.path.ends_with(".box"))
            {
                break access;
            }
            tokio::task::yield_now().await;
        }
    };
    let access = over.await;
    assert!(!access.complete && access.bytes < 64 << 20, "{access:?}");
}
