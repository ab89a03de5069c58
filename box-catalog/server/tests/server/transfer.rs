//! Files, as curl fetches them.

use std::process::Command;

use posada_box_server::Settings;

use crate::support::{Running, file, noise, run, sha256, start};

fn curl(server: &Running, words: &[&str]) -> Command {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--noproxy", "*"]).args(words);
    command.arg(format!("{}{}", server.base, file("team/web", "1")));
    command
}

async fn served(bytes: &[u8]) -> Running {
    let server = start(Settings::default()).await;
    server.publish("team/web", "1", bytes.to_vec()).await;
    server
}

#[tokio::test]
async fn a_download_that_broke_off_goes_on() {
    let bytes = noise(1, 3_000_000);
    let server = served(&bytes).await;
    let target = server.dir.path().join("there");
    std::fs::write(&target, &bytes[..1_234_567]).unwrap();
    let words = ["--continue-at", "-", "--output", target.to_str().unwrap()];
    run(curl(&server, &words)).await;
    assert!(std::fs::read(&target).unwrap() == bytes);
    let sent: u64 =
        server.seen.0.lock().unwrap().iter().filter(|it| it.method == "GET").map(|it| it.bytes).sum();
    assert_eq!(sent, 3_000_000 - 1_234_567, "only what was not there is sent");
}

#[tokio::test]
async fn parts_have_their_place_and_all_have_a_tag() {
    let bytes = noise(2, 200_000);
    let server = served(&bytes).await;
    let tag = format!("\"{}\"", sha256(&bytes));
    let head = run(curl(&server, &["--head"])).await.to_lowercase();
    for line in ["http/1.1 200", "content-length: 200000", "accept-ranges: bytes", &format!("etag: {tag}")] {
        assert!(head.contains(line), "{line} in {head}");
    }
    let part = server.dir.path().join("part");
    let out = part.to_str().unwrap();
    let text = run(curl(&server, &["--dump-header", "-", "--range", "150000-", "--output", out])).await;
    assert!(
        text.contains("206") && text.to_lowercase().contains("content-range: bytes 150000-199999/200000"),
        "{text}"
    );
    assert!(std::fs::read(&part).unwrap() == bytes[150_000..]);

    let status = ["--output", out, "--write-out", "%{http_code} %{size_download}"];
    let ask = async |more: &[&str]| run(curl(&server, &[&status, more].concat())).await;
    assert_eq!(ask(&["--range", "0-9"]).await, "206 10");
    assert_eq!(ask(&["--range", "-7"]).await, "206 7");
    assert_eq!(ask(&["--range", "200000-"]).await, "416 0");
    assert_eq!(ask(&["--range", "0-1,5-6"]).await, "200 200000");
    assert_eq!(ask(&["--header", &format!("If-None-Match: {tag}")]).await, "304 0");
    assert_eq!(ask(&["--header", "If-None-Match: \"other\""]).await, "200 200000");
    let range = ["--range", "0-9", "--header"];
    assert_eq!(ask(&[&range[..], &[&format!("If-Range: {tag}")]].concat()).await, "206 10");
    assert_eq!(ask(&[&range[..], &["If-Range: \"other\""]].concat()).await, "200 200000");
    assert_eq!(ask(&[&range[..], &[&format!("If-Range: W/{tag}")]].concat()).await, "200 200000");
}

#[tokio::test]
async fn curl_pushes_a_file_that_is_held_to_its_checksum() {
    let server = start(Settings::default()).await;
    let bytes = noise(3, 2_500_000);
    let source = server.dir.path().join("file.box");
    std::fs::write(&source, &bytes).unwrap();
    let status = ["--output", "/dev/null", "--write-out", "%{http_code}"];
    let upload = ["--upload-file", source.to_str().unwrap(), "--oauth2-bearer", &server.token, "--header"];
    let push = async |sum: &str| {
        let sum = format!("X-Checksum-Sha256: {sum}");
        run(curl(&server, &[&status[..], &upload, &[&sum]].concat())).await
    };
    assert_eq!(push(&sha256(b"other").to_string()).await, "422");
    assert_eq!(push("nonsense").await, "400");
    let answer = server.release("team/web", "1").await;
    assert_eq!(answer.status(), 404, "what was refused is not there");
    assert_eq!(push(&sha256(&bytes).to_string()).await, "201");
    assert_eq!(server.release("team/web", "1").await.status(), 200);
    let back = server.dir.path().join("back");
    run(curl(&server, &["--output", back.to_str().unwrap()])).await;
    assert!(std::fs::read(back).unwrap() == bytes);
}

#[tokio::test]
async fn an_empty_file_is_a_file() {
    let server = served(b"").await;
    assert!(server.get(&file("team/web", "1")).send().await.unwrap().bytes().await.unwrap().is_empty());
}
