//! The catalog that is mirrored: what it is asked, and what its answers come to.

use std::time::Duration;

use http::StatusCode;
use posada_fetch::{Client, Exchange, FetchError, Method, Reply, Settings, Stop};
use posada_provider_api::Fault as _;
use url::Url;

use super::parse::{self, MAX_SIGNATURE};
use crate::refusal::Refusal;
use crate::{BoxName, ServerError};

/// How long a small answer may take.
const ANSWER: Duration = Duration::from_secs(60);

/// The catalog. Its client holds an event loop of its own, and must not be dropped where another one runs.
pub(super) struct Upstream {
    client: Option<Client>,
    pub url: Url,
}

/// Why something did not come from upstream.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Failed {
    status: StatusCode,
    pub message: String,
    /// Whether it is upstream that cannot be reached, or makes no sense now: what is known of it still counts.
    pub passing: bool,
}

/// What comes of asking for a document.
pub(super) enum Answer {
    Document {
        bytes: Vec<u8>,
        etag: Option<String>,
        from: Url,
    },
    /// It is what it was.
    Same,
    /// There is no such box.
    Gone,
}

impl Failed {
    pub(super) fn passing(message: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_GATEWAY, message: message.into(), passing: true }
    }

    fn lasting(message: impl Into<String>) -> Self {
        Self { passing: false, ..Self::passing(message) }
    }

    /// Whether upstream would do the same again.
    pub(super) fn will_not_pass(&self) -> bool {
        !self.passing && self.status == StatusCode::BAD_GATEWAY
    }

    /// There is none.
    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self { status: StatusCode::NOT_FOUND, ..Self::lasting(message) }
    }

    /// Of this server's own.
    pub(super) fn own(message: impl Into<String>) -> Self {
        Self { status: StatusCode::INTERNAL_SERVER_ERROR, ..Self::lasting(message) }
    }
}

impl From<FetchError> for Failed {
    fn from(error: FetchError) -> Self {
        let mut message = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source.filter(|_| !matches!(error, FetchError::Transport { .. })) {
            message = format!("{message}: {cause}");
            source = cause.source();
        }
        match error {
            FetchError::Refused { token, .. } => {
                let what = if token {
                    "the mirror's token does not allow it"
                } else {
                    "the mirror has no token for it"
                };
                Self::lasting(format!("{message}: {what}"))
            }
            FetchError::NotFound { .. } => Self { status: StatusCode::NOT_FOUND, ..Self::lasting(message) },
            FetchError::DiskFull(_) => {
                Self { status: StatusCode::INSUFFICIENT_STORAGE, ..Self::lasting(message) }
            }
            FetchError::Io { .. } | FetchError::Settings { .. } => Self::own(message),
            FetchError::Cancelled => {
                Self { status: StatusCode::SERVICE_UNAVAILABLE, ..Self::passing("the server is ending") }
            }
            FetchError::TooLarge { .. } | FetchError::Mismatch { .. } => Self::lasting(message),
            FetchError::Stalled { .. } => {
                Self { status: StatusCode::GATEWAY_TIMEOUT, ..Self::passing(message) }
            }
            _ => Self::passing(message),
        }
    }
}

impl From<ServerError> for Failed {
    fn from(error: ServerError) -> Self {
        Refusal::from(error).into()
    }
}

impl From<Refusal> for Failed {
    fn from(refusal: Refusal) -> Self {
        let cause = refusal.cause.as_ref().map(|cause| format!(": {cause}")).unwrap_or_default();
        let message = format!("{}{cause}", refusal.message());
        Self { status: refusal.status(), ..Self::lasting(message) }
    }
}

impl From<Failed> for Refusal {
    fn from(failed: Failed) -> Self {
        let mut refusal = Self::new(failed.status, format!("the mirror cannot have it: {}", failed.message));
        refusal.cause = Some(failed.message);
        if failed.passing { refusal.hint("try again later: what came of it is kept") } else { refusal }
    }
}

impl Upstream {
    pub(super) fn new(url: Url, settings: Settings) -> Result<Self, ServerError> {
        let client = Client::new(settings).map_err(|error| ServerError::Mirror {
            url: posada_fetch::shown(&url),
            why: error.to_string(),
            hint: error.hint(),
        })?;
        Ok(Self { client: Some(client), url })
    }

    /// Its client, to be used, and let go of, on threads that may block.
    pub(super) fn client(&self) -> Client {
        // There until it is dropped.
        self.client.clone().expect("a client")
    }

    /// Asks for the document of a box.
    pub(super) async fn document(
        &self,
        name: &BoxName,
        etag: Option<&str>,
        via: String,
    ) -> Result<Answer, Failed> {
        let mut url = self.url.clone();
        url.set_path(&format!("{}/{name}", url.path().trim_end_matches('/')));
        let mut headers = vec![("accept", "application/json".to_owned()), ("via", via)];
        headers.extend(etag.map(|etag| ("if-none-match", etag.to_owned())));
        let reply = self.ask(Method::GET, url.clone(), headers).await?;
        let shown = posada_fetch::shown(&url);
        match reply.status {
            200 => {
                let etag = reply.header("etag").map(str::to_owned);
                Ok(Answer::Document { etag, bytes: reply.bytes, from: reply.url })
            }
            304 if etag.is_some() => Ok(Answer::Same),
            404 | 410 => Ok(Answer::Gone),
            401 | 403 => Err(Failed::lasting(format!(
                "`{shown}` refuses it ({}): the mirror's token does not allow it, or there is none",
                reply.status
            ))),
            508 => Err(Failed {
                status: StatusCode::LOOP_DETECTED,
                ..Failed::lasting(format!("`{shown}` says that mirrors go round in a circle"))
            }),
            status => Err(Failed::passing(format!("`{shown}` answers {status}"))),
        }
    }

    /// What lies beside a file as its signature.
    pub(super) async fn signature(&self, file: &Url) -> Result<Option<String>, Failed> {
        let mut url = file.clone();
        url.set_path(&format!("{}.minisig", file.path()));
        let reply = self.ask(Method::GET, url, Vec::new()).await?;
        if reply.status != 200 || reply.bytes.len() > MAX_SIGNATURE {
            return Ok(None);
        }
        Ok(String::from_utf8(reply.bytes).ok().filter(|text| parse::is_signature(text)))
    }

    /// By what the server tells versions of a file apart, and its size, where it says.
    pub(super) async fn head(&self, file: &Url) -> Result<(Option<String>, Option<u64>), Failed> {
        let reply = self.ask(Method::HEAD, file.clone(), Vec::new()).await?;
        match reply.status {
            200 => {
                let size = reply.header("content-length").and_then(|length| length.parse().ok());
                let named = |name: &str| reply.header(name).map(str::to_owned);
                let validator = named("etag").or_else(|| named("last-modified"));
                Ok((validator.map(|validator| format!("{validator} {size:?}")), size))
            }
            404 | 410 => Err(Failed {
                status: StatusCode::NOT_FOUND,
                ..Failed::lasting(format!("there is nothing at `{}`", posada_fetch::shown(file)))
            }),
            // Some servers know no HEAD.
            _ => Ok((None, None)),
        }
    }

    async fn ask(
        &self,
        method: Method,
        url: Url,
        headers: Vec<(&'static str, String)>,
    ) -> Result<Reply, Failed> {
        let (client, stop) = (self.client(), Stop::default());
        // Whoever waits for it may go away, or lose patience.
        let _ends = StopOnDrop(stop.clone());
        let shown = posada_fetch::shown(&url);
        let asked = tokio::task::spawn_blocking(move || {
            let exchange = Exchange { headers, ..Exchange::new(method, &url) };
            client.exchange_once(&exchange, &stop)
        });
        match tokio::time::timeout(ANSWER, asked).await {
            Ok(Ok(reply)) => Ok(reply?),
            Ok(Err(ended)) => std::panic::resume_unwind(ended.into_panic()),
            Err(_) => Err(Failed {
                status: StatusCode::GATEWAY_TIMEOUT,
                ..Failed::passing(format!("`{shown}` takes more than {} s to answer", ANSWER.as_secs()))
            }),
        }
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        if let Some(client) = self.client.take() {
            std::thread::spawn(move || drop(client));
        }
    }
}

struct StopOnDrop(Stop);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.stop();
    }
}
