//! A server of its own for each test, and what is asked of it.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use posada_box_server::{
    AccessRecord, ChunkDigest, FileManifest, Location, Log, MirrorSettings, Packed, Repository, Scopes,
    Served, Server, Settings, Sha256, Storage, head,
};
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use serde_json::Value;
use sha2::Digest as _;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// A server that runs.
pub struct Running {
    pub base: String,
    pub address: SocketAddr,
    pub repository: Repository,
    pub handle: posada_box_server::Handle,
    /// With a token that may do anything.
    pub token: String,
    pub client: Client,
    pub seen: Seen,
    stop: Option<oneshot::Sender<()>>,
    served: Option<JoinHandle<Served>>,
    pub dir: Arc<tempfile::TempDir>,
}

/// What the server told.
#[derive(Clone, Default)]
pub struct Seen(pub Arc<Mutex<Vec<AccessRecord>>>, pub Arc<Mutex<Vec<String>>>);

impl Log for Seen {
    fn access(&self, access: &AccessRecord) {
        self.0.lock().unwrap().push(access.clone());
    }
    fn note(&self, text: &str) {
        self.1.lock().unwrap().push(text.to_owned());
    }
}

pub async fn start(settings: Settings) -> Running {
    start_in(Arc::new(tempfile::tempdir().unwrap()), settings).await
}

/// A server whose repository is in `dir`.
pub async fn start_in(dir: Arc<tempfile::TempDir>, settings: Settings) -> Running {
    start_at(&Location::Directory(dir.path().join("repository")), dir, settings).await
}

/// A server whose repository is at `location`; what it leaves elsewhere is in `dir`.
pub async fn start_at(location: &Location, dir: Arc<tempfile::TempDir>, settings: Settings) -> Running {
    listen_at(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), location, dir, settings).await
}

/// A mirror of `upstream`, of which it takes nothing to be current for longer than `fresh`.
pub async fn mirror_of(upstream: &Running, fresh: Duration) -> Running {
    mirror(Settings::default(), &upstream.base, fresh, |_| {}).await
}

/// The same of any server, with settings of its own.
pub async fn mirror(
    settings: Settings,
    upstream: &str,
    fresh: Duration,
    change: impl FnOnce(&mut MirrorSettings),
) -> Running {
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let settings = mirroring(&dir, settings, upstream, fresh, change);
    start_in(dir, settings).await
}

/// A mirror that listens at `address`.
pub async fn mirror_at(address: SocketAddr, upstream: &str) -> Running {
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let settings = mirroring(&dir, Settings::default(), upstream, Duration::ZERO, |_| {});
    let location = Location::Directory(dir.path().join("repository"));
    listen_at(address, &location, dir, settings).await
}

/// Settings for a mirror whose repository is in `dir`.
pub fn mirroring(
    dir: &tempfile::TempDir,
    settings: Settings,
    upstream: &str,
    fresh: Duration,
    change: impl FnOnce(&mut MirrorSettings),
) -> Settings {
    // Two tries: what has to be waited for between them is short.
    let client = posada_fetch::Settings { proxies: false, tries: 2, ..posada_fetch::Settings::default() };
    let mut mirror = MirrorSettings {
        upstream: upstream.parse().unwrap(),
        client,
        fresh,
        keep: None,
        size: None,
        limit: 1 << 30,
        parts: dir.path().join("parts"),
    };
    change(&mut mirror);
    Settings { mirror: Some(mirror), ..settings }
}

/// A port that was free a moment ago.
pub fn listener() -> std::net::TcpListener {
    std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap()
}

async fn listen_at(
    any: SocketAddr,
    location: &Location,
    dir: Arc<tempfile::TempDir>,
    settings: Settings,
) -> Running {
    let storage = Storage::open(location).await.unwrap();
    let repository = Repository::new(storage);
    let all = Scopes { read: Vec::new(), push: vec!["*".into()] };
    let name = format!("all-{}", repository.tokens().await.unwrap().len());
    let token = repository.create_token(&name, all).await.unwrap();
    let scheme = if settings.tls.is_some() { "https" } else { "http" };
    let seen = Seen::default();
    let server = Server::bind(any, repository.clone(), settings, Box::new(seen.clone())).await.unwrap();
    let (address, handle) = (server.address(), server.handle());
    let (stop, stopped) = oneshot::channel();
    let served = tokio::spawn(server.run(async move {
        let _ = stopped.await;
    }));
    let base = format!("{scheme}://localhost:{}", address.port());
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = Client::builder().no_proxy().build().unwrap();
    Running {
        base,
        address,
        repository,
        handle,
        token,
        client,
        seen,
        stop: Some(stop),
        served: Some(served),
        dir,
    }
}

impl Running {
    pub fn get(&self, path: &str) -> RequestBuilder {
        self.client.get(format!("{}{path}", self.base))
    }

    pub fn put(&self, path: &str) -> RequestBuilder {
        self.client.put(format!("{}{path}", self.base)).bearer_auth(&self.token)
    }

    pub fn post(&self, path: &str) -> RequestBuilder {
        self.client.post(format!("{}{path}", self.base)).bearer_auth(&self.token)
    }

    /// The catalog of a box, as Vagrant asks for it.
    pub async fn catalog(&self, name: &str) -> Response {
        self.get(&format!("/{name}")).header("accept", "application/json").send().await.unwrap()
    }

    /// Pushes a whole file, for libvirt on amd64.
    pub async fn push(&self, name: &str, version: &str, bytes: Vec<u8>) -> Response {
        self.put(&file(name, version)).body(bytes).send().await.unwrap()
    }

    pub async fn release(&self, name: &str, version: &str) -> Response {
        self.post(&format!("/api/v1/boxes/{name}/versions/{version}/release")).send().await.unwrap()
    }

    /// Pushes and releases.
    pub async fn publish(&self, name: &str, version: &str, bytes: Vec<u8>) {
        expect(self.push(name, version, bytes).await, 201).await;
        expect(self.release(name, version).await, 200).await;
    }

    /// Waits until nothing is being fetched from upstream any more: places that are done with are cleared.
    pub async fn settled(&self) {
        let parts = self.dir.path().join("parts");
        while std::fs::read_dir(&parts).is_ok_and(|mut entries| entries.next().is_some()) {
            tokio::task::yield_now().await;
        }
    }

    pub fn is_running(&self) -> bool {
        self.served.is_some()
    }

    /// Tells the server to stop, without waiting for it.
    pub fn tell_to_stop(&mut self) -> JoinHandle<Served> {
        let _ = self.stop.take().unwrap().send(());
        self.served.take().unwrap()
    }
}

/// Where a file for libvirt on amd64 is.
pub fn file(name: &str, version: &str) -> String {
    format!("/{name}/versions/{version}/libvirt/amd64/vagrant.box")
}

/// The answer's JSON, which must have come with this status.
pub async fn expect(response: Response, status: u16) -> Value {
    let (got, text) = (response.status(), response.text().await.unwrap());
    assert_eq!(got, StatusCode::from_u16(status).unwrap(), "{text}");
    serde_json::from_str(&text).unwrap_or(Value::Null)
}

/// Bytes that no compression makes smaller; others for each seed.
pub fn noise(seed: u8, size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut bytes);
    bytes
}

pub fn sha256(bytes: &[u8]) -> Sha256 {
    Sha256(sha2::Sha256::digest(bytes).into())
}

/// A file cut evenly, as some client may do it: its manifest and its chunks.
pub fn cut(bytes: &[u8], length: usize) -> (FileManifest, Vec<Packed>) {
    let chunks: Vec<Packed> = bytes.chunks(length).map(pack).collect();
    let manifest = FileManifest {
        size: bytes.len() as u64,
        sha256: sha256(bytes),
        chunks: chunks.iter().map(|chunk| (chunk.digest, chunk.length)).collect(),
    };
    (manifest, chunks)
}

pub fn pack(plain: &[u8]) -> Packed {
    Packed {
        digest: ChunkDigest::of(plain),
        length: plain.len() as u32,
        frame: zstd::bulk::compress(plain, 1).unwrap().into(),
    }
}

pub fn bundle<'a>(chunks: impl IntoIterator<Item = &'a Packed>) -> Vec<u8> {
    chunks.into_iter().flat_map(|chunk| [head(chunk), chunk.frame.clone()].concat()).collect()
}

/// Runs a program to its end, on a thread where nobody waits; what it printed.
pub async fn run(mut command: Command) -> String {
    let output = tokio::task::spawn_blocking(move || {
        let output = command.output();
        output.unwrap_or_else(|error| panic!("{command:?} (scripts/packages.txt): {error}"))
    });
    let output = output.await.unwrap();
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}: {text}", output.status);
    text
}
