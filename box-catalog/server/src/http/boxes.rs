//! Boxes and versions.

use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use chrono::Utc;
use http::{HeaderMap, StatusCode, header};
use serde::Deserialize;
use serde_json::json;

use super::{Site, answer, auth, body, mirrored, pages};
use crate::catalog;
use crate::document::BoxDocument;
use crate::mirror::{Found, Via};
use crate::names::{BoxName, VersionName};
use crate::refusal::Refusal;
use crate::repository::{Access, Identity, no_box};

const MAX_DESCRIPTION: u64 = 128 << 10;

/// A box: the catalog for programs, a page for people.
pub(super) async fn show(
    State(site): State<Site>,
    Extension(identity): Extension<Identity>,
    Path((namespace, name)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    let json = wants_json(&headers);
    let found = match look(&site, &identity, &namespace, &name, &headers).await {
        Ok(Shown::Own(document)) if json => catalog_of(&site, &document, &headers),
        Ok(Shown::Own(document)) => pages::of_box(&site, &document, &headers),
        Ok(Shown::Mirrored(found)) if json => mirrored::catalog(&site, &found, &headers),
        Ok(Shown::Mirrored(found)) => pages::of_mirrored(&site, &found, &headers),
        Err(refusal) if json => Err(refusal),
        Err(refusal) => return pages::of_refusal(&site, refusal),
    };
    let mut response = found.into_response();
    response.headers_mut().insert(header::VARY, http::HeaderValue::from_static("Accept"));
    response
}

/// A box, for programs that ask for nothing else.
pub(super) async fn catalog(
    State(site): State<Site>,
    Extension(identity): Extension<Identity>,
    Path((namespace, name)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    match look(&site, &identity, &namespace, &name, &headers).await? {
        Shown::Own(document) => catalog_of(&site, &document, &headers),
        Shown::Mirrored(found) => mirrored::catalog(&site, &found, &headers),
    }
}

/// A box to be shown.
enum Shown {
    Own(BoxDocument),
    Mirrored(Found),
}

/// A box of this repository's own, else one of the catalog that it mirrors.
async fn look(
    site: &Site,
    identity: &Identity,
    namespace: &str,
    name: &str,
    headers: &HeaderMap,
) -> Result<Shown, Refusal> {
    let name = BoxName::new(namespace, name).map_err(|error| Refusal::not_found(error.to_string()))?;
    auth::check(identity, Access::Read, name.namespace())?;
    match mirrored::mirror_of(site, &name).await? {
        Some(mirror) => {
            Ok(Shown::Mirrored(mirror.document(site.repository(), &name, &Via::of(headers)).await?))
        }
        None => Ok(Shown::Own(find(site, identity, name.namespace(), name.name()).await?)),
    }
}

fn catalog_of(site: &Site, document: &BoxDocument, headers: &HeaderMap) -> Result<Response, Refusal> {
    answer::document(headers, &catalog::of_box(document, &site.base(headers)))
}

/// All boxes that may be fetched.
pub(super) async fn list(
    State(site): State<Site>,
    Extension(identity): Extension<Identity>,
) -> Result<Response, Refusal> {
    let boxes = readable(&site, &identity).await?;
    let mirrored: Vec<_> =
        mirrored::readable(&site, &identity).await?.iter().map(mirrored::summary).collect();
    let mut all = json!({"boxes": boxes});
    if site.mirror().is_some() {
        all["mirrored"] = json!(mirrored);
    }
    Ok(Json(all).into_response())
}

/// A box with all its versions, also those that are not in the catalog.
pub(super) async fn detail(
    State(site): State<Site>,
    Extension(identity): Extension<Identity>,
    Path((namespace, name)): Path<(String, String)>,
) -> Result<Response, Refusal> {
    Ok(Json(find(&site, &identity, &namespace, &name).await?).into_response())
}

/// The boxes that `identity` may fetch. Who may not push sees no version that is not released.
pub(super) async fn readable(site: &Site, identity: &Identity) -> Result<Vec<BoxDocument>, Refusal> {
    auth::check_somewhere(identity, Access::Read)?;
    let boxes = site.repository().boxes().await?;
    let may = |document: &BoxDocument| identity.may(Access::Read, document.name.namespace());
    let seen = boxes.into_iter().filter(may).map(|document| seen_by(identity, document));
    Ok(seen.filter(|document| !document.versions.is_empty()).collect())
}

fn seen_by(identity: &Identity, mut document: BoxDocument) -> BoxDocument {
    document.dropped.clear();
    if !identity.may(Access::Push, document.name.namespace()) {
        document.versions.retain(|version| version.state == crate::document::State::Released);
    }
    document
}

async fn find(site: &Site, identity: &Identity, namespace: &str, name: &str) -> Result<BoxDocument, Refusal> {
    let name = BoxName::new(namespace, name).map_err(|error| Refusal::not_found(error.to_string()))?;
    auth::check(identity, Access::Read, name.namespace())?;
    let document = site.repository().find(&name).await?.ok_or_else(|| no_box(&name))?;
    let document = seen_by(identity, document);
    // A box of which nothing was released is not there yet.
    if document.versions.is_empty() { Err(no_box(&name)) } else { Ok(document) }
}

type VersionPath = Path<(String, String, String)>;

fn version_to_push(identity: &Identity, path: VersionPath) -> Result<(BoxName, VersionName), Refusal> {
    let Path((namespace, name, version)) = path;
    let name = BoxName::new(&namespace, &name)?;
    auth::check(identity, Access::Push, name.namespace())?;
    Ok((name, VersionName::parse(&version)?))
}

/// Puts a version into the catalog.
pub(super) async fn release(
    State(site): State<Site>,
    Extension(identity): Extension<Identity>,
    path: VersionPath,
) -> Result<Response, Refusal> {
    let (name, version) = version_to_push(&identity, path)?;
    let retention = &site.0.settings.retention;
    let document = site.repository().release(&name, &version, Utc::now(), retention).await?;
    Ok(Json(document).into_response())
}

/// Takes a version out of the catalog.
pub(super) async fn yank(
    State(site): State<Site>,
    Extension(identity): Extension<Identity>,
    path: VersionPath,
) -> Result<Response, Refusal> {
    let (name, version) = version_to_push(&identity, path)?;
    Ok(Json(site.repository().set_yanked(&name, &version, true).await?).into_response())
}

/// Puts a yanked version back.
pub(super) async fn unyank(
    State(site): State<Site>,
    Extension(identity): Extension<Identity>,
    path: VersionPath,
) -> Result<Response, Refusal> {
    let (name, version) = version_to_push(&identity, path)?;
    Ok(Json(site.repository().set_yanked(&name, &version, false).await?).into_response())
}

/// Drops a version that was not released.
pub(super) async fn drop_version(
    State(site): State<Site>,
    Extension(identity): Extension<Identity>,
    path: VersionPath,
) -> Result<Response, Refusal> {
    let (name, version) = version_to_push(&identity, path)?;
    site.repository().drop_open(&name, &version, Utc::now()).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Description {
    description: String,
}

/// What people are told of a box.
pub(super) async fn describe(
    State(site): State<Site>,
    Extension(identity): Extension<Identity>,
    Path((namespace, name)): Path<(String, String)>,
    request: Body,
) -> Result<Response, Refusal> {
    let name = BoxName::new(&namespace, &name)?;
    auth::check(&identity, Access::Push, name.namespace())?;
    let new: Description = body::json(request, MAX_DESCRIPTION, site.0.settings.limits.stall).await?;
    Ok(Json(site.repository().describe(&name, &new.description).await?).into_response())
}

/// Whether JSON is asked for by name.
fn wants_json(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).into_iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|value| value.split(',')).any(|kind| {
        let kind = kind.split(';').next().unwrap_or_default().trim();
        kind.eq_ignore_ascii_case("application/json")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_ask_for_json_and_browsers_do_not() {
        let wants = |accept: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, accept.parse().unwrap());
            wants_json(&headers)
        };
        assert!(wants("application/json"));
        assert!(wants("text/html;q=0.5, Application/JSON; q=1"));
        assert!(!wants("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"));
        assert!(!wants_json(&HeaderMap::new()));
    }
}
