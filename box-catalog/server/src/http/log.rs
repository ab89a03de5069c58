//! Each request, told once it is over.

use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use http::header;
use http_body::{Body as HttpBody, Frame, SizeHint};

use super::Site;
use super::auth::TokenName;
use crate::refusal::Cause;

/// A request that is over.
#[derive(Debug, Clone)]
pub struct Access {
    /// When it came.
    pub time: SystemTime,
    /// Where it came from.
    pub remote: Option<SocketAddr>,
    /// By what name its token goes.
    pub token: Option<String>,
    /// `GET` and the like.
    pub method: String,
    /// What was asked for, without what stands behind a `?`: tokens may stand there.
    pub path: String,
    /// The answer's status.
    pub status: u16,
    /// Bytes of the answer that were sent.
    pub bytes: u64,
    /// Whether all of the answer was.
    pub complete: bool,
    /// From the request's head to the answer's end.
    pub took: Duration,
    /// What asked, as it says.
    pub agent: Option<String>,
    /// How the mirror came by it: `hit`, `miss`, `stale`.
    pub mirror: Option<&'static str>,
    /// What went wrong on the server's side.
    pub cause: Option<String>,
}

/// Whoever is told what the server does.
pub trait Log: Send + Sync + 'static {
    /// A request is over.
    fn access(&self, access: &Access);

    /// Something outside of any request went wrong, or may be of interest.
    fn note(&self, text: &str);
}

/// How the mirror came by an answer, on its way to the access log.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mirrored(pub &'static str);

/// Where a request came from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Remote(pub SocketAddr);

fn agent(request: &Request) -> Option<String> {
    let agent = request.headers().get(header::USER_AGENT)?;
    agent.to_str().ok().map(str::to_owned)
}

pub(super) async fn record(State(site): State<Site>, request: Request, next: Next) -> Response {
    site.0.metrics.begin();
    let access = Access {
        time: SystemTime::now(),
        remote: request.extensions().get::<Remote>().map(|remote| remote.0),
        token: None,
        method: request.method().to_string(),
        path: request.uri().path().to_owned(),
        status: 0,
        bytes: 0,
        complete: false,
        took: Duration::ZERO,
        agent: agent(&request),
        mirror: None,
        cause: None,
    };
    let mut record = Record { site, access, began: Instant::now(), expected: None };
    let mut response = next.run(request).await;
    record.access.status = response.status().as_u16();
    record.access.cause = response.extensions_mut().remove::<Cause>().map(|cause| cause.0);
    record.access.mirror = response.extensions_mut().remove::<Mirrored>().map(|mirrored| mirrored.0);
    record.access.token = response.extensions_mut().remove::<TokenName>().map(|name| name.0);
    // Hyper does not ask for more than was announced, and for nothing where no body is wanted.
    record.expected = if record.access.method == "HEAD" { Some(0) } else { announced(&response) };
    response.map(|body| Body::new(Counted { body, record }))
}

/// Bytes of a response's body, where they are known beforehand.
fn announced(response: &Response) -> Option<u64> {
    let header =
        response.headers().get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    header.or_else(|| response.body().size_hint().exact())
}

/// Tells of the request when it is dropped, whatever became of it.
struct Record {
    site: Site,
    access: Access,
    began: Instant,
    /// Bytes of the whole answer, where that is known beforehand.
    expected: Option<u64>,
}

impl Drop for Record {
    fn drop(&mut self) {
        self.access.took = self.began.elapsed();
        self.access.complete |= self.expected == Some(self.access.bytes);
        self.site.0.metrics.end(&self.access);
        self.site.0.log.access(&self.access);
    }
}

/// A body whose bytes are counted.
struct Counted {
    body: Body,
    record: Record,
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                self.record.access.bytes += frame.data_ref().map_or(0, |bytes| bytes.len() as u64);
                self.record.access.complete = self.body.is_end_stream();
            }
            Poll::Ready(None) => self.record.access.complete = true,
            Poll::Ready(Some(Err(error))) => {
                let mut cause = error.to_string();
                let mut source = std::error::Error::source(error);
                while let Some(error) = source {
                    cause = error.to_string();
                    source = error.source();
                }
                self.record.access.cause = Some(cause);
            }
            Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
