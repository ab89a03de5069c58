//! Files: fetched as a whole, in parts, or by their manifests; pushed in the same ways.

use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use chrono::Utc;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};

use super::{Site, auth, body};
use crate::catalog;
use crate::digest::Sha256;
use crate::document::{BoxDocument, FileEntry, State as VersionState};
use crate::names::{BoxName, Part, VersionName};
use crate::range::{self, Wanted};
use crate::refusal::Refusal;
use crate::repository::{Access, Content, FileManifest, Identity, no_box};

const MAX_MANIFEST: u64 = 64 << 20;
const MAX_SIGNATURE: u64 = 4096;
const CHECKSUM: &str = "x-checksum-sha256";

type FilePath = Path<(String, String, String, String, String)>;

/// Which file a path names.
struct Target {
    name: BoxName,
    version: VersionName,
    provider: Part,
    architecture: Part,
}

impl Target {
    fn of(path: FilePath) -> Result<Self, Refusal> {
        let Path((namespace, name, version, provider, architecture)) = path;
        Ok(Self {
            name: BoxName::new(&namespace, &name)?,
            version: VersionName::parse(&version)?,
            provider: Part::parse(&provider)?,
            architecture: Part::parse(&architecture)?,
        })
    }

    fn missing(&self) -> Refusal {
        let Self { name, version, provider, architecture } = self;
        Refusal::not_found(format!(
            "there is no version {version} of {name} for {provider} on {architecture}"
        ))
    }

    fn entry(&self, size: u64, sha256: Sha256) -> FileEntry {
        FileEntry {
            provider: self.provider.clone(),
            architecture: self.architecture.clone(),
            size,
            sha256,
            added: Utc::now(),
            signature: None,
        }
    }
}

/// What the repository has where `path` points.
async fn find(site: &Site, identity: &Identity, path: FilePath) -> Result<FileEntry, Refusal> {
    let target = Target::of(path)?;
    auth::check(identity, Access::Read, target.name.namespace())?;
    let document = site.repository().find(&target.name).await?.ok_or_else(|| no_box(&target.name))?;
    let may_push = identity.may(Access::Push, target.name.namespace());
    document
        .version(&target.version)
        .filter(|version| version.state != VersionState::Open || may_push)
        .and_then(|version| version.file(&target.provider, &target.architecture))
        .cloned()
        .ok_or_else(|| target.missing())
}

/// The file, or a part of it.
pub(super) async fn fetch(
    State(site): State<Site>,
    Extension(identity): Extension<Identity>,
    path: FilePath,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let entry = find(&site, &identity, path).await?;
    let tag = format!("\"{}\"", entry.sha256);
    let named = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let common = |status: StatusCode| {
        Response::builder()
            .status(status)
            .header(header::ETAG, &tag)
            .header(header::ACCEPT_RANGES, "bytes")
            .header(header::CACHE_CONTROL, "private, max-age=31536000, immutable")
    };
    if named(header::IF_NONE_MATCH).is_some_and(|tags| matches(tags, &tag)) {
        return answer(common(StatusCode::NOT_MODIFIED), Body::empty());
    }
    let Some(file) = site.repository().open_file(&entry.sha256).await? else {
        return Err(crate::ServerError::damaged(entry.sha256, "its manifest is not there").into());
    };
    let size = file.size();
    // If-Range compares strongly (RFC 9110, 13.1.5): a weak tag or a date is no match.
    let range = named(header::RANGE).filter(|_| named(header::IF_RANGE).is_none_or(|wanted| wanted == tag));
    let (status, first, end) = match range.map_or(Wanted::All, |range| range::parse(range, size)) {
        Wanted::All => (StatusCode::OK, 0, size),
        Wanted::Part { first, end } => (StatusCode::PARTIAL_CONTENT, first, end),
        Wanted::Unsatisfiable => {
            let builder = common(StatusCode::RANGE_NOT_SATISFIABLE)
                .header(header::CONTENT_RANGE, format!("bytes */{size}"));
            return answer(builder, Body::empty());
        }
    };
    let mut builder = common(status)
        .header(header::CONTENT_TYPE, "application/octet-stream")
        .header(header::CONTENT_LENGTH, end - first)
        .header(header::X_CONTENT_TYPE_OPTIONS, "nosniff")
        .header(header::CONTENT_DISPOSITION, "attachment; filename=\"vagrant.box\"");
    if status == StatusCode::PARTIAL_CONTENT {
        builder = builder.header(header::CONTENT_RANGE, format!("bytes {first}-{}/{size}", end - 1));
    }
    if method == Method::HEAD {
        return answer(builder, Body::empty());
    }
    if first == 0 {
        site.0.metrics.download();
    }
    answer(builder, Body::from_stream(file.read(first, end)))
}

fn answer(builder: http::response::Builder, body: Body) -> Result<Response, Refusal> {
    builder.body(body).map_err(|error| {
        let mut refusal = Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "the answer could not be written");
        refusal.cause = Some(error.to_string());
        refusal
    })
}

/// Whether one of `tags` is `tag`; compared weakly (RFC 9110, 13.1.2).
fn matches(tags: &str, tag: &str) -> bool {
    tags.trim() == "*" || tags.split(',').any(|there| there.trim().trim_start_matches("W/") == tag)
}

/// Which chunks the file is made of.
pub(super) async fn manifest(
    State(site): State<Site>,
    Extension(identity): Extension<Identity>,
    path: FilePath,
) -> Result<Response, Refusal> {
    let entry = find(&site, &identity, path).await?;
    match site.repository().manifest(&entry.sha256).await? {
        Some(manifest) => Ok(Json(&*manifest).into_response()),
        None => Err(crate::ServerError::damaged(entry.sha256, "its manifest is not there").into()),
    }
}

/// The file's signature.
pub(super) async fn signature(
    State(site): State<Site>,
    Extension(identity): Extension<Identity>,
    path: FilePath,
) -> Result<String, Refusal> {
    let entry = find(&site, &identity, path).await?;
    entry.signature.ok_or_else(|| Refusal::not_found("this file is not signed"))
}

/// Takes in the signature of a file that is there.
pub(super) async fn push_signature(
    State(site): State<Site>,
    Extension(identity): Extension<Identity>,
    path: FilePath,
    request: Body,
) -> Result<StatusCode, Refusal> {
    let target = Target::of(path)?;
    auth::check(&identity, Access::Push, target.name.namespace())?;
    let bytes = body::whole(request, MAX_SIGNATURE, site.0.settings.limits.stall).await?;
    let text = String::from_utf8(bytes.to_vec()).ok().filter(|text| text.starts_with("untrusted comment:"));
    let text = text.ok_or_else(|| Refusal::bad_request("this is no signature of minisign's"))?;
    let Target { name, version, provider, architecture } = &target;
    site.repository().sign(name, version, provider, architecture, &text).await?;
    Ok(StatusCode::CREATED)
}

/// Takes in a whole file.
pub(super) async fn push(
    State(site): State<Site>,
    Extension(identity): Extension<Identity>,
    path: FilePath,
    headers: HeaderMap,
    request: Body,
) -> Result<Response, Refusal> {
    let target = Target::of(path)?;
    auth::check(&identity, Access::Push, target.name.namespace())?;
    let expected = match headers.get(CHECKSUM) {
        None => None,
        Some(value) => Some(value.to_str().ok().and_then(Sha256::parse).ok_or_else(|| {
            Refusal::bad_request(format!("`{CHECKSUM}` is no SHA-256: 64 lower-case hexadecimal digits"))
        })?),
    };
    // Before anything is sent in vain.
    if let Some(document) = site.repository().find(&target.name).await? {
        let there = document.version(&target.version).filter(|version| version.state != VersionState::Open);
        if let Some(version) = there {
            let same = version
                .file(&target.provider, &target.architecture)
                .filter(|file| Some(file.sha256) == expected);
            return match same {
                Some(_) => pushed(&site, &target, &document, &headers),
                None => Err(released(&target)),
            };
        }
    }
    let limits = &site.0.settings.limits;
    let manifest =
        site.repository().ingest(body::stream(request, limits.file, limits.stall), expected).await?;
    add(&site, &target, &manifest, &headers).await
}

/// Takes in a file whose chunks are there.
pub(super) async fn push_manifest(
    State(site): State<Site>,
    Extension(identity): Extension<Identity>,
    path: FilePath,
    headers: HeaderMap,
    request: Body,
) -> Result<Response, Refusal> {
    let target = Target::of(path)?;
    auth::check(&identity, Access::Push, target.name.namespace())?;
    let bytes = body::whole(request, MAX_MANIFEST, site.0.settings.limits.stall).await?;
    let manifest = FileManifest::parse(&bytes).map_err(|error| Refusal::bad_request(error.to_string()))?;
    site.repository().put_manifest(manifest.clone(), Content::Claimed).await?;
    add(&site, &target, &manifest, &headers).await
}

async fn add(
    site: &Site,
    target: &Target,
    manifest: &FileManifest,
    headers: &HeaderMap,
) -> Result<Response, Refusal> {
    let entry = target.entry(manifest.size, manifest.sha256);
    let document = site.repository().add_file(&target.name, &target.version, entry).await?;
    pushed(site, target, &document, headers)
}

fn pushed(
    site: &Site,
    target: &Target,
    document: &BoxDocument,
    headers: &HeaderMap,
) -> Result<Response, Refusal> {
    let version = document.version(&target.version).ok_or_else(|| target.missing())?;
    let file = version.file(&target.provider, &target.architecture).ok_or_else(|| target.missing())?;
    let shown = catalog::of_file(&target.name, version, file, &site.base(headers));
    Ok((StatusCode::CREATED, Json(shown)).into_response())
}

fn released(target: &Target) -> Refusal {
    Refusal::conflict(format!("version {} of {} has been released", target.version, target.name))
        .hint("a released version never changes: push under a new version")
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
