//! Boxes of the catalog that is mirrored.

use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use chrono::Utc;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde_json::{Value, json};

use super::answer::{self, Plan};
use super::log::Mirrored;
use super::{Site, files};
use crate::mirror::{Begun, Found, How, Mirror, MirrorDocument, MirrorFile, Place, Via, of_box};
use crate::names::BoxName;
use crate::refusal::{Cause, Refusal};
use crate::repository::{Access, Identity};
use crate::{ServerError, Sha256};

/// How often it is looked again, where a file came from elsewhere meanwhile.
const LOOKS: usize = 3;

/// The mirror, where it is the one to ask for a box: those that the repository has itself come first.
pub(super) async fn mirror_of<'a>(
    site: &'a Site,
    name: &BoxName,
) -> Result<Option<&'a Arc<Mirror>>, ServerError> {
    let Some(mirror) = site.mirror() else { return Ok(None) };
    let own = site.repository().find(name).await?.is_some_and(|document| !document.versions.is_empty());
    Ok((!own).then_some(mirror))
}

/// Refuses to push a box that is mirrored: those who have it would find another one under its name.
pub(super) async fn refuse_push(site: &Site, name: &BoxName) -> Result<(), Refusal> {
    let Some(mirror) = mirror_of(site, name).await? else { return Ok(()) };
    match site.repository().mirrored(name).await? {
        Some(document) if !document.versions.is_empty() => {
            Err(Refusal::conflict(format!("{name} is a box of {}, which is mirrored here", mirror.host()))
                .hint("push it there, or under another name"))
        }
        _ => Ok(()),
    }
}

/// The boxes that `identity` may fetch, as far as they are known.
pub(super) async fn readable(site: &Site, identity: &Identity) -> Result<Vec<MirrorDocument>, Refusal> {
    if site.mirror().is_none() {
        return Ok(Vec::new());
    }
    let all = site.repository().all_mirrored().await?;
    let may = |document: &MirrorDocument| identity.may(Access::Read, document.name.namespace());
    Ok(all.into_iter().filter(|document| may(document) && !document.versions.is_empty()).collect())
}

/// A box in the list of all.
pub(super) fn summary(document: &MirrorDocument) -> Value {
    let (files, bytes) = document.kept().fold((0, 0), |(files, bytes), kept| (files + 1, bytes + kept.size));
    let versions: Vec<_> = document.versions.iter().map(|version| &version.version).collect();
    json!({
        "name": document.name, "from": crate::mirror::host(&document.upstream), "checked": document.checked,
        "versions": versions, "files": files, "bytes": bytes,
    })
}

/// The catalog of a box.
pub(super) fn catalog(site: &Site, found: &Found, headers: &HeaderMap) -> Result<Response, Refusal> {
    let mut response = answer::document(headers, &of_box(&found.document, &site.base(headers)))?;
    tell(&mut response, found);
    Ok(response)
}

/// Tells how old it is, to the client and to the log.
pub(super) fn tell(response: &mut Response, found: &Found) {
    let age = (Utc::now() - found.document.checked).num_seconds().max(0);
    response.headers_mut().insert(header::AGE, HeaderValue::from(age));
    response.extensions_mut().insert(Mirrored(found.how.word()));
    if let How::Stale(why) = &found.how {
        // RFC 7234, section 5.5.1: what newer specifications do not have any more, and clients still read.
        let warning = HeaderValue::from_static("110 posada \"Response is Stale\"");
        response.headers_mut().insert(header::WARNING, warning);
        response.extensions_mut().insert(Cause(format!("as it was {age} s ago: {why}")));
    }
}

async fn find(
    site: &Site,
    mirror: &Mirror,
    place: &Place,
    headers: &HeaderMap,
) -> Result<MirrorFile, Refusal> {
    let document = mirror.any_document(site.repository(), &place.name, &Via::of(headers)).await?;
    let file = document.file(&place.version, &place.provider, &place.architecture);
    file.cloned().ok_or_else(|| files::missing(place))
}

/// The file, or a part of it; fetched where it is not here.
pub(super) async fn fetch(
    site: &Site,
    mirror: &Arc<Mirror>,
    place: &Place,
    method: &Method,
    headers: &HeaderMap,
) -> Result<Response, Refusal> {
    let repository = site.repository();
    for _ in 0..LOOKS {
        let file = find(site, mirror, place, headers).await?;
        let promised = file.promised_tag();
        if let Some(answer) = promised.as_deref().and_then(|tag| answer::unchanged(headers, tag)) {
            return answer;
        }
        if let Some(kept) = &file.kept
            && mirror.is_current(repository, place, &file, kept).await
            && let Some(reader) = repository.open_file(&kept.sha256).await?
        {
            mirror.asked(repository, place, &file, kept).await;
            let tag = promised.unwrap_or_else(|| kept.sha256.to_string());
            if let Some(answer) = answer::unchanged(headers, &tag) {
                return answer;
            }
            return files::from_repository(site, reader, &tag, method, headers).map(|it| told(it, &How::Hit));
        }
        if method == Method::HEAD {
            // Nobody waits for a whole file to hear how large it is.
            let size = mirror.size_of(&file).await?;
            let Some(size) = size else {
                return answer::with(answer::of_file(StatusCode::OK, promised.as_deref()), Body::empty());
            };
            if let Plan::Answer(answer) = answer::plan(method, headers, promised.as_deref(), size)? {
                return Ok(told(answer, &How::Miss));
            }
        }
        let transfer = mirror.transfer(repository, place, &file);
        let (generation, total) = match transfer.begun().await {
            Begun::Kept => continue,
            Begun::Failed(failed) => return Err(failed.into()),
            Begun::Coming { generation, total } => (generation, total),
        };
        mirror.figures.miss();
        let Some(size) = total else {
            let head = answer::of_file(StatusCode::OK, promised.as_deref());
            let body = Body::from_stream(transfer.read(generation, 0, None));
            return answer::with(head, body).map(|it| told(it, &How::Miss));
        };
        return match answer::plan(method, headers, promised.as_deref(), size)? {
            Plan::Answer(answer) => Ok(answer),
            Plan::Send { head, first, end } => {
                if first == 0 {
                    site.0.metrics.download();
                }
                let body = Body::from_stream(transfer.read(generation, first, Some(end)));
                answer::with(head, body).map(|it| told(it, &How::Miss))
            }
        };
    }
    Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, format!("{place} comes and goes; try again")))
}

fn told(mut response: Response, how: &How) -> Response {
    response.extensions_mut().insert(Mirrored(how.word()));
    response
}

/// The content of a file that is here.
pub(super) async fn kept(
    site: &Site,
    mirror: &Mirror,
    place: &Place,
    headers: &HeaderMap,
) -> Result<Sha256, Refusal> {
    let file = find(site, mirror, place, headers).await?;
    let kept = file.kept.as_ref().ok_or_else(|| {
        Refusal::not_found(format!("{place} is not here yet")).hint("fetch the file: it is mirrored then")
    })?;
    mirror.asked(site.repository(), place, &file, kept).await;
    Ok(kept.sha256)
}

/// The signature of a file.
pub(super) async fn signature(
    site: &Site,
    mirror: &Mirror,
    place: &Place,
    headers: &HeaderMap,
) -> Result<String, Refusal> {
    let file = find(site, mirror, place, headers).await?;
    mirror.signature(site.repository(), place, &file).await
}
