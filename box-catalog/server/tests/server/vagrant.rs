//! Debian's own Vagrant.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use posada_box_server::{Scopes, Settings};

use crate::support::{Running, expect, mirror_of, run, start};

/// A box for LXC, as small as one can be.
async fn lxc_box(dir: &Path, version: &str) -> Vec<u8> {
    let home = dir.join(version);
    std::fs::create_dir_all(home.join("rootfs")).unwrap();
    std::fs::write(home.join("rootfs/version"), version).unwrap();
    std::fs::write(home.join("metadata.json"), r#"{"provider": "lxc", "version": "1.0.0"}"#).unwrap();
    let script = "tar -czf rootfs.tar.gz rootfs && tar -czf ../made.box metadata.json rootfs.tar.gz";
    let mut command = Command::new("sh");
    command.args(["-ec", script]).current_dir(&home);
    run(command).await;
    std::fs::read(dir.join("made.box")).unwrap()
}

fn vagrant(server: &Running, words: &[&str]) -> Command {
    let mut command = Command::new("vagrant");
    command.args(words).current_dir(server.dir.path());
    for (name, _) in std::env::vars().filter(|(name, _)| name.to_lowercase().ends_with("_proxy")) {
        command.env_remove(name);
    }
    command.env("VAGRANT_HOME", server.dir.path().join("home")).env("VAGRANT_CHECKPOINT_DISABLE", "1");
    // The server by its address: Vagrant warns of hosts it does not know, and waits.
    command.env("VAGRANT_SERVER_URL", &server.base).env("VAGRANT_DEFAULT_PROVIDER", "lxc");
    command
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn vagrant_adds_and_updates_boxes() {
    let server = start(Settings { anonymous_read: false, ..Settings::default() }).await;
    let scopes = Scopes { read: vec!["team".into()], push: vec![] };
    let token = server.repository.create_token("vagrant", scopes).await.unwrap();
    for version in ["1.0.0", "1.1.0"] {
        let bytes = lxc_box(server.dir.path(), version).await;
        let path = format!("/team/web/versions/{version}/lxc/amd64/vagrant.box");
        expect(server.put(&path).body(bytes).send().await.unwrap(), 201).await;
        expect(server.release("team/web", version).await, 200).await;
    }
    let add = ["box", "add", "team/web", "--provider", "lxc", "--box-version", "~> 1.0.0"];
    let mut command = vagrant(&server, &add);
    command.env("VAGRANT_CLOUD_TOKEN", &token);
    let text = run(command).await;
    assert!(text.contains("Successfully added box 'team/web' (v1.0.0)"), "{text}");
    let mut command = vagrant(&server, &["box", "update", "--box", "team/web", "--provider", "lxc"]);
    command.env("VAGRANT_CLOUD_TOKEN", &token);
    let text = run(command).await;
    assert!(text.contains("Successfully added box 'team/web' (v1.1.0)"), "{text}");
    let home = server.dir.path().join("home/boxes/team-VAGRANTSLASH-web");
    for version in ["1.0.0", "1.1.0"] {
        assert!(home.join(version).join("lxc/rootfs.tar.gz").exists());
    }
    let fetched = server.seen.0.lock().unwrap();
    let by_token = fetched.iter().filter(|it| it.token.as_deref() == Some("vagrant") && it.status == 200);
    assert!(by_token.count() >= 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn vagrant_adds_boxes_through_a_mirror_also_when_upstream_is_gone() {
    let mut upstream = start(Settings::default()).await;
    let bytes = lxc_box(upstream.dir.path(), "1.0.0").await;
    let path = "/team/web/versions/1.0.0/lxc/amd64/vagrant.box";
    expect(upstream.put(path).body(bytes.clone()).send().await.unwrap(), 201).await;
    expect(upstream.release("team/web", "1.0.0").await, 200).await;
    let mirror = mirror_of(&upstream, Duration::ZERO).await;
    for _ in 0..2 {
        let text = run(vagrant(&mirror, &["box", "add", "team/web", "--provider", "lxc", "--force"])).await;
        assert!(text.contains("Successfully added box 'team/web' (v1.0.0)"), "{text}");
        mirror.settled().await;
        if upstream.is_running() {
            upstream.tell_to_stop().await.unwrap();
        }
    }
    let seen = mirror.seen.0.lock().unwrap();
    let how: Vec<_> = seen.iter().filter(|it| it.path.ends_with(".box")).map(|it| it.mirror).collect();
    assert_eq!(how, [Some("miss"), Some("hit")]);
}
