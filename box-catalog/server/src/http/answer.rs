//! Answers that are a file or a part of it (RFC 9110, sections 13 and 14).

use axum::body::Body;
use axum::response::Response;
use http::response::Builder;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use serde::Serialize;

use crate::range::{self, Wanted};
use crate::refusal::Refusal;

/// What is to be answered.
pub(super) enum Plan {
    /// This, which has no bytes of the file.
    Answer(Response),
    /// The bytes of the file from `first` on, up to but without `end`, behind this head.
    Send { head: Builder, first: u64, end: u64 },
}

/// The answer where the client has that version of the file already; `tag` tells versions apart.
pub(super) fn unchanged(headers: &HeaderMap, tag: &str) -> Option<Result<Response, Refusal>> {
    let known = named(headers, header::IF_NONE_MATCH).is_some_and(|tags| matches(tags, &quoted(tag)));
    known.then(|| with(common(StatusCode::NOT_MODIFIED, Some(tag)), Body::empty()))
}

/// The answer for a file of `size` bytes.
pub(super) fn plan(
    method: &Method,
    headers: &HeaderMap,
    tag: Option<&str>,
    size: u64,
) -> Result<Plan, Refusal> {
    // If-Range compares strongly (RFC 9110, 13.1.5): a weak tag or a date is no match.
    let same = |wanted: &str| tag.is_some_and(|tag| wanted == quoted(tag));
    let range = named(headers, header::RANGE).filter(|_| named(headers, header::IF_RANGE).is_none_or(same));
    let (status, first, end) = match range.map_or(Wanted::All, |range| range::parse(range, size)) {
        Wanted::All => (StatusCode::OK, 0, size),
        Wanted::Part { first, end } => (StatusCode::PARTIAL_CONTENT, first, end),
        Wanted::Unsatisfiable => {
            let head = common(StatusCode::RANGE_NOT_SATISFIABLE, tag)
                .header(header::CONTENT_RANGE, format!("bytes */{size}"));
            return Ok(Plan::Answer(with(head, Body::empty())?));
        }
    };
    let mut head = of_file(status, tag).header(header::CONTENT_LENGTH, end - first);
    if status == StatusCode::PARTIAL_CONTENT {
        head = head.header(header::CONTENT_RANGE, format!("bytes {first}-{}/{size}", end - 1));
    }
    if method == Method::HEAD {
        return Ok(Plan::Answer(with(head, Body::empty())?));
    }
    Ok(Plan::Send { head, first, end })
}

/// The head of an answer with bytes of a file.
pub(super) fn of_file(status: StatusCode, tag: Option<&str>) -> Builder {
    common(status, tag)
        .header(header::CONTENT_TYPE, "application/octet-stream")
        .header(header::X_CONTENT_TYPE_OPTIONS, "nosniff")
        .header(header::CONTENT_DISPOSITION, "attachment; filename=\"vagrant.box\"")
}

fn common(status: StatusCode, tag: Option<&str>) -> Builder {
    let head = Response::builder().status(status).header(header::ACCEPT_RANGES, "bytes");
    match tag {
        Some(tag) => head
            .header(header::ETAG, quoted(tag))
            .header(header::CACHE_CONTROL, "private, max-age=31536000, immutable"),
        None => head.header(header::CACHE_CONTROL, "private, no-cache"),
    }
}

/// The answer with this body.
pub(super) fn with(head: Builder, body: Body) -> Result<Response, Refusal> {
    head.body(body).map_err(unwritten)
}

/// A catalog's document, or that the client has it already.
pub(super) fn document(headers: &HeaderMap, document: &impl Serialize) -> Result<Response, Refusal> {
    let bytes = serde_json::to_vec(document).map_err(unwritten)?;
    let tag = blake3::hash(&bytes).to_hex();
    let head =
        Response::builder().header(header::ETAG, quoted(&tag)).header(header::CACHE_CONTROL, "no-cache");
    if named(headers, header::IF_NONE_MATCH).is_some_and(|tags| matches(tags, &quoted(&tag))) {
        return with(head.status(StatusCode::NOT_MODIFIED), Body::empty());
    }
    with(head.header(header::CONTENT_TYPE, "application/json"), Body::from(bytes))
}

fn unwritten(error: impl ToString) -> Refusal {
    let mut refusal = Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "the answer could not be written");
    refusal.cause = Some(error.to_string());
    refusal
}

fn named(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok())
}

fn quoted(tag: &str) -> String {
    format!("\"{tag}\"")
}

/// Whether one of `tags` is `tag`; compared weakly (RFC 9110, 13.1.2).
fn matches(tags: &str, tag: &str) -> bool {
    tags.trim() == "*" || tags.split(',').any(|there| there.trim().trim_start_matches("W/") == tag)
}

#[cfg(test)]
mod tests {
    #[test]
    fn tags_are_compared_weakly() {
        let tag = "\"abc\"";
        for tags in ["\"abc\"", "W/\"abc\"", "\"x\", \"abc\"", "*"] {
            assert!(super::matches(tags, tag), "{tags}");
        }
        assert!(!super::matches("\"abcd\"", tag));
        assert!(!super::matches("", tag));
    }
}
