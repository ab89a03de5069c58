//! Pages for people.

use axum::Extension;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::Deserialize;

use super::{Site, boxes, mirrored};
use crate::document::BoxDocument;
use crate::mirror::Found;
use crate::pages::STYLE;
use crate::refusal::Refusal;
use crate::repository::Identity;

/// Nothing from elsewhere, no scripts, no frames.
const POLICY: &str = "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

#[derive(Deserialize)]
pub(super) struct Search {
    #[serde(default)]
    q: String,
}

/// The front page.
pub(super) async fn index(
    State(site): State<Site>,
    Extension(identity): Extension<Identity>,
    search: Result<Query<Search>, QueryRejection>,
    headers: HeaderMap,
) -> Response {
    let query = search.map(|Query(search)| search.q).unwrap_or_default();
    let boxes = match boxes::readable(&site, &identity).await {
        Ok(boxes) => boxes,
        Err(refusal) => return of_refusal(&site, refusal),
    };
    let mirrored = match mirrored::readable(&site, &identity).await {
        Ok(mirrored) => mirrored,
        Err(refusal) => return of_refusal(&site, refusal),
    };
    match site.0.pages.index(&boxes, &mirrored, query.trim(), &site.base(&headers)) {
        Ok(text) => page(StatusCode::OK, text),
        Err(error) => unwritten(error).into_response(),
    }
}

/// The style of all pages.
pub(super) async fn style() -> Response {
    let kind =
        [(header::CONTENT_TYPE, "text/css; charset=utf-8"), (header::CACHE_CONTROL, "public, max-age=300")];
    (kind, STYLE).into_response()
}

/// The page of a box.
pub(super) fn of_box(site: &Site, document: &BoxDocument, headers: &HeaderMap) -> Result<Response, Refusal> {
    let text = site.0.pages.of_box(document, &site.base(headers)).map_err(unwritten)?;
    Ok(page(StatusCode::OK, text))
}

/// The page of a box of another catalog.
pub(super) fn of_mirrored(site: &Site, found: &Found, headers: &HeaderMap) -> Result<Response, Refusal> {
    let text = site.0.pages.of_mirrored(&found.document, &site.base(headers)).map_err(unwritten)?;
    let mut response = page(StatusCode::OK, text);
    mirrored::tell(&mut response, found);
    Ok(response)
}

/// The page that says why there is none.
pub(super) fn of_refusal(site: &Site, refusal: Refusal) -> Response {
    match site.0.pages.refusal(refusal.message(), refusal.what_to_do()) {
        Ok(text) => {
            let status = refusal.status();
            let mut response = refusal.into_response();
            let (extensions, headers) = (response.extensions().clone(), response.headers().clone());
            response = page(status, text);
            *response.extensions_mut() = extensions;
            if let Some(challenge) = headers.get(header::WWW_AUTHENTICATE) {
                response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge.clone());
            }
            response
        }
        Err(_) => refusal.into_response(),
    }
}

fn unwritten(error: String) -> Refusal {
    let mut refusal = Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "the page could not be written");
    refusal.cause = Some(error);
    refusal
}

fn page(status: StatusCode, text: String) -> Response {
    let mut response = (status, axum::response::Html(text)).into_response();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-cache"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}
