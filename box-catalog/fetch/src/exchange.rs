//! Requests whose headers matter, in both directions, and large ones: what protocols of registries are made of.

use std::path::Path;
use std::time::Duration;

use futures_util::stream;
use reqwest::header::{CONTENT_LENGTH, HeaderMap};
use reqwest::{Body, Method, Response};
use tokio::io::AsyncReadExt as _;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use url::Url;

use crate::client::{MAX_ANSWER, again};
use crate::patience::Patience;
use crate::{Client, FetchError, Stop, shown};

/// Bytes that are read of a file in one go.
const PIECE: usize = 256 << 10;
/// A server may look long at what it has received before it answers: so many times what nothing may come for else.
const AFTERWARDS: u32 = 20;

/// A request.
#[derive(Debug, Clone)]
pub struct Exchange<'a> {
    /// `HEAD` and the like.
    pub method: Method,
    /// Where to.
    pub url: &'a Url,
    /// What is sent besides what the client sends of itself.
    pub headers: Vec<(&'static str, String)>,
    /// What is sent after it.
    pub content: Content<'a>,
}

/// What a request carries.
#[derive(Debug, Clone, Copy)]
pub enum Content<'a> {
    /// Something small.
    Bytes(&'a [u8]),
    /// A whole file.
    File(&'a Path),
}

/// What a server answers, whatever it thinks of the request.
#[derive(Debug, Clone)]
pub struct Reply {
    /// 200 and the like.
    pub status: u16,
    /// What it says of it.
    pub headers: HeaderMap,
    /// What it has to say.
    pub bytes: Vec<u8>,
    /// Who answered in the end.
    pub url: Url,
}

impl Reply {
    /// The text of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

impl Client {
    /// Has one exchange. One that is small, and that may be had twice, is had again where the server, or the way to it, has a
    /// weak moment; `sent` hears of each piece of a file that is on its way, bytes.
    ///
    /// # Errors
    /// Each [`FetchError`] that has a URL, but none for what the server says of the request: that is in the reply.
    pub fn exchange(
        &self,
        exchange: &Exchange<'_>,
        note: &dyn Fn(&str),
        sent: &dyn Fn(u64),
        stop: &Stop,
    ) -> Result<Reply, FetchError> {
        let mut patience = Patience::default();
        self.run(stop, async {
            loop {
                let had = match exchange.content {
                    Content::Bytes(bytes) => self.small(exchange, bytes).await,
                    Content::File(path) => return self.large(exchange, path, sent).await,
                };
                match had {
                    Ok(reply) => return Ok(reply),
                    Err(error) => patience.wait(error, note).await?,
                }
            }
        })
    }

    /// Has one exchange that is not had again, whatever comes of it.
    ///
    /// # Errors
    /// Those of [`Client::exchange`].
    pub fn exchange_once(&self, exchange: &Exchange<'_>, stop: &Stop) -> Result<Reply, FetchError> {
        let Content::Bytes(bytes) = exchange.content else {
            return self.exchange(exchange, &|_| {}, &|_| {}, stop);
        };
        self.run(stop, self.small(exchange, bytes))
    }

    async fn small(&self, exchange: &Exchange<'_>, bytes: &[u8]) -> Result<Reply, FetchError> {
        let mut request = self.http().request(exchange.method.clone(), exchange.url.clone());
        if !bytes.is_empty() {
            request = request.body(bytes.to_vec());
        } else if exchange.method != Method::GET && exchange.method != Method::HEAD {
            request = request.header(CONTENT_LENGTH, 0);
        }
        request =
            exchange.headers.iter().fold(request, |request, (name, value)| request.header(*name, value));
        let answer = self.authorized(exchange.url, request).send().await;
        self.reply(exchange.url, answer.map_err(|source| self.broken(exchange.url, source))?).await
    }

    async fn large(
        &self,
        exchange: &Exchange<'_>,
        path: &Path,
        sent: &dyn Fn(u64),
    ) -> Result<Reply, FetchError> {
        let url = exchange.url;
        let failed = |error| FetchError::io("read", path, error);
        let file = tokio::fs::File::open(path).await.map_err(failed)?;
        let length = file.metadata().await.map_err(failed)?.len();
        let (told, mut pieces) = unbounded_channel();
        // What grows while it is sent is sent as long as it was.
        let body = stream::try_unfold((file.take(length), told), async |(mut file, told)| {
            let mut piece = vec![0; PIECE];
            let count = file.read(&mut piece).await?;
            piece.truncate(count);
            let _ = told.send(count as u64);
            Ok::<_, std::io::Error>((count > 0).then_some((piece, (file, told))))
        });
        let request = self.patient()?.request(exchange.method.clone(), url.clone());
        let request = request.header(CONTENT_LENGTH, length).body(Body::wrap_stream(Box::pin(body)));
        let request =
            exchange.headers.iter().fold(request, |request, (name, value)| request.header(*name, value));
        let sending = self.authorized(url, request).send();
        let answer = tokio::select! {
            answer = sending => answer.map_err(|source| self.broken(url, source))?,
            after = paced(&mut pieces, self.stall(), sent) => {
                return Err(FetchError::Stalled { url: shown(url), after });
            }
        };
        self.reply(url, answer).await
    }

    async fn reply(&self, url: &Url, answer: Response) -> Result<Reply, FetchError> {
        let (status, headers, from) =
            (answer.status().as_u16(), answer.headers().clone(), answer.url().clone());
        let passing = FetchError::Status { url: shown(url), status, again: again(&answer) };
        if passing.is_passing() {
            return Err(passing);
        }
        Ok(Reply { status, headers, bytes: self.read(url, answer, MAX_ANSWER).await?, url: from })
    }
}

/// Passes on what is sent, and ends when nothing was for too long: how long that was.
async fn paced(pieces: &mut UnboundedReceiver<u64>, stall: Duration, sent: &dyn Fn(u64)) -> Duration {
    loop {
        match tokio::time::timeout(stall, pieces.recv()).await {
            Ok(Some(0) | None) => {
                tokio::time::sleep(stall * AFTERWARDS).await;
                return stall * AFTERWARDS;
            }
            Ok(Some(bytes)) => sent(bytes),
            Err(_) => return stall,
        }
    }
}
