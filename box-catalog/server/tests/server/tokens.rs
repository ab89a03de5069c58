//! Who may do what.

use posada_box_server::{Scopes, Settings};
use serde_json::json;

use crate::support::{Running, expect, file, noise, start};

async fn token(server: &Running, name: &str, read: &[&str], push: &[&str]) -> String {
    let owned = |list: &[&str]| list.iter().map(ToString::to_string).collect();
    server.repository.create_token(name, Scopes { read: owned(read), push: owned(push) }).await.unwrap()
}

async fn status(request: reqwest::RequestBuilder) -> u16 {
    request.send().await.unwrap().status().as_u16()
}

#[tokio::test]
async fn a_token_allows_what_it_says_and_no_more() {
    let server = start(Settings { anonymous_read: false, ..Settings::default() }).await;
    server.publish("team/web", "1", noise(1, 10)).await;
    server.publish("other/db", "1", noise(2, 10)).await;
    let reads = token(&server, "reads", &["team"], &[]).await;
    let pushes = token(&server, "pushes", &[], &["team"]).await;
    let catalog = |name: &str| server.get(&format!("/{name}")).header("accept", "application/json");
    assert_eq!(status(catalog("team/web")).await, 401);
    assert_eq!(status(catalog("team/nothing")).await, 401, "what there is is not told");
    for token in [&reads, &pushes] {
        assert_eq!(status(catalog("team/web").bearer_auth(token)).await, 200);
        assert_eq!(status(catalog("other/db").bearer_auth(token)).await, 403);
        assert_eq!(status(catalog("other/nothing").bearer_auth(token)).await, 403);
        assert_eq!(status(server.get(&file("team/web", "1")).bearer_auth(token)).await, 200);
        assert_eq!(status(server.get(&file("other/db", "1")).bearer_auth(token)).await, 403);
        let listed = expect(server.get("/api/v1/boxes").bearer_auth(token).send().await.unwrap(), 200).await;
        assert_eq!(listed["boxes"].as_array().unwrap().len(), 1);
    }
    let push = |name: &str| server.client.put(format!("{}{}", server.base, file(name, "2"))).body("x");
    assert_eq!(status(push("team/web")).await, 401);
    assert_eq!(status(push("team/web").bearer_auth(&reads)).await, 403);
    assert_eq!(status(push("other/db").bearer_auth(&pushes)).await, 403);
    assert_eq!(status(push("team/web").bearer_auth(&pushes)).await, 201);
    for what in ["release", "yank", "unyank"] {
        let say = server.client.post(format!("{}/api/v1/boxes/team/web/versions/2/{what}", server.base));
        assert_eq!(status(say.bearer_auth(&reads)).await, 403, "{what}");
    }
    let ask =
        server.client.post(format!("{}/api/v1/chunks/missing", server.base)).json(&json!({"digests": []}));
    assert_eq!(status(ask.bearer_auth(&reads)).await, 403);
    for path in ["/", "/metrics", "/team/web"] {
        assert_eq!(status(server.get(path)).await, 401, "{path}");
    }
    assert_eq!(status(server.get("/healthz")).await, 200);
}

#[tokio::test]
async fn older_vagrants_send_tokens_in_urls_and_no_log_shows_them() {
    let server = start(Settings { anonymous_read: false, ..Settings::default() }).await;
    server.publish("team/web", "1", noise(1, 10)).await;
    let reads = token(&server, "reads", &["*"], &[]).await;
    assert_eq!(status(server.get(&format!("/team/web?access_token={reads}"))).await, 200);
    let seen = format!("{:?}", server.seen.0.lock().unwrap());
    assert!(seen.contains("reads") && !seen.contains(&reads) && !seen.contains(&server.token), "{seen}");
}

#[tokio::test]
async fn a_revoked_token_is_worth_nothing_at_once() {
    let server = start(Settings::default()).await;
    let push = token(&server, "push", &[], &["team"]).await;
    let who = expect(server.get("/api/v1/whoami").bearer_auth(&push).send().await.unwrap(), 200).await;
    assert_eq!(who, json!({"name": "push", "read": [], "push": ["team"]}));
    server.repository.revoke_token("push").await.unwrap();
    let refused = expect(server.get("/api/v1/whoami").bearer_auth(&push).send().await.unwrap(), 401).await;
    assert!(refused["hint"].as_str().unwrap().contains("revoked"));
    assert!(server.repository.revoke_token("push").await.is_err());
}

#[tokio::test]
async fn what_is_kept_of_tokens_is_no_token() {
    let server = start(Settings::default()).await;
    let kept = std::fs::read_to_string(server.dir.path().join("repository/tokens.json")).unwrap();
    assert!(kept.contains("all-0") && !kept.contains(&server.token) && !kept.contains(&server.token[7..]));
    for wrong in ["", "Bearer", "Basic eDp5"] {
        let request = server.get("/api/v1/whoami").header("authorization", wrong);
        assert_eq!(status(request).await, 401, "{wrong}");
    }
    assert!(server.repository.create_token("all-0", Scopes::default()).await.is_err());
    let odd = Scopes { read: vec!["../x".into()], push: vec![] };
    assert!(server.repository.create_token("odd", odd).await.is_err());
}
