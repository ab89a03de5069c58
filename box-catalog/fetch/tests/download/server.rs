//! A small HTTP server whose every answer a test decides.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use posada_fetch::{Client, Downloaded, FetchError, Progress, Request, Settings, Slot, Stop};
use url::Url;

/// A request, as it came.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
    /// How many came before it.
    pub number: usize,
}

impl Asked {
    /// The range that was asked for: first and last byte.
    pub fn range(&self) -> Option<(u64, u64)> {
        let (first, last) = self.headers.get("range")?.strip_prefix("bytes=")?.split_once('-')?;
        Some((first.parse().unwrap(), last.parse().unwrap()))
    }
}

/// What is answered.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
    /// Bytes of the body after which the connection is cut.
    pub cut: Option<usize>,
    /// Bytes of the body after which nothing more comes, while the connection stays.
    pub hang: Option<usize>,
}

impl Answer {
    pub fn new(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new(), cut: None, hang: None }
    }

    pub fn header(mut self, name: &'static str, value: impl ToString) -> Self {
        self.headers.push((name, value.to_string()));
        self
    }

    /// The whole, by a server that knows no ranges.
    pub fn whole(content: &[u8]) -> Self {
        Self { body: content.to_vec(), ..Self::new(200) }.header("content-length", content.len())
    }

    /// As a good server answers, whose file has `tag`.
    pub fn good(content: &[u8], tag: &str, asked: &Asked) -> Self {
        let same = asked.headers.get("if-range").is_none_or(|there| there == tag);
        match asked.range().filter(|_| same) {
            None => Self::whole(content).header("etag", tag),
            Some((first, _)) if first >= content.len() as u64 => {
                Self::new(416).header("content-range", format!("bytes */{}", content.len()))
            }
            Some((first, last)) => {
                let last = last.min(content.len() as u64 - 1);
                let body = content[first as usize..=last as usize].to_vec();
                Self { body, ..Self::new(206) }
                    .header("content-range", format!("bytes {first}-{last}/{}", content.len()))
                    .header("etag", tag)
            }
        }
    }
}

type Handler = dyn Fn(&Asked) -> Answer + Send + Sync;

/// A server, to the end of the test.
pub struct Server {
    pub url: Url,
    seen: Arc<Mutex<Vec<Asked>>>,
}

impl Server {
    pub fn start(answer: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Self {
        Self::wrapped(answer, |stream| Some(Box::new(stream)))
    }

    /// With connections that `wrap` makes something else of: TLS.
    pub fn wrapped(
        answer: impl Fn(&Asked) -> Answer + Send + Sync + 'static,
        wrap: impl Fn(TcpStream) -> Option<Box<dyn Stream>> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let url = Url::parse(&format!("http://{}/a.box", listener.local_addr().unwrap())).unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (told, answer, wrap): (_, Arc<Handler>, _) = (seen.clone(), Arc::new(answer), Arc::new(wrap));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (told, answer, wrap, stream) =
                    (told.clone(), answer.clone(), wrap.clone(), stream.unwrap());
                std::thread::spawn(move || {
                    if let Some(stream) = wrap(stream) {
                        // A client that goes away in the middle is what is tested.
                        let _ = serve(stream, &told, &*answer);
                    }
                });
            }
        });
        Self { url, seen }
    }

    pub fn seen(&self) -> Vec<Asked> {
        self.seen.lock().unwrap().clone()
    }
}

pub trait Stream: Read + Write + Send {
    fn cut(&mut self);
}

impl Stream for TcpStream {
    fn cut(&mut self) {
        let _ = self.shutdown(Shutdown::Both);
    }
}

fn serve(stream: Box<dyn Stream>, seen: &Mutex<Vec<Asked>>, answer: &Handler) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let mut headers = BTreeMap::new();
        loop {
            let mut line = String::new();
            stream.read_line(&mut line)?;
            let Some((name, value)) = line.trim().split_once(": ") else { break };
            headers.insert(name.to_lowercase(), value.to_owned());
        }
        let asked = {
            let mut seen = seen.lock().unwrap();
            let asked = Asked { headers, number: seen.len() };
            seen.push(asked.clone());
            asked
        };
        let answer = answer(&asked);
        let mut head = format!("HTTP/1.1 {} X\r\n", answer.status);
        if !answer.headers.iter().any(|(name, _)| *name == "content-length") {
            head += &format!("content-length: {}\r\n", answer.body.len());
        }
        for (name, value) in &answer.headers {
            head += &format!("{name}: {value}\r\n");
        }
        let out = stream.get_mut();
        out.write_all((head + "\r\n").as_bytes())?;
        let end = answer.cut.or(answer.hang).unwrap_or(answer.body.len()).min(answer.body.len());
        out.write_all(&answer.body[..end])?;
        out.flush()?;
        if answer.cut.is_some() {
            out.cut();
            return Ok(());
        }
        if answer.hang.is_some() {
            // Until the client has enough of it.
            let mut nothing = String::new();
            while stream.read_line(&mut nothing)? > 0 {}
            return Ok(());
        }
    }
}

/// What was told.
#[derive(Default)]
pub struct Told {
    pub have: AtomicU64,
    pub came: AtomicU64,
    pub notes: Mutex<Vec<String>>,
}

impl Progress for Told {
    fn begin(&self, _: Option<u64>, have: u64) {
        self.have.store(have, Ordering::Relaxed);
        self.came.store(0, Ordering::Relaxed);
    }
    fn came(&self, bytes: u64) {
        self.came.fetch_add(bytes, Ordering::Relaxed);
    }
    fn note(&self, text: &str) {
        self.notes.lock().unwrap().push(text.to_owned());
    }
}

/// A cache of its own, and what a client has to tell.
pub struct Bench {
    pub cache: tempfile::TempDir,
    pub client: Client,
    pub told: Told,
    pub stop: Stop,
}

impl Bench {
    pub fn new() -> Self {
        Self::with(Settings { proxies: false, ..Settings::default() })
    }

    pub fn with(settings: Settings) -> Self {
        let cache = tempfile::tempdir().unwrap();
        let client = Client::new(settings).unwrap();
        Self { cache, client, told: Told::default(), stop: Stop::default() }
    }

    /// That has enough of a server that says nothing for a second.
    pub fn impatient() -> Self {
        Self::with(Settings { proxies: false, stall: Duration::from_secs(1), ..Settings::default() })
    }

    pub fn slot(&self, url: &Url) -> Slot {
        Slot::open(&self.client, self.cache.path(), url, &|| panic!("nobody else is here"), &self.stop)
            .unwrap()
    }

    pub fn fetch(&self, url: &Url, checksum: Option<&str>) -> Result<Downloaded, FetchError> {
        self.fetch_at_most(url, checksum, 1 << 30)
    }

    pub fn fetch_at_most(
        &self,
        url: &Url,
        checksum: Option<&str>,
        limit: u64,
    ) -> Result<Downloaded, FetchError> {
        let checksum = checksum.map(|checksum| checksum.parse().unwrap());
        let request = Request { url: url.clone(), checksum, limit };
        self.slot(url).fetch(&self.client, &request, &self.told, &self.stop)
    }

    /// All files below the cache.
    pub fn files(&self) -> Vec<PathBuf> {
        files(self.cache.path())
    }
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// Bytes that do not repeat.
pub fn noise(seed: u64, size: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        // Xorshift (Marsaglia, 2003).
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(size);
    bytes
}

pub fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    let digest: [u8; 32] = sha2::Sha256::digest(bytes).into();
    format!("sha256:{}", digest.map(|byte| format!("{byte:02x}")).concat())
}
