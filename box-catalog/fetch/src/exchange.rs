//! Small requests that are had again where that helps: what protocols of repositories and registries are made of.

use reqwest::header::HeaderMap;
use reqwest::{Method, Response};
use url::Url;

use crate::client::{MAX_ANSWER, again};
use crate::{Client, FetchError, Stop, shown};

/// A request.
#[derive(Debug, Clone)]
pub struct Exchange<'a> {
    /// `HEAD` and the like.
    pub method: Method,
    /// Where to.
    pub url: &'a Url,
    /// What is sent besides what the client sends of itself.
    pub headers: Vec<(&'static str, String)>,
    /// What is sent after it, small enough for memory.
    pub body: Vec<u8>,
}

impl<'a> Exchange<'a> {
    /// A request that sends nothing.
    #[must_use]
    pub fn new(method: Method, url: &'a Url) -> Self {
        Self { method, url, headers: Vec::new(), body: Vec::new() }
    }

    /// The same, which sends `body` of this kind.
    #[must_use]
    pub fn sending(mut self, kind: &str, body: Vec<u8>) -> Self {
        self.headers.push(("content-type", kind.to_owned()));
        self.body = body;
        self
    }
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
    /// Has one exchange, which is had again where the server, or the way to it, has a weak moment.
    ///
    /// # Errors
    /// Each [`FetchError`] that has a URL, but none for what the server says of the request: that is in the reply.
    pub fn exchange(
        &self,
        exchange: &Exchange<'_>,
        note: &dyn Fn(&str),
        stop: &Stop,
    ) -> Result<Reply, FetchError> {
        let mut patience = self.patience();
        self.run(stop, async {
            loop {
                match self.once(exchange).await {
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
        self.run(stop, self.once(exchange))
    }

    async fn once(&self, exchange: &Exchange<'_>) -> Result<Reply, FetchError> {
        let mut request = self.http().request(exchange.method.clone(), exchange.url.clone());
        if exchange.method != Method::GET && exchange.method != Method::HEAD {
            request = request.body(exchange.body.clone());
        }
        let request =
            exchange.headers.iter().fold(request, |request, (name, value)| request.header(*name, value));
        let answer = self.authorized(exchange.url, request).send().await;
        self.reply(exchange.url, answer.map_err(|source| self.broken(exchange.url, source))?).await
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
