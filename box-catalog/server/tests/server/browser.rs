//! The pages, as a browser shows them.

use std::process::Command;

use posada_box_server::Settings;
use serde_json::json;

use crate::support::{Running, expect, noise, run, start};

/// What the browser has made of a page.
async fn dom(server: &Running, path: &str) -> String {
    let profile = tempfile::tempdir().unwrap();
    let mut command = Command::new("chromium");
    command.args([
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--disable-dev-shm-usage",
        "--no-proxy-server",
        "--dump-dom",
    ]);
    command.arg(format!("--user-data-dir={}", profile.path().display()));
    command.arg(format!("{}{path}", server.base));
    run(command).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_shows_boxes_and_runs_nothing_of_theirs() {
    let server = start(Settings::default()).await;
    server.publish("team/web", "1.0", noise(1, 5 << 20)).await;
    server.publish("team/web", "1.1", noise(2, 5 << 20)).await;
    let hostile = "<script>document.title = 'taken'</script><img src=x onerror=\"document.title='taken'\">";
    let patch =
        server.client.patch(format!("{}/api/v1/boxes/team/web", server.base)).bearer_auth(&server.token);
    expect(patch.json(&json!({"description": hostile})).send().await.unwrap(), 200).await;

    let page = dom(&server, "/").await;
    assert!(page.contains("<h2><a href=\"/team/web\">team/web</a></h2>"), "{page}");
    assert!(page.contains("<dd>1.1</dd>") && page.contains("<dd>5.0 MiB</dd>"), "{page}");
    let page = dom(&server, "/team/web").await;
    assert!(page.contains("<title>team/web</title>"), "{page}");
    assert!(page.contains("&lt;script&gt;") && !page.contains("<img"), "{page}");
    assert!(page.contains("config.vm.box = \"team/web\""), "{page}");
    let asked: Vec<String> = server.seen.0.lock().unwrap().iter().map(|it| it.path.clone()).collect();
    assert!(asked.contains(&"/assets/style.css".to_owned()), "{asked:?}");
}
