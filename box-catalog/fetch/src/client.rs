//! The HTTP client: who may be asked, how, and with which token.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderValue, RETRY_AFTER};
use reqwest::redirect::{Attempt, Policy};
use reqwest::{Certificate, Identity, RequestBuilder, Response, StatusCode};
use tokio::runtime::{Builder, Runtime};
use url::Url;
use zeroize::Zeroizing;

use crate::patience::{Patience, TRIES};
use crate::{FetchError, Stop};

/// How many times an answer may lead elsewhere.
const REDIRECTS: usize = 10;
const CONNECTING: Duration = Duration::from_secs(15);
/// How long nothing may come.
pub(crate) const STALL: Duration = Duration::from_secs(30);

/// What a client may use.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What it calls itself.
    pub user_agent: String,
    /// PEM files with authorities that are trusted besides the system's, and directories of such files.
    pub authorities: Vec<PathBuf>,
    /// A PEM file with the certificate, and its key, that is shown to servers which ask for one.
    pub identity: Option<PathBuf>,
    /// Whether any certificate will do.
    pub insecure: bool,
    /// Whether proxies that the system or the environment name are gone through.
    pub proxies: bool,
    /// What servers are shown.
    pub tokens: Vec<Token>,
    /// How long nothing may come before it is asked for again.
    pub stall: Duration,
    /// So many failures in a row, with nothing coming in between, are the end.
    pub tries: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            user_agent: concat!("posada/", env!("CARGO_PKG_VERSION")).to_owned(),
            authorities: Vec::new(),
            identity: None,
            insecure: false,
            proxies: true,
            tokens: Vec::new(),
            stall: STALL,
            tries: TRIES,
        }
    }
}

/// What one server is shown, and no other.
#[derive(Clone)]
pub struct Token {
    /// A URL of the server: its scheme, host and port count.
    pub server: Url,
    /// The secret.
    pub secret: Zeroizing<String>,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("server", &shown(&self.server)).finish_non_exhaustive()
    }
}

/// A client. Clones share its connections.
#[derive(Debug, Clone)]
pub struct Client {
    inner: Arc<Inner>,
    /// What one server is shown instead of a token.
    shows: Option<(url::Origin, HeaderValue)>,
}

#[derive(Debug)]
struct Inner {
    http: reqwest::Client,
    settings: Settings,
    runtime: Runtime,
}

/// Bytes of a reply that are read.
pub(crate) const MAX_ANSWER: u64 = 16 << 20;

/// A small answer, read whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Where it came from in the end.
    pub url: Url,
}

impl Client {
    /// A client with these settings.
    ///
    /// # Errors
    /// [`FetchError::Settings`], [`FetchError::Io`].
    pub fn new(settings: Settings) -> Result<Self, FetchError> {
        let http = build(&settings)?;
        let runtime = Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("fetch")
            .enable_all()
            .build()
            .map_err(|error| unusable("the event loop".to_owned(), error.into()))?;
        let inner = Inner { http, settings, runtime };
        Ok(Self { inner: Arc::new(inner), shows: None })
    }

    /// The same client, which shows the server of `url` this `Authorization` instead of a token: `Bearer …`.
    ///
    /// # Errors
    /// [`FetchError::Settings`] where it cannot be sent.
    pub fn showing(&self, url: &Url, authorization: &str) -> Result<Self, FetchError> {
        let mut value = HeaderValue::from_str(authorization).map_err(|_| FetchError::Settings {
            what: "what a server is to be shown".to_owned(),
            source: None,
        })?;
        value.set_sensitive(true);
        Ok(Self { inner: Arc::clone(&self.inner), shows: Some((url.origin(), value)) })
    }

    /// What it was made with.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.inner.settings
    }

    /// Reads what is at `url`, `limit` bytes at most; `accept` is what of it is wanted: `application/json`.
    ///
    /// # Errors
    /// Each [`FetchError`] that has a URL.
    pub fn get(
        &self,
        url: &Url,
        accept: Option<&str>,
        limit: u64,
        stop: &Stop,
    ) -> Result<Document, FetchError> {
        self.run(stop, async {
            let mut request = self.request(url);
            if let Some(accept) = accept {
                request = request.header(ACCEPT, accept);
            }
            let answer = self.ask(url, request).await?;
            let from = answer.url().clone();
            let bytes = self.read(url, answer, limit).await?;
            Ok(Document { bytes, url: from })
        })
    }

    pub(crate) async fn read(&self, url: &Url, answer: Response, limit: u64) -> Result<Vec<u8>, FetchError> {
        let too_large = || FetchError::TooLarge { url: shown(url), limit };
        if answer.content_length().is_some_and(|length| length > limit) {
            return Err(too_large());
        }
        let mut bytes = Vec::new();
        let mut body = answer.bytes_stream();
        while let Some(piece) = body.next().await {
            let piece = piece.map_err(|source| self.broken(url, source))?;
            if (bytes.len() + piece.len()) as u64 > limit {
                return Err(too_large());
            }
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes)
    }

    /// Runs `work` to its end or to the switch.
    pub(crate) fn run<T>(
        &self,
        stop: &Stop,
        work: impl Future<Output = Result<T, FetchError>>,
    ) -> Result<T, FetchError> {
        self.inner.runtime.block_on(async {
            tokio::select! {
                done = work => done,
                () = stop.stopped() => Err(FetchError::Cancelled),
            }
        })
    }

    /// A GET, with the token that belongs to its server.
    pub(crate) fn request(&self, url: &Url) -> RequestBuilder {
        self.authorized(url, self.inner.http.get(url.clone()))
    }

    /// With what belongs to its server.
    pub(crate) fn authorized(&self, url: &Url, request: RequestBuilder) -> RequestBuilder {
        match (&self.shows, self.token(url)) {
            (Some((origin, value)), _) if *origin == url.origin() => {
                request.header(AUTHORIZATION, value.clone())
            }
            (_, Some(token)) => request.bearer_auth(token.secret.as_str()),
            (_, None) => request,
        }
    }

    /// What requests are made with.
    pub(crate) fn http(&self) -> &reqwest::Client {
        &self.inner.http
    }

    pub(crate) fn patience(&self) -> Patience {
        Patience::new(self.inner.settings.tries)
    }

    fn token(&self, url: &Url) -> Option<&Token> {
        self.inner.settings.tokens.iter().find(|token| token.server.origin() == url.origin())
    }

    /// Sends it; an answer that is none becomes an error.
    pub(crate) async fn ask(&self, url: &Url, request: RequestBuilder) -> Result<Response, FetchError> {
        let answer = request.send().await.map_err(|source| self.broken(url, source))?;
        let status = answer.status();
        if status.is_success() || status == StatusCode::RANGE_NOT_SATISFIABLE {
            return Ok(answer);
        }
        let (url, token, status) =
            (shown(url), self.shows.is_some() || self.token(url).is_some(), status.as_u16());
        Err(match status {
            401 | 403 => FetchError::Refused { url, status, token },
            404 | 410 => FetchError::NotFound { url, status },
            _ => FetchError::Status { url, status, again: again(&answer) },
        })
    }

    /// What a broken transfer is told as.
    pub(crate) fn broken(&self, url: &Url, source: reqwest::Error) -> FetchError {
        if source.is_timeout() && !source.is_connect() {
            return FetchError::Stalled { url: shown(url), after: self.inner.settings.stall };
        }
        FetchError::Transport { url: shown(url), source: source.without_url() }
    }
}

fn unusable(what: String, source: Box<dyn std::error::Error + Send + Sync>) -> FetchError {
    FetchError::Settings { what, source: Some(source) }
}

/// What speaks HTTP by these settings.
fn build(settings: &Settings) -> Result<reqwest::Client, FetchError> {
    // Whoever was first in this process has installed the same.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = reqwest::Client::builder()
        .user_agent(settings.user_agent.as_str())
        .connect_timeout(CONNECTING)
        .read_timeout(settings.stall)
        .redirect(Policy::custom(follow))
        .tls_danger_accept_invalid_certs(settings.insecure);
    if !settings.proxies {
        builder = builder.no_proxy();
    }
    for path in &settings.authorities {
        builder = builder.tls_certs_merge(certificates(path)?);
    }
    if let Some(path) = &settings.identity {
        let pem = fs_err::read(path).map_err(|error| FetchError::io("read", path, error))?;
        let what = || format!("the certificate and its key in `{}`", path.display());
        builder = builder.identity(Identity::from_pem(&pem).map_err(|error| unusable(what(), error.into()))?);
    }
    builder.build().map_err(|error| unusable("these settings".to_owned(), error.into()))
}

/// The certificates in a file, or in the files of a directory, where others are passed over.
fn certificates(path: &Path) -> Result<Vec<Certificate>, FetchError> {
    let read = |path: &Path| fs_err::read(path).map_err(|error| FetchError::io("read", path, error));
    let what = format!("the certificates in `{}`", path.display());
    let found = if path.is_dir() {
        let mut found = Vec::new();
        for entry in fs_err::read_dir(path).map_err(|error| FetchError::io("read", path, error))? {
            let file = entry.map_err(|error| FetchError::io("read", path, error))?.path();
            if file.is_file() {
                found.extend(Certificate::from_pem_bundle(&read(&file)?).unwrap_or_default());
            }
        }
        found
    } else {
        Certificate::from_pem_bundle(&read(path)?).map_err(|error| unusable(what.clone(), error.into()))?
    };
    if found.is_empty() {
        return Err(FetchError::Settings { what: format!("{what}: there are none"), source: None });
    }
    Ok(found)
}

/// `Retry-After` in seconds (RFC 9110, section 10.2.3); dates are passed over, as clocks differ.
pub(crate) fn again(answer: &Response) -> Option<Duration> {
    retry_after(answer.headers().get(RETRY_AFTER)?.to_str().ok()?)
}

pub(crate) fn retry_after(header: &str) -> Option<Duration> {
    header.trim().parse().ok().map(Duration::from_secs)
}

/// Follows answers that lead elsewhere, never from an encrypted connection to one that is not.
fn follow(attempt: Attempt<'_>) -> reqwest::redirect::Action {
    let was_safe = attempt.previous().last().is_some_and(|url| url.scheme() == "https");
    if was_safe && attempt.url().scheme() != "https" {
        return attempt.error("it leads from an encrypted connection to one that is not");
    }
    if attempt.previous().len() > REDIRECTS {
        return attempt.error("it leads from one place to another without an end");
    }
    attempt.follow()
}

/// A URL for people to read: without users, passwords, and what stands behind a `?`, where tokens may be.
#[must_use]
pub fn shown(url: &Url) -> String {
    let mut url = url.clone();
    // Refused only for URLs that have no place for them.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_query(None);
    url.set_fragment(None);
    url.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_shown() {
        let url = Url::parse("https://me:secret@host:8443/a/b.box?access_token=secret#sha256=0").unwrap();
        assert_eq!(shown(&url), "https://host:8443/a/b.box");
        let token = Token { server: url, secret: "secret".to_owned().into() };
        let settings = Settings { tokens: vec![token], ..Settings::default() };
        assert!(!format!("{settings:?}").contains("secret"));
        assert!(!format!("{:?}", Client::new(settings).unwrap()).contains("secret"));
    }
}
