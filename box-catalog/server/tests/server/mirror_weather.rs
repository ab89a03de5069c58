//! What goes wrong between a mirror and its upstream: upstreams that say and do anything.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::response::Response;
use chrono::{TimeDelta, Utc};
use futures_util::StreamExt as _;
use posada_box_server::{Limits, Retention, Served, Settings};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::support::{Running, expect, file, mirror, mirroring, noise, sha256, start_in};

const FRESH: Duration = Duration::from_secs(3600);

/// What a server answers to a request.
type Answers = Box<dyn Fn(&Request) -> Response + Send + Sync>;

/// What a server was asked: `METHOD PATH`, and the token that came with it.
type Asked = Arc<Mutex<Vec<(String, Option<String>)>>>;

/// A server that answers what a test says.
struct Odd {
    base: String,
    answers: Arc<Mutex<Answers>>,
    asked: Asked,
}

#[derive(Clone)]
struct Shared {
    answers: Arc<Mutex<Answers>>,
    asked: Asked,
}

impl Odd {
    async fn start(answers: impl Fn(&Request) -> Response + Send + Sync + 'static) -> Self {
        let answers: Arc<Mutex<Answers>> = Arc::new(Mutex::new(Box::new(answers)));
        let asked = Asked::default();
        let shared = Shared { answers: Arc::clone(&answers), asked: Arc::clone(&asked) };
        let answer = async |State(shared): State<Shared>, request: Request| {
            let what = format!("{} {}", request.method(), request.uri().path());
            let token =
                request.headers().get("authorization").map(|token| token.to_str().unwrap().to_owned());
            shared.asked.lock().unwrap().push((what, token));
            let answers = shared.answers.lock().unwrap();
            answers(&request)
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://127.0.0.1:{}", listener.local_addr().unwrap().port());
        let router = Router::new().fallback(answer).with_state(shared);
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { base, answers, asked }
    }

    fn answer(&self, answers: impl Fn(&Request) -> Response + Send + Sync + 'static) {
        *self.answers.lock().unwrap() = Box::new(answers);
    }

    fn asked(&self, what: &str) -> usize {
        self.asked.lock().unwrap().iter().filter(|(asked, _)| asked == what).count()
    }
}

fn status(status: u16) -> Response {
    Response::builder().status(status).body(Body::empty()).unwrap()
}

fn catalog(provider: &Value) -> Response {
    let document = json!({"name": "team/web", "versions": [{"version": "1", "providers": [provider]}]});
    Response::new(Body::from(document.to_string()))
}

fn provider(checksum: Option<&[u8]>) -> Value {
    let mut provider = json!({"name": "libvirt", "url": "a.box", "architecture": "amd64"});
    if let Some(content) = checksum {
        provider["checksum"] = json!(sha256(content).to_string());
        provider["checksum_type"] = json!("sha256");
    }
    provider
}

/// Answers for one box: its document, and `file` for its file.
fn of_box(
    provider: Value,
    file: impl Fn(&Request) -> Response + Send + Sync + 'static,
) -> impl Fn(&Request) -> Response + Send + Sync + 'static {
    move |request| match request.uri().path() {
        "/team/web" => catalog(&provider),
        "/team/a.box" => file(request),
        _ => status(404),
    }
}

/// A file whose bytes come when they are sent into the channel; its server knows no ranges.
fn slowly(size: usize) -> (mpsc::UnboundedSender<Vec<u8>>, impl Fn(&Request) -> Response + Send + Sync) {
    let (sender, receiver) = mpsc::unbounded_channel::<Vec<u8>>();
    let receiver = Mutex::new(Some(receiver));
    let answer = move |request: &Request| {
        if request.method() == "HEAD" {
            return status(405);
        }
        let Some(receiver) = receiver.lock().unwrap().take() else { return status(404) };
        let pieces = futures_util::stream::unfold(receiver, |mut receiver| async {
            let bytes = receiver.recv().await?;
            Some((Ok::<_, std::io::Error>(Bytes::from(bytes)), receiver))
        });
        let body = Body::from_stream(pieces);
        Response::builder().header("content-length", size).body(body).unwrap()
    };
    (sender, answer)
}

/// A file that is there, with ranges.
fn with_ranges(content: Vec<u8>, tag: &'static str) -> impl Fn(&Request) -> Response + Send + Sync {
    move |request| {
        let range = request.headers().get("range").and_then(|range| range.to_str().ok());
        let range = range.and_then(|range| range.strip_prefix("bytes=")?.split_once('-'));
        let builder = Response::builder().header("etag", format!("\"{tag}\""));
        let Some((first, last)) = range else {
            let builder = builder.header("content-length", content.len());
            let body = if request.method() == "HEAD" { Vec::new() } else { content.clone() };
            return builder.body(Body::from(body)).unwrap();
        };
        let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap());
        let last = last.min(content.len() - 1);
        let builder =
            builder.status(206).header("content-range", format!("bytes {first}-{last}/{}", content.len()));
        builder.body(Body::from(content[first..=last].to_vec())).unwrap()
    }
}

async fn mirror_of(odd: &Odd, fresh: Duration) -> Running {
    mirror(Settings::default(), &odd.base, fresh, |_| {}).await
}

async fn get(server: &Running) -> reqwest::Response {
    server.get(&file("team/web", "1")).send().await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_who_ask_at_once_share_one_fetch_and_have_it_while_it_comes() {
    let content = noise(1, 1 << 20);
    let (sender, slow) = slowly(content.len());
    let odd = Odd::start(of_box(provider(Some(&content)), slow)).await;
    let server = mirror_of(&odd, FRESH).await;
    let (first, rest) = content.split_at(400_000);
    sender.send(first.to_vec()).unwrap();
    let clients = futures_util::future::join_all((0..10).map(|_| async {
        let answer = get(&server).await;
        assert_eq!(answer.headers()["content-length"], "1048576");
        let mut stream = answer.bytes_stream();
        let mut came = Vec::new();
        while came.len() < 400_000 {
            came.extend_from_slice(&stream.next().await.unwrap().unwrap());
        }
        (stream, came)
    }));
    let clients = clients.await;
    // A part that has not come is waited for; one that has is there.
    let range = |range: &str| server.get(&file("team/web", "1")).header("range", range).send();
    assert!(range("bytes=100-199").await.unwrap().bytes().await.unwrap() == content[100..200]);
    let mut later = range("bytes=500000-500999").await.unwrap().bytes_stream();
    assert!(futures_util::poll!(later.next()).is_pending());
    sender.send(rest.to_vec()).unwrap();
    assert!(later.next().await.unwrap().unwrap()[..] == content[500_000..][..1000][..]);
    for (stream, mut came) in clients {
        stream
            .for_each(|bytes| {
                came.extend_from_slice(&bytes.unwrap());
                std::future::ready(())
            })
            .await;
        assert!(came == content);
    }
    server.settled().await;
    assert!(get(&server).await.bytes().await.unwrap() == content);
    assert_eq!((odd.asked("GET /team/web"), odd.asked("GET /team/a.box")), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_what_the_catalog_says_is_cut_before_its_end_and_never_kept() {
    let content = noise(1, 300_000);
    let odd = Odd::start(of_box(provider(Some(b"another")), with_ranges(content.clone(), "a"))).await;
    let server = mirror_of(&odd, Duration::ZERO).await;
    for _ in 0..2 {
        let answer = get(&server).await;
        // Where it is known before the answer begins, it is told.
        let whole =
            answer.status() == 200 && answer.bytes().await.is_ok_and(|bytes| bytes.len() == content.len());
        assert!(!whole);
        server.settled().await;
    }
    let told = server.seen.1.lock().unwrap().join("\n");
    assert!(told.contains("not what was promised"), "{told}");
    let kept = std::fs::read_dir(server.dir.path().join("repository/manifests"));
    assert!(kept.is_err(), "nothing was taken in");
    // As soon as it is right, it is had.
    odd.answer(of_box(provider(Some(b"another")), with_ranges(b"another".to_vec(), "b")));
    assert_eq!(get(&server).await.bytes().await.unwrap(), "another");

    // Clients that try again do not bring it again and again.
    let odd = Odd::start(of_box(provider(Some(b"another")), with_ranges(content, "a"))).await;
    let server = mirror_of(&odd, FRESH).await;
    let _ = get(&server).await.bytes().await;
    server.settled().await;
    for _ in 0..3 {
        let refused = expect(get(&server).await, 502).await;
        assert!(refused["error"].as_str().unwrap().contains("not what was promised"), "{refused}");
    }
    assert_eq!(odd.asked("GET /team/a.box"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_goes_away_does_not_end_the_fetch_and_who_stays_is_cut_when_upstream_goes() {
    let content = noise(1, 200_000);
    let (sender, slow) = slowly(content.len());
    let odd = Odd::start(of_box(provider(Some(&content)), slow)).await;
    let server = mirror_of(&odd, FRESH).await;
    sender.send(content[..1000].to_vec()).unwrap();
    drop(get(&server).await.bytes_stream().next().await.unwrap().unwrap());
    sender.send(content[1000..].to_vec()).unwrap();
    server.settled().await;
    let before = odd.asked("GET /team/a.box");
    assert!(get(&server).await.bytes().await.unwrap() == content);
    assert_eq!(odd.asked("GET /team/a.box"), before);

    // Upstream breaks off, and then has it no more.
    let (sender, slow) = slowly(content.len());
    let odd = Odd::start(of_box(provider(Some(&content)), slow)).await;
    let server = mirror_of(&odd, FRESH).await;
    sender.send(content[..1000].to_vec()).unwrap();
    let mut stream = get(&server).await.bytes_stream();
    assert!(stream.next().await.unwrap().is_ok());
    drop(sender);
    assert!(stream.next().await.unwrap().is_err());
    expect(get(&server).await, 404).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_came_before_the_server_ended_does_not_come_again() {
    let content = noise(1, 5 << 20);
    let whole = with_ranges(content.clone(), "a");
    let hold = Arc::new(AtomicUsize::new(0));
    let held = Arc::clone(&hold);
    // Two blocks come of the first request; then nothing.
    let odd = Odd::start(of_box(provider(Some(&content)), move |request| {
        let answer = whole(request);
        if held.fetch_add(1, Ordering::Relaxed) > 0 {
            return answer;
        }
        let (parts, _) = answer.into_parts();
        let head = Bytes::from(noise(1, 2 << 20));
        let body = futures_util::stream::once(async move { Ok::<_, std::io::Error>(head) })
            .chain(futures_util::stream::pending());
        Response::from_parts(parts, Body::from_stream(body))
    }))
    .await;
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let settings = || mirroring(&dir, Settings::default(), &odd.base, FRESH, |_| {});
    let mut server = start_in(dir.clone(), settings()).await;
    let mut stream = get(&server).await.bytes_stream();
    let mut came = 0;
    while came < 2 << 20 {
        came += stream.next().await.unwrap().unwrap().len();
    }
    drop(stream);
    assert_eq!(server.tell_to_stop().await.unwrap(), Served { complete: true });
    let server = start_in(dir.clone(), settings()).await;
    assert!(get(&server).await.bytes().await.unwrap() == content);
    server.settled().await;
    let text = server.get("/metrics").send().await.unwrap().text().await.unwrap();
    assert!(text.contains(&format!("posada_mirror_upstream_bytes_total {}", 3 << 20)), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn upstreams_that_make_no_sense_are_told_and_bounded() {
    let odd = Odd::start(|_| Response::new(Body::from("<html>please log in</html>"))).await;
    let server = mirror(Settings::default(), &odd.base, Duration::ZERO, |mirror| mirror.limit = 1000).await;
    let refused = async |text: &str, status: u16| {
        let refused = expect(server.catalog("team/web").await, status).await;
        assert!(refused["error"].as_str().unwrap().contains(text), "{refused}");
    };
    refused("no catalog", 502).await;
    odd.answer(|_| status(500));
    refused("500", 502).await;
    odd.answer(|_| status(404));
    refused("no box team/web", 404).await;
    odd.answer(|_| status(403));
    refused("token", 502).await;
    odd.answer(|_| {
        Response::builder().status(302).header("location", "/team/web").body(Body::empty()).unwrap()
    });
    refused("one place to another", 502).await;
    odd.answer(|_| {
        let endless =
            futures_util::stream::repeat_with(|| Ok::<_, std::io::Error>(Bytes::from(vec![b' '; 1 << 20])));
        Response::new(Body::from_stream(endless))
    });
    refused("larger than", 502).await;
    // Files, too: by what they say, and by what comes.
    odd.answer(of_box(provider(None), |_| Response::new(Body::from(vec![1; 1001]))));
    expect(server.catalog("team/web").await, 200).await;
    let answer = get(&server).await;
    let whole = answer.status() == 200 && answer.bytes().await.is_ok();
    assert!(!whole);
    odd.answer(of_box(provider(None), |_| {
        let endless =
            futures_util::stream::repeat_with(|| Ok::<_, std::io::Error>(Bytes::from_static(&[1; 100])));
        Response::new(Body::from_stream(endless))
    }));
    assert!(get(&server).await.bytes().await.is_err());
    odd.answer(of_box(provider(None), |_| status(403)));
    expect(get(&server).await, 502).await;

    // What was known before counts on, but not where upstream says that it is gone.
    odd.answer(of_box(provider(None), |_| status(404)));
    expect(server.catalog("team/web").await, 200).await;
    odd.answer(|_| status(503));
    assert!(server.catalog("team/web").await.headers().contains_key("warning"));
    odd.answer(|_| status(404));
    refused("no box team/web", 404).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_without_a_checksum_is_fetched_again_when_it_changes() {
    let (one, two) = (noise(1, 100_000), noise(2, 100_001));
    let odd = Odd::start(of_box(provider(None), with_ranges(one.clone(), "one"))).await;
    let server = mirror_of(&odd, Duration::ZERO).await;
    for _ in 0..2 {
        assert!(get(&server).await.bytes().await.unwrap() == one);
        server.settled().await;
    }
    assert_eq!(odd.asked("GET /team/a.box"), 1);
    let catalog = expect(server.catalog("team/web").await, 200).await;
    assert!(catalog["versions"][0]["providers"][0].get("checksum").is_none(), "nobody vouches for it");
    odd.answer(of_box(provider(None), with_ranges(two.clone(), "two")));
    assert!(get(&server).await.bytes().await.unwrap() == two);
    server.settled().await;
    odd.answer(|_| status(500));
    assert!(get(&server).await.bytes().await.unwrap() == two, "nobody can tell");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_token_is_upstreams_alone_and_signatures_come_along() {
    let elsewhere = Odd::start(with_ranges(b"a box".to_vec(), "a")).await;
    let mut entry = provider(Some(b"a box"));
    entry["url"] = json!(format!("{}/a.box", elsewhere.base));
    let signature = "untrusted comment: of nobody\nRW\n";
    elsewhere.answer({
        let file = with_ranges(b"a box".to_vec(), "a");
        move |request| match request.uri().path() {
            "/a.box.minisig" => Response::new(Body::from(signature)),
            _ => file(request),
        }
    });
    let odd = Odd::start(of_box(entry, |_| status(404))).await;
    let token = posada_fetch::Token { server: odd.base.parse().unwrap(), secret: "secret".to_owned().into() };
    let server =
        mirror(Settings::default(), &odd.base, FRESH, |mirror| mirror.client.tokens = vec![token]).await;
    assert_eq!(get(&server).await.bytes().await.unwrap(), "a box");
    server.settled().await;
    assert!(odd.asked.lock().unwrap().iter().all(|(_, token)| token.as_deref() == Some("Bearer secret")));
    assert!(elsewhere.asked.lock().unwrap().iter().all(|(_, token)| token.is_none()));
    elsewhere.answer(|_| status(500));
    let beside = format!("{}.minisig", file("team/web", "1"));
    assert_eq!(server.get(&beside).send().await.unwrap().text().await.unwrap(), signature);
    let catalog = expect(server.catalog("team/web").await, 200).await;
    assert_eq!(catalog["versions"][0]["providers"][0]["signature"], signature);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_asks_for_is_let_go_and_comes_again() {
    let content = noise(1, 300_000);
    let odd = Odd::start(of_box(provider(Some(&content)), with_ranges(content.clone(), "a"))).await;
    let server = mirror_of(&odd, FRESH).await;
    assert!(get(&server).await.bytes().await.unwrap() == content);
    server.settled().await;
    let collect = async |days: i64, keep: Option<u32>, size: Option<u64>| {
        let at = Utc::now() + TimeDelta::days(days);
        let gone = server.repository.expire_mirrored(at, keep, size).await.unwrap();
        let grace = Duration::from_secs(3600);
        (gone, server.repository.collect(at, &Retention::default(), grace).await.unwrap().files)
    };
    assert_eq!(collect(20, Some(30), Some(300_000)).await, (0, 0), "it is within both");
    assert_eq!(collect(20, Some(30), Some(299_999)).await, (1, 0), "who has begun to fetch it may end");
    assert_eq!(collect(40, Some(30), None).await, (0, 1));
    assert!(get(&server).await.bytes().await.unwrap() == content);
    server.settled().await;
    assert_eq!(collect(40, Some(30), None).await.0, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_mirrors_of_one_storage_share_a_fetch() {
    let content = noise(1, 200_000);
    let (sender, slow) = slowly(content.len());
    let odd = Odd::start(of_box(provider(Some(&content)), slow)).await;
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let settings = || mirroring(&dir, Settings::default(), &odd.base, FRESH, |_| {});
    let (one, other) = (start_in(dir.clone(), settings()).await, start_in(dir.clone(), settings()).await);
    sender.send(content[..1000].to_vec()).unwrap();
    let mut stream = get(&one).await.bytes_stream();
    let mut came = stream.next().await.unwrap().unwrap().to_vec();
    // The other one waits for it; what it gives out in the end is what this one took in.
    let second = tokio::spawn(other.get(&file("team/web", "1")).send());
    sender.send(content[1000..].to_vec()).unwrap();
    while let Some(bytes) = stream.next().await {
        came.extend_from_slice(&bytes.unwrap());
    }
    assert!(came == content);
    assert!(second.await.unwrap().unwrap().bytes().await.unwrap() == content);
    assert_eq!(odd.asked("GET /team/a.box"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_that_says_nothing_is_given_up() {
    let silent = Arc::new(AtomicBool::new(true));
    let says_nothing = Arc::clone(&silent);
    let router = Router::new().fallback(async move || {
        if says_nothing.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        catalog(&provider(None))
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    let server = mirror(Settings::default(), &base, Duration::ZERO, |mirror| {
        mirror.client.stall = Duration::from_millis(100);
    });
    let server = server.await;
    let refused = expect(server.catalog("team/web").await, 504).await;
    assert!(refused["error"].as_str().unwrap().contains("nothing came"), "{refused}");
    silent.store(false, Ordering::Relaxed);
    expect(server.catalog("team/web").await, 200).await;
    silent.store(true, Ordering::Relaxed);
    let stale = server.catalog("team/web").await;
    assert!(stale.headers().contains_key("warning"));
    expect(stale, 200).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mirror_that_is_told_to_end_sends_what_it_has_begun_to_send() {
    let content = noise(1, 200_000);
    let (sender, slow) = slowly(content.len());
    let odd = Odd::start(of_box(provider(Some(&content)), slow)).await;
    let mut server = mirror_of(&odd, FRESH).await;
    sender.send(content[..1000].to_vec()).unwrap();
    let mut stream = get(&server).await.bytes_stream();
    let mut came = stream.next().await.unwrap().unwrap().to_vec();
    let served = server.tell_to_stop();
    while tokio::net::TcpStream::connect(server.address).await.is_ok() {}
    sender.send(content[1000..].to_vec()).unwrap();
    while let Some(bytes) = stream.next().await {
        came.extend_from_slice(&bytes.unwrap());
    }
    assert!(came == content);
    drop(stream);
    assert_eq!(served.await.unwrap(), Served { complete: true });

    // Who never ends is not waited for, nor is what it waits for.
    let (sender, slow) = slowly(content.len());
    let odd = Odd::start(of_box(provider(Some(&content)), slow)).await;
    let limits = Limits { farewell: Duration::from_millis(20), ..Limits::default() };
    let mut server = mirror(Settings { limits, ..Settings::default() }, &odd.base, FRESH, |_| {}).await;
    sender.send(content[..1000].to_vec()).unwrap();
    let mut stream = get(&server).await.bytes_stream();
    assert!(stream.next().await.unwrap().is_ok());
    assert_eq!(server.tell_to_stop().await.unwrap(), Served { complete: false });
    assert!(stream.next().await.unwrap().is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_the_catalog_takes_back_is_not_given_out_for_the_new_one() {
    let (old, new) = (noise(1, 100_000), noise(2, 100_000));
    let (sender, slow) = slowly(old.len());
    let odd = Odd::start(of_box(provider(Some(&old)), slow)).await;
    let server = mirror_of(&odd, Duration::ZERO).await;
    sender.send(old[..1000].to_vec()).unwrap();
    let mut stream = get(&server).await.bytes_stream();
    let mut came = stream.next().await.unwrap().unwrap().to_vec();
    odd.answer(of_box(provider(Some(&new)), with_ranges(new.clone(), "new")));
    expect(server.catalog("team/web").await, 200).await;
    assert!(get(&server).await.bytes().await.unwrap() == new, "the other one is under way still");
    sender.send(old[1000..].to_vec()).unwrap();
    while let Some(bytes) = stream.next().await {
        came.extend_from_slice(&bytes.unwrap());
    }
    assert!(came == old);
    server.settled().await;
    assert!(get(&server).await.bytes().await.unwrap() == new);
}
