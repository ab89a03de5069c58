//! Requests that nobody has looked at, to a server whose repository is in memory.

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::response::Response;
use http::{HeaderName, HeaderValue, header};
use tower::ServiceExt as _;

use super::{AccessRecord, Log, Site};
use crate::repository::{Repository, Scopes};
use crate::settings::Settings;
use crate::storage::{Location, Storage};

/// Divides requests.
const NEXT: u8 = 0x1e;
/// Requests that are made, at most.
const REQUESTS: usize = 8;
/// The largest answer, bytes.
const ANSWER: usize = 4 << 20;

struct Deaf;

impl Log for Deaf {
    fn access(&self, _: &AccessRecord) {}
    fn note(&self, _: &str) {}
}

/// Requests, one after the other, each as HTTP/1 writes it: what they push and ask for is never a fault of the server.
///
/// # Panics
/// Where it says that it is one, or answers with another number of bytes than it tells.
pub fn requests(bytes: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let storage = Storage::open(&Location::Memory).await.expect("a repository in memory");
        let repository = Repository::new(storage);
        let scopes = Scopes { read: Vec::new(), push: vec!["team".to_owned()] };
        let token = repository.create_token("me", scopes).await.expect("a token");
        let site = Site::new(repository, Settings::default(), Box::new(Deaf)).expect("a site");
        let router = site.router();
        for text in bytes.split(|byte| *byte == NEXT).take(REQUESTS) {
            if let Some(request) = request(text, &token) {
                ask(&router, request).await;
            }
        }
    });
}

/// `METHOD path`, headers, an empty line, a body.
fn request(text: &[u8], token: &str) -> Option<Request> {
    let end = text.windows(2).position(|two| two == b"\n\n").unwrap_or(text.len());
    let (head, body) = (&text[..end], text.get(end + 2..).unwrap_or_default());
    let mut lines = head.split(|byte| *byte == b'\n');
    let (method, path) = str::from_utf8(lines.next()?).ok()?.split_once(' ')?;
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::AUTHORIZATION, format!("Bearer {token}"))
        .body(Body::from(body.to_vec()))
        .ok()?;
    for line in lines {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let name = HeaderName::from_bytes(&line[..colon]).ok()?;
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?;
        request.headers_mut().append(name, value);
    }
    Some(request)
}

async fn ask(router: &Router, request: Request) {
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let answer = router.clone().oneshot(request).await.expect("never fails");
    let (status, told) = (answer.status(), told(&answer));
    assert!(!status.is_server_error(), "{method} {uri}: {status}");
    let bytes = to_bytes(answer.into_body(), ANSWER).await.expect("the whole answer");
    if method != http::Method::HEAD
        && let Some(told) = told
    {
        assert_eq!(bytes.len() as u64, told, "{method} {uri}: {status}");
    }
}

/// Bytes that an answer says it has.
fn told(answer: &Response) -> Option<u64> {
    let text = |name: HeaderName| answer.headers().get(name).and_then(|value| value.to_str().ok());
    let range = text(header::CONTENT_RANGE).and_then(|range| {
        let (first, last) = range.strip_prefix("bytes ")?.split_once('/')?.0.split_once('-')?;
        Some(last.parse::<u64>().ok()? - first.parse::<u64>().ok()? + 1)
    });
    range.or_else(|| text(header::CONTENT_LENGTH)?.parse().ok())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    /// A file of three bytes, pushed, released and fetched in part.
    const ROUND: &str = "PUT /team/web/versions/1.0/lxc/amd64/vagrant.box\n\nabc\x1e\
        POST /api/v1/boxes/team/web/versions/1.0/release\n\n\x1e\
        GET /team/web/versions/1.0/lxc/amd64/vagrant.box\nrange: bytes=1-\n\n\x1e\
        GET /team/web\naccept: application/json\n\n";

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn no_request_is_a_fault_of_the_server(at in 0..ROUND.len(), new in "[ -~\\n\\x1e]{0,3}", cut in 0usize..4) {
            super::requests(ROUND.as_bytes());
            let rest = ROUND.get(at + cut..).unwrap_or_default();
            super::requests([&ROUND[..at], &new, rest].concat().as_bytes());
        }
    }
}
