//! A team's repository: served, filled, and read back, by the binary alone.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};

use nix::sys::signal::Signal;
use posada_tests::buckets::Buckets;
use posada_tests::sandbox::{Caller, Running, run};
use posada_tests::{Sandbox, net};
use serde_json::Value;

/// A repository that is served; its URL.
fn serve(sandbox: &Sandbox, arguments: &[&str]) -> (Running, String) {
    let storage = storage(sandbox);
    let all = ["box", "serve", &storage, "--listen", "127.0.0.1:0", "--json"];
    let mut running = sandbox.start(&[&all, arguments].concat());
    let mut line = String::new();
    // One byte at a time: what comes later is its own.
    let mut out = BufReader::with_capacity(1, running.child().stdout.as_mut().expect("its output"));
    out.read_line(&mut line).expect("a line");
    let event: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
    assert_eq!(event["event"], "serving");
    let url = event["url"].as_str().expect("a URL").to_owned();
    (running, url)
}

fn storage(sandbox: &Sandbox) -> String {
    sandbox.root().join("repository").display().to_string()
}

fn port(url: &str) -> u16 {
    url.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port")
}

fn token(sandbox: &Sandbox, name: &str, namespace: &str) -> String {
    sandbox
        .ok(&["box", "token", "create", &storage(sandbox), name, "--push", namespace])
        .stdout
        .trim()
        .to_owned()
}

fn text(bytes: u64) -> String {
    (0..bytes / 8).map(|number| format!("{number:07}\n")).collect()
}

/// Bytes that a server sent of what is at `path`, by what it told.
fn fetched(events: &[Value], path: &str) -> u64 {
    let requests = events.iter().filter(|event| event["event"] == "request" && event["path"] == path);
    let fetched = requests.filter(|request| request["method"] != "PUT");
    fetched.map(|request| request["bytes"].as_u64().expect("a number")).sum()
}

fn event<'a>(events: &'a [Value], name: &str) -> &'a Value {
    events.iter().find(|event| event["event"] == name).unwrap_or_else(|| panic!("{name}: {events:?}"))
}

#[test]
fn what_is_pushed_is_in_the_catalog_and_a_second_version_sends_what_changed() {
    let sandbox = Sandbox::bare(Caller::Root);
    let (server, url) = serve(&sandbox, &[]);
    let token = token(&sandbox, "ci", "team");
    sandbox.run_with_input(&["box", "login", &url], token.as_bytes()).ended_with(0).says("as ci");
    let kept = sandbox.home().join("servers.json");
    assert_eq!(kept.metadata().expect("tokens").permissions().mode() & 0o777, 0o600);

    let content = text(6 << 20);
    let file = sandbox.file("web.box", &content);
    let push = |version: &str| {
        let file = file.to_str().expect("text");
        sandbox.json(&["box", "push", "team/web", file, "--version", version, "--provider", "libvirt"])
    };
    let first = event(&push("1.0.0"), "box_pushed").clone();
    assert_eq!(first["size"], content.len());
    // Half of it is longer, from the middle on.
    let (head, tail) = content.split_at(3 << 20);
    sandbox.file("web.box", &format!("{head}something new\n{tail}"));
    let second = event(&push("1.1.0"), "box_pushed").clone();
    let (new, all) =
        (second["new_chunks"].as_u64().expect("a number"), second["chunks"].as_u64().expect("a number"));
    assert!(new <= 3 && all > 30, "{second}");

    let answer = net::http_get(port(&url), "/api/v2/vagrant/team/web");
    for there in ["\"1.0.0\"", "\"1.1.0\"", "\"libvirt\"", "sha256"] {
        assert!(answer.contains(there), "{answer}");
    }
    let answer = net::http_get(port(&url), "/team/web/versions/1.1.0/libvirt/amd64/vagrant.box");
    assert!(answer.ends_with(&format!("{head}something new\n{tail}")), "the file as it was pushed");

    // A version that was released stays what it is.
    let again = [
        "box",
        "push",
        "team/web",
        file.to_str().expect("text"),
        "--version",
        "1.0.0",
        "--provider",
        "libvirt",
    ];
    sandbox.run(&again).ended_with(2).says("1.0.0");

    // Out of the catalog, and back; one that is not released is not in it yet.
    let catalog = || net::http_get(port(&url), "/api/v2/vagrant/team/web");
    sandbox.ok(&["box", "yank", "team/web", "--version", "1.1.0"]);
    assert!(!catalog().contains("\"1.1.0\"") && catalog().contains("\"1.0.0\""));
    sandbox.ok(&["box", "yank", "team/web", "--version", "1.1.0", "--undo"]);
    assert!(catalog().contains("\"1.1.0\""));
    let later = [&again[..5], &["1.2.0", "--provider", "libvirt", "--no-release"]].concat();
    sandbox.ok(&later);
    assert!(!catalog().contains("\"1.2.0\""));
    sandbox.ok(&["box", "release", "team/web", "--version", "1.2.0"]);
    assert!(catalog().contains("\"1.2.0\""));
    sandbox.run(&["box", "release", "team/web", "--version", "9"]).ended_with(2).says("9");

    server.signal(Signal::SIGTERM);
    let served = server.wait();
    assert_eq!(served.code, 0, "{served}");
    assert!(served.stdout.contains("\"event\":\"request\""), "{served}");
    assert!(!served.stdout.contains("\"complete\":false"), "all that was asked for was sent: {served}");
    assert!(!served.stdout.contains(&token) && !served.stderr.contains(&token), "no log has secrets");
}

#[test]
fn who_may_not_push_is_told_why_and_nothing_is_kept() {
    let sandbox = Sandbox::bare(Caller::Root);
    let (server, url) = serve(&sandbox, &["--private"]);
    let token = token(&sandbox, "other", "others");
    let file = sandbox.file("web.box", "a box").display().to_string();
    let push = ["box", "push", "team/web", &file, "--version", "1.0.0", "--provider", "lxc", "--to", &url];
    sandbox.run(&push).ended_with(4).says("box login");
    sandbox
        .run_with_input(&["box", "login", &url], b"posada_nothing")
        .ended_with(2)
        .says("does not know this token");
    sandbox.run_with_input(&["box", "login", &url], b"").ended_with(2).says("no token was given");
    assert!(!sandbox.home().join("servers.json").exists());
    sandbox.run_with_input(&["box", "login", &url], token.as_bytes()).ended_with(0);
    sandbox.run(&push).ended_with(4).says("team");
    assert!(
        net::http_get(port(&url), "/team/web").starts_with("HTTP/1.0 401")
            || net::http_get(port(&url), "/team/web").starts_with("HTTP/1.1 401")
    );
    sandbox.ok(&["box", "token", "revoke", &storage(&sandbox), "other"]);
    sandbox.run(&push).ended_with(4).says("may have been revoked");
    sandbox.ok(&["box", "logout", &url]);
    sandbox.run(&["box", "logout", &url]).ended_with(2);
    server.signal(Signal::SIGINT);
    assert_eq!(server.wait().code, 0);
    // Nobody is there any more.
    sandbox.run(&["box", "login", &url, "--json"]).ended_with(2);
}

#[test]
fn a_server_that_is_killed_has_kept_what_it_took() {
    let sandbox = Sandbox::bare(Caller::Root);
    let (server, url) = serve(&sandbox, &[]);
    let token = token(&sandbox, "ci", "*");
    sandbox.run_with_input(&["box", "login", &url], token.as_bytes()).ended_with(0);
    let file = sandbox.file("web.box", &text(1 << 20)).display().to_string();
    sandbox.ok(&["box", "push", "team/web", &file, "--version", "1", "--provider", "lxc"]);
    server.signal(Signal::SIGKILL);
    let _ = server.wait();
    let (server, again) = serve(&sandbox, &[]);
    assert!(net::http_get(port(&again), "/api/v2/vagrant/team/web").contains("\"lxc\""));
    server.signal(Signal::SIGTERM);
    assert_eq!(server.wait().code, 0);
    let taken = ["box", "serve", &storage(&sandbox), "--listen", "192.0.2.1:1"];
    sandbox.run(&taken).ended_with(4).says("192.0.2.1:1");
    sandbox.run(&["box", "serve", "ftp://x/"]).ended_with(2).says("no place for a repository");
}

/// An office whose line is down goes on with what its mirror has.
#[test]
fn a_mirror_has_what_was_fetched_through_it_when_upstream_is_gone() {
    let upstream = Sandbox::bare(Caller::Root);
    let (server, url) = serve(&upstream, &["--private"]);
    let push = token(&upstream, "ci", "team");
    upstream.run_with_input(&["box", "login", &url], push.as_bytes()).ended_with(0);
    upstream.file("tree/blob", &text(3 << 20));
    let init = upstream.file("tree/sbin/init", "#!/bin/sh\n");
    std::fs::set_permissions(init, std::fs::Permissions::from_mode(0o755)).expect("a mode");
    let archive = upstream.project().join("web.tar");
    let mut tar = Command::new("tar");
    tar.arg("-cf").arg(&archive).arg("-C").arg(upstream.project().join("tree")).arg(".");
    assert!(tar.status().expect("tar runs").success());
    upstream.ok(&["box", "keygen", "key", "--no-password"]);
    let file = archive.to_str().expect("text");
    let to = ["--version", "1.0.0", "--provider", "lxc", "--sign", "key"];
    upstream.ok(&[&["box", "push", "team/web", file], &to[..]].concat());

    let office = Sandbox::bare(Caller::Root);
    let read = upstream
        .ok(&["box", "token", "create", &storage(&upstream), "office", "--read", "team"])
        .stdout
        .trim()
        .to_owned();
    let secret = office.file("secret", &format!("{read}\n")).display().to_string();
    let (mirror, near) =
        serve(&office, &["--mirror", &url, "--mirror-fresh", "0", "--mirror-token-file", &secret]);
    let key = std::fs::read_to_string(upstream.project().join("key.pub")).expect("a key");
    let key = key.lines().last().expect("a key");
    let add = |name: &str| {
        // Each has a store of its own.
        let sandbox = Sandbox::bare(Caller::Root);
        sandbox.ok(&["box", "trust", "add", "team", key]);
        let mut posada = sandbox.posada();
        posada.env("POSADA_SERVER_URL", &near);
        posada_tests::sandbox::run(posada, &["box", "add", name])
    };
    add("team/web").ended_with(0).says("1.0.0");
    server.signal(Signal::SIGTERM);
    assert_eq!(server.wait().code, 0);
    add("team/web").ended_with(0).says("1.0.0");
    add("team/other").ended_with(4).says("502");

    let page = net::http_get(port(&near), "/");
    assert!(page.contains(&format!("mirrored from 127.0.0.1:{}", port(&url))), "{page}");
    mirror.signal(Signal::SIGTERM);
    let served = mirror.wait();
    assert_eq!(served.code, 0, "{served}");
    assert!(served.stdout.contains("\"mirror\":\"stale\""), "{served}");
    assert!(served.stdout.contains("--private"), "{served}");
    assert!(!served.stdout.contains(&read) && !served.stderr.contains(&read), "no log has secrets");
    office.run(&["box", "serve", "x", "--mirror", "http://me:secret@h/"]).ended_with(2).says("secrets");
    office
        .run(&["box", "serve", "x", "--mirror", &url, "--mirror-token-file", "none"])
        .ended_with(2)
        .says("none");
}

/// A catalog with one file, of which all but the first 2 MiB come when `rest` says so; which part of it each request was for.
fn hesitant_catalog(content: String, rest: Arc<AtomicBool>) -> (String, mpsc::Receiver<u64>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let (sender, asked) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, content) = (stream.expect("a connection"), content.clone());
            let (sender, rest) = (sender.clone(), rest.clone());
            std::thread::spawn(move || {
                let mut reader = BufReader::new(stream.try_clone().expect("a stream"));
                let lines = reader.by_ref().lines().map_while(Result::ok);
                let lines: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
                let first = lines.first().cloned().unwrap_or_default();
                let range = lines
                    .iter()
                    .find_map(|line| Some(line.to_lowercase().strip_prefix("range: bytes=")?.to_owned()));
                let close = "connection: close\r\n";
                let Some(range) = range else {
                    let document =
                        r#"{"versions":[{"version":"1","providers":[{"name":"lxc","url":"a.box"}]}]}"#;
                    let (length, body) = match first.starts_with("HEAD") {
                        true => (content.len(), ""),
                        false if first.contains("minisig") => (0, ""),
                        false => (document.len(), document),
                    };
                    let head =
                        format!("HTTP/1.1 200 OK\r\n{close}etag: \"a\"\r\ncontent-length: {length}\r\n\r\n");
                    let _ = write!(stream, "{head}{body}");
                    return;
                };
                let start: usize =
                    range.split('-').next().and_then(|start| start.parse().ok()).expect("a start");
                let _ = sender.send(start as u64);
                let (length, last, all) = (content.len() - start, content.len() - 1, content.len());
                let head = format!(
                    "HTTP/1.1 206 Partial\r\n{close}etag: \"a\"\r\ncontent-length: {length}\r\ncontent-range: bytes {start}-{last}/{all}\r\n\r\n"
                );
                let end = if rest.load(Ordering::Relaxed) { all } else { 2 << 20 };
                let _ = stream.write_all(&[head.as_bytes(), &content.as_bytes()[start..end]].concat());
                // Until the client has enough of it.
                let _ = reader.read(&mut [0]);
            });
        }
    });
    (url, asked)
}

#[test]
fn a_mirror_that_is_killed_goes_on_where_it_was() {
    let content = text(5 << 20);
    let rest = Arc::new(AtomicBool::new(false));
    let (upstream, asked) = hesitant_catalog(content.clone(), rest.clone());
    let sandbox = Sandbox::bare(Caller::Root);
    let (server, url) = serve(&sandbox, &["--mirror", &upstream]);
    let path = "/team/web/versions/1/lxc/unknown/vagrant.box";
    let mut stream = net::connect(port(&url)).expect("a connection");
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").expect("a request");
    stream.read_exact(&mut vec![0; 2 << 20]).expect("what came");
    server.signal(Signal::SIGKILL);
    let _ = server.wait();
    assert_eq!(asked.try_iter().collect::<Vec<_>>(), [0]);
    rest.store(true, Ordering::Relaxed);
    let (server, url) = serve(&sandbox, &["--mirror", &upstream]);
    assert!(net::http_get(port(&url), path).ends_with(&content), "the whole file");
    let next = asked.try_iter().next().expect("a request");
    // The second block may have been on its way into the journal.
    assert!([1 << 20, 2 << 20].contains(&next), "what came does not come again: {next}");
    server.signal(Signal::SIGTERM);
    assert_eq!(server.wait().code, 0);
}

/// A whole system goes there and comes back: `up` fetches the box that its Vmfile names.
#[test]
fn a_machine_is_made_of_a_box_that_up_fetches() {
    let source = Sandbox::new();
    let listed = source.json(&["box", "list"]);
    let digest = event(&listed, "box")["digest"].as_str().expect("a digest").to_owned();
    let tree = source.home().join("boxes/trees").join(digest).join("rootfs");
    let archive = source.root().join("web.tar");
    let mut tar = Command::new("tar");
    tar.arg("--numeric-owner").arg("-cf").arg(&archive).arg("-C").arg(&tree).arg(".");
    assert!(tar.status().expect("tar runs").success());
    let (server, url) = serve(&source, &[]);
    let token = token(&source, "ci", "team");
    source.run_with_input(&["box", "login", &url], token.as_bytes()).ended_with(0);
    let file = archive.to_str().expect("text");
    source.ok(&["box", "push", "team/web", file, "--version", "1.0.0", "--provider", "lxc"]);

    let sandbox = Sandbox::bare(Caller::Root);
    sandbox.vmfile("box: team/web\nbox_version: '~> 1.0'\nprovider: container\n");
    sandbox.run(&["up"]).ended_with(7).says("team/web");
    sandbox.run_with_input(&["box", "login", &url], token.as_bytes()).ended_with(0);
    sandbox.ok(&["up"]);
    assert_eq!(sandbox.inside("systemctl is-active ssh"), "active");
    assert!(sandbox.ok(&["box", "list"]).mentions("1.0.0"));
    sandbox.ok(&["box", "outdated"]).says("1.0.0 (root file system) is the newest");
    source.ok(&["box", "push", "team/web", file, "--version", "1.1.0", "--provider", "lxc"]);
    source.ok(&["box", "push", "team/web", file, "--version", "2.0.0", "--provider", "lxc"]);
    // Within what the Vmfile's `box_version` allows; and of a box that no catalog has, nothing.
    assert_eq!(event(&sandbox.json(&["box", "outdated"]), "box_outdated")["newest"], "1.1.0");
    assert_eq!(event(&sandbox.json(&["box", "outdated", "--global"]), "box_outdated")["newest"], "2.0.0");
    sandbox.ok(&["box", "update"]).says("team/web 1.1.0 is in the store");
    sandbox.ok(&["box", "update"]).says("1.1.0 (root file system) is the newest");
    sandbox.run(&["box", "update", "--box", "team/none"]).ended_with(2).says("no such box");
    // What is wrong with the settings keeps nobody from what does not need them.
    std::fs::write(sandbox.home().join("servers.json"), "{").expect("written");
    sandbox.ok(&["status"]);
    sandbox.run(&["box", "add", "team/other"]).ended_with(4).says("servers.json");
    sandbox.ok(&["destroy", "--force"]);
    server.signal(Signal::SIGTERM);
    assert_eq!(server.wait().code, 0);
}

#[test]
fn boxes_are_signed_and_taken_only_from_who_is_trusted() {
    let sandbox = Sandbox::bare(Caller::Root);
    let (_server, url) = serve(&sandbox, &[]);
    let token = token(&sandbox, "ci", "team");
    sandbox.run_with_input(&["box", "login", &url], token.as_bytes()).ended_with(0);
    let tree = sandbox.project().join("tree/sbin");
    std::fs::create_dir_all(&tree).expect("a folder");
    std::fs::write(tree.join("init"), "#!/bin/sh\n").expect("an init");
    std::fs::set_permissions(tree.join("init"), std::fs::Permissions::from_mode(0o755)).expect("a mode");
    let here = |program: &str, words: &[&str]| {
        Command::new(program).args(words).current_dir(sandbox.project()).output().expect("it runs")
    };
    let make = |name: &str| {
        std::fs::write(sandbox.project().join("tree/name"), name).expect("a file");
        assert!(here("tar", &["-C", "tree", "-cf", name, "."]).status.success());
    };
    let push = |file: &str, version: &str, key: &[&str]| {
        make(file);
        let words =
            ["box", "push", "team/web", file, "--version", version, "--provider", "lxc", "--architecture"];
        sandbox.ok(&[&words[..], &["amd64"], key].concat());
    };
    let add = |version: &str| {
        sandbox.run(&["box", "add", "team/web", "--box-version", version, "--architecture", "amd64"])
    };

    // Ours, and one that minisign has made.
    sandbox.ok(&["box", "keygen", "ours", "--no-password"]);
    let mode = sandbox.project().join("ours").metadata().expect("a key").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    sandbox.run(&["box", "keygen", "ours", "--no-password"]).ended_with(2).says("already");
    sandbox.run(&["box", "keygen", "locked"]).ended_with(2).says("POSADA_SIGNING_PASSWORD");
    assert!(here("minisign", &["-G", "-W", "-p", "theirs.pub", "-s", "theirs"]).status.success());

    push("one.tar", "1.0", &["--sign", "ours"]);
    push("two.tar", "2.0", &["--sign", "theirs"]);
    push("three.tar", "3.0", &[]);
    // minisign takes what we have signed.
    let signature = net::http_get(port(&url), "/team/web/versions/1.0/lxc/amd64/vagrant.box.minisig");
    let (_, signature) = signature.split_once("\r\n\r\n").expect("a body");
    sandbox.file("one.tar.minisig", signature);
    let verified = here("minisign", &["-V", "-p", "ours.pub", "-m", "one.tar"]);
    let said = String::from_utf8_lossy(&verified.stdout).into_owned();
    assert!(verified.status.success() && said.contains("posada box team/web 1.0 lxc amd64"), "{said}");

    // As long as nobody is trusted, anybody is taken.
    add("3.0").ended_with(0);
    sandbox.ok(&["box", "remove", "team/web"]);
    sandbox.ok(&["box", "trust", "add", "team", "theirs.pub"]);
    add("1.0").ended_with(7).says("another key");
    add("3.0").ended_with(7).says("is not signed");
    assert!(!sandbox.ok(&["box", "list"]).stdout.contains("team/web"), "nothing was stored");
    add("2.0").ended_with(0);
    sandbox.ok(&["box", "trust", "add", "team", "ours.pub"]);
    add("1.0").ended_with(0);
    sandbox.run(&["box", "trust", "add", "team", "RWnonsense"]).ended_with(2).says("no public key");

    // The file by itself, with its signature beside it: it was signed as another box.
    let file = format!("{url}/team/web/versions/2.0/lxc/amd64/vagrant.box");
    sandbox.run(&["box", "add", &file, "--name", "free/copy"]).ended_with(0);
    sandbox.run(&["box", "add", &file, "--name", "team/copy"]).ended_with(7).says("signed as");
    sandbox.ok(&["box", "trust", "require-signed", "yes"]);
    sandbox
        .run(&["box", "add", &file, "--name", "free/other"])
        .ended_with(7)
        .says("no key is trusted with `free`");
    sandbox.ok(&["box", "trust", "require-signed", "no"]);
    let mut strict = sandbox.posada();
    strict.env("POSADA_REQUIRE_SIGNED", "1");
    posada_tests::sandbox::run(strict, &["box", "add", &file, "--name", "free/other"]).ended_with(7);
    let listed = sandbox.ok(&["box", "trust", "list"]).stdout;
    assert_eq!(listed.lines().filter(|line| line.starts_with("team ")).count(), 2, "{listed}");
    sandbox.ok(&["box", "trust", "remove", "team"]);
    sandbox.run(&["box", "trust", "remove", "team"]).ended_with(2);

    // What is kept of trust and cannot be read does not count for nothing.
    std::fs::write(sandbox.home().join("trust.json"), "{\"keys\": 7}").expect("a file");
    add("1.0").ended_with(4).says("trust.json");
}

#[test]
fn a_bucket_is_pushed_to_and_taken_from_without_any_server_of_ours() {
    let sandbox = Sandbox::bare(Caller::Root);
    let buckets = Buckets::start(&sandbox.root().join("s3"));
    let root = sandbox.root().join("system");
    for directory in ["sbin", "etc", "usr/bin", "usr/lib"] {
        std::fs::create_dir_all(root.join(directory)).expect("a directory");
    }
    std::fs::copy("/bin/true", root.join("sbin/init")).expect("an init");
    std::fs::write(root.join("etc/os-release"), "ID=debian\nVERSION_ID=\"12\"\n").expect("a file");
    let archive = sandbox.root().join("web.tar");
    let mut tar = Command::new("tar");
    tar.arg("-cf").arg(&archive).arg("-C").arg(&root).arg(".");
    assert!(tar.status().expect("tar runs").success());
    let with_variables = |arguments: &[&str]| {
        let mut command = sandbox.posada();
        command.envs(buckets.variables());
        run(command, arguments)
    };
    let place = "s3://boxes/team/web";
    let push =
        ["box", "push", "team/web", archive.to_str().expect("text"), "--version", "1.2.0", "--to", place];
    let push = [&push[..], &["--provider", "lxc"]].concat();
    with_variables(&push).ended_with(0).says("team/web 1.2.0 is released at s3://boxes/team/web");
    with_variables(&push).ended_with(0).says("0 B of");
    with_variables(&[&push[..], &["--no-release"]].concat()).ended_with(2).says("leave `--no-release` out");

    // Who asks may stand in a profile, too.
    let lines: Vec<String> = buckets
        .options()
        .iter()
        .map(|(name, value)| match name.as_str() {
            "aws_endpoint" => format!("endpoint_url = {value}\n"),
            "aws_region" => format!("region = {value}\n"),
            _ => format!("{name} = {value}\n"),
        })
        .collect();
    let profile = sandbox.file("credentials", &format!("[team]\n{}", lines.concat()));
    let with_profile = |arguments: &[&str]| {
        let mut command = sandbox.posada();
        command.env("AWS_SHARED_CREDENTIALS_FILE", &profile).env("AWS_PROFILE", "team");
        run(command, arguments)
    };
    let add = ["box", "add", place, "--name", "team/web", "--box-version", "~> 1.0", "--provider", "lxc"];
    with_profile(&add).ended_with(0).says("team/web 1.2.0");
    with_profile(&["box", "add", "s3://boxes/none"]).ended_with(4).says("has no box at `none`");
    sandbox.run(&["box", "add", "gs://boxes/web"]).ended_with(2).says("AWS_ENDPOINT");
    let elsewhere = [&push[..7], &["gs://boxes/web", "--provider", "lxc"]].concat();
    sandbox.run(&elsewhere).ended_with(2).says("AWS_ENDPOINT");

    // A repository lies in a bucket the same way.
    let token = with_variables(&["box", "token", "create", "s3://boxes/repository", "ci", "--push", "team"]);
    token.ended_with(0);
    assert!(buckets.object("repository/tokens.json").exists());
}

#[test]
fn of_a_new_version_of_a_disk_only_what_is_new_travels() {
    let (team, desk) = (Sandbox::bare(Caller::Root), Sandbox::bare(Caller::Root));
    let (server, url) = serve(&team, &[]);
    let token = token(&team, "ci", "team");
    for sandbox in [&team, &desk] {
        sandbox.run_with_input(&["box", "login", &url], token.as_bytes()).ended_with(0);
    }
    // Eight megabytes that are not zeros on a disk of 32, of which a line changes.
    let root = team.root().join("system");
    let noise: String =
        (0..500_000_u64).map(|n| format!("{:016x}", n.wrapping_mul(0x9E37_79B9_7F4A_7C15))).collect();
    for (path, content) in
        [("usr/lib/noise", noise.as_str()), ("sbin/init", "init"), ("etc/os-release", "ID=debian\n")]
    {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().expect("a directory")).expect("made");
        std::fs::write(path, content).expect("a file");
    }
    let image = |version: &str| {
        std::fs::write(root.join("etc/version"), version).expect("a file");
        let image = team.root().join(format!("{version}.img"));
        let mut mke2fs = Command::new("mke2fs");
        mke2fs.args(["-q", "-t", "ext4", "-F", "-E", "root_owner=0:0", "-d"]);
        let made = mke2fs.arg(&root).arg(&image).arg("32M").status();
        assert!(made.expect("mke2fs runs").success());
        let file = image.to_str().expect("text").to_owned();
        team.ok(&["box", "push", "team/vm", &file, "--version", version, "--provider", "libvirt"]);
        image
    };
    image("1.0.0");
    desk.ok(&["box", "add", "team/vm"]).says("team/vm 1.0.0");
    let second = image("1.1.0");
    desk.ok(&["box", "add", "team/vm"]).says("team/vm 1.1.0");
    let out = desk.root().join("out.img");
    let export = ["box", "export", "team/vm", "--format", "raw", "--output", out.to_str().expect("text")];
    desk.ok(&export);
    assert!(std::fs::read(&out).expect("the disk") == std::fs::read(second).expect("the disk"));

    server.signal(Signal::SIGTERM);
    let events = server.wait().events();
    let sent = |path: &str| fetched(&events, path);
    assert_eq!(sent("/team/vm/versions/1.0.0/libvirt/amd64/vagrant.box"), 32 << 20);
    assert_eq!(sent("/team/vm/versions/1.1.0/libvirt/amd64/vagrant.box"), 0);
    let chunks = sent("/api/v1/chunks/get");
    assert!(chunks > 0 && chunks < 1 << 20, "{chunks} bytes for what is new");
}

#[test]
fn a_container_box_of_the_store_is_pushed_and_its_next_version_brings_what_is_new() {
    let (team, desk) = (Sandbox::bare(Caller::Root), Sandbox::bare(Caller::Root));
    let (server, url) = serve(&team, &[]);
    let token = token(&team, "ci", "team");
    for sandbox in [&team, &desk] {
        sandbox.run_with_input(&["box", "login", &url], token.as_bytes()).ended_with(0);
    }
    // Four megabytes in files of which most are smaller than a chunk.
    let root = team.root().join("system");
    let noise = |file: u64, lines: u64| -> String {
        (0..lines)
            .map(|n| format!("{:016x}", (file * 100_000 + n).wrapping_mul(0x9E37_79B9_7F4A_7C15)))
            .collect()
    };
    for path in ["sbin", "etc", "usr/bin", "usr/lib", "home/dev/.ssh", "tmp"] {
        std::fs::create_dir_all(root.join(path)).expect("a directory");
    }
    std::fs::copy("/bin/true", root.join("sbin/init")).expect("an init");
    std::fs::write(root.join("etc/os-release"), "ID=debian\nVERSION_ID=\"12\"\n").expect("a file");
    std::fs::write(
        root.join("etc/passwd"),
        "root:x:0:0::/root:/bin/sh\ndev:x:1000:1000::/home/dev:/bin/sh\n",
    )
    .expect("a file");
    std::fs::write(root.join("home/dev/.ssh/authorized_keys"), "a key of the box's own").expect("a file");
    for file in 0..200 {
        std::fs::write(root.join(format!("usr/lib/{file}")), noise(file, 1000 + file * 3)).expect("a file");
    }
    std::fs::hard_link(root.join("usr/lib/1"), root.join("usr/lib/one")).expect("a link");
    std::os::unix::fs::symlink("one", root.join("usr/lib/link")).expect("a link");
    let add = |version: &str| {
        std::fs::write(root.join("etc/version"), version).expect("a file");
        let archive = team.root().join(format!("{version}.tar"));
        let mut tar = Command::new("tar");
        tar.arg("-cf").arg(&archive).arg("-C").arg(&root).arg(".");
        assert!(tar.status().expect("tar runs").success());
        let file = archive.to_str().expect("text");
        team.ok(&["box", "add", file, "--name", "team/web", "--version", version]);
        event(&team.json(&["box", "push", "team/web"]), "box_pushed").clone()
    };
    let first = add("1.0.0");
    assert_eq!((&first["provider"], &first["version"]), (&"lxc".into(), &"1.0.0".into()));
    desk.ok(&["box", "add", "team/web"]).says("team/web 1.0.0");
    let second = add("1.1.0");
    assert!(second["new_chunks"].as_u64() < Some(5), "{second}");
    desk.ok(&["box", "add", "team/web"]).says("team/web 1.1.0");

    // What came is what was there, to the owners and links.
    let tree = |sandbox: &Sandbox| {
        let boxes = sandbox.json(&["box", "list"]);
        let newest = boxes.iter().find(|event| event["version"] == "1.1.0").expect("it is listed");
        let tree =
            sandbox.home().join("boxes/trees").join(newest["digest"].as_str().expect("text")).join("rootfs");
        let mut find = Command::new("sh");
        find.current_dir(tree).args(["-c", "find . ! -type d -printf '%p %y %m %U %G %s %T@ %l %n\\n' -o -printf '%p %y %m %U %G\\n' | sort && find . -type f -exec sha256sum {} + | sort"]);
        String::from_utf8(find.output().expect("find runs").stdout).expect("text")
    };
    assert_eq!(tree(&desk), tree(&team));

    server.signal(Signal::SIGTERM);
    let events = server.wait().events();
    let fetched = |path: &str| fetched(&events, path);
    let architecture = first["architecture"].as_str().expect("text");
    let file = |version: &str| format!("/team/web/versions/{version}/lxc/{architecture}/vagrant.box");
    assert!(fetched(&file("1.0.0")) > 4 << 20);
    assert_eq!(fetched(&file("1.1.0")), 0);
    let chunks = fetched("/api/v1/chunks/get");
    assert!(chunks > 0 && chunks < 1 << 20, "{chunks} bytes for what is new");

    // One name for both: which is meant has to be said.
    let disk = team.root().join("disk.img");
    let mut mke2fs = Command::new("mke2fs");
    let made = mke2fs.args(["-q", "-t", "ext4", "-F", "-d"]).arg(&root).arg(&disk).arg("16M").status();
    assert!(made.expect("mke2fs runs").success());
    let disk = disk.to_str().expect("text");
    team.ok(&["box", "add", disk, "--name", "team/web", "--version", "1.1.0"]);
    team.run(&["box", "push", "team/web", "--to", &url]).ended_with(2).says("--provider lxc");
}
