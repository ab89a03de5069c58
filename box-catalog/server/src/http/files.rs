//! Files: fetched as a whole, in parts, or by their manifests; pushed in the same ways.

use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use chrono::Utc;
use http::{HeaderMap, Method, StatusCode};

use super::answer::{self, Plan};
use super::{Site, auth, body, mirrored};
use crate::catalog;
use crate::digest::Sha256;
use crate::document::{BoxDocument, FileEntry, State as VersionState};
use crate::mirror::Place;
use crate::names::{BoxName, Part, VersionName};
use crate::refusal::Refusal;
use crate::repository::{Access, Content, FileManifest, FileReader, Identity, no_box};

const MAX_MANIFEST: u64 = 64 << 20;
const MAX_SIGNATURE: u64 = 4096;
const CHECKSUM: &str = "x-checksum-sha256";

type FilePath = Path<(String, String, String, String, String)>;

/// Which file a path names.
type Target = Place;

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

/// The refusal where there is no such file.
pub(super) fn missing(target: &Target) -> Refusal {
    let Target { name, version, provider, architecture } = target;
    Refusal::not_found(format!("there is no version {version} of {name} for {provider} on {architecture}"))
}

/// What is wanted, where it may be fetched.
fn readable(identity: &Identity, path: FilePath) -> Result<Target, Refusal> {
    let target = Target::of(path)?;
    auth::check(identity, Access::Read, target.name.namespace())?;
    Ok(target)
}

/// What the repository has of its own there.
async fn find(site: &Site, identity: &Identity, target: &Target) -> Result<FileEntry, Refusal> {
    let document = site.repository().find(&target.name).await?.ok_or_else(|| no_box(&target.name))?;
    let may_push = identity.may(Access::Push, target.name.namespace());
    document
        .version(&target.version)
        .filter(|version| version.state != VersionState::Open || may_push)
        .and_then(|version| version.file(&target.provider, &target.architecture))
        .cloned()
        .ok_or_else(|| missing(target))
}

/// The file, or a part of it.
pub(super) async fn fetch(
    State(site): State<Site>,
    Extension(identity): Extension<Identity>,
    path: FilePath,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let target = readable(&identity, path)?;
    if let Some(mirror) = mirrored::mirror_of(&site, &target.name).await? {
        return mirrored::fetch(&site, mirror, &target, &method, &headers).await;
    }
    let entry = find(&site, &identity, &target).await?;
    let tag = entry.sha256.to_string();
    if let Some(answer) = answer::unchanged(&headers, &tag) {
        return answer;
    }
    let Some(file) = site.repository().open_file(&entry.sha256).await? else {
        return Err(crate::ServerError::damaged(entry.sha256, "its manifest is not there").into());
    };
    from_repository(&site, file, &tag, &method, &headers)
}

/// A file that is here, or a part of it.
pub(super) fn from_repository(
    site: &Site,
    file: FileReader,
    tag: &str,
    method: &Method,
    headers: &HeaderMap,
) -> Result<Response, Refusal> {
    match answer::plan(method, headers, Some(tag), file.size())? {
        Plan::Answer(answer) => Ok(answer),
        Plan::Send { head, first, end } => {
            if first == 0 {
                site.0.metrics.download();
            }
            answer::with(head, Body::from_stream(file.read(first, end)))
        }
    }
}

/// Which chunks the file is made of.
pub(super) async fn manifest(
    State(site): State<Site>,
    Extension(identity): Extension<Identity>,
    path: FilePath,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let target = readable(&identity, path)?;
    let sha256 = match mirrored::mirror_of(&site, &target.name).await? {
        Some(mirror) => mirrored::kept(&site, mirror, &target, &headers).await?,
        None => find(&site, &identity, &target).await?.sha256,
    };
    match site.repository().manifest(&sha256).await? {
        Some(manifest) => Ok(Json(&*manifest).into_response()),
        None => Err(crate::ServerError::damaged(sha256, "its manifest is not there").into()),
    }
}

/// The file's signature.
pub(super) async fn signature(
    State(site): State<Site>,
    Extension(identity): Extension<Identity>,
    path: FilePath,
    headers: HeaderMap,
) -> Result<String, Refusal> {
    let target = readable(&identity, path)?;
    if let Some(mirror) = mirrored::mirror_of(&site, &target.name).await? {
        return mirrored::signature(&site, mirror, &target, &headers).await;
    }
    let entry = find(&site, &identity, &target).await?;
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
    mirrored::refuse_push(&site, &target.name).await?;
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
    mirrored::refuse_push(&site, &target.name).await?;
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
    let version = document.version(&target.version).ok_or_else(|| missing(target))?;
    let file = version.file(&target.provider, &target.architecture).ok_or_else(|| missing(target))?;
    let shown = catalog::of_file(&target.name, version, file, &site.base(headers));
    Ok((StatusCode::CREATED, Json(shown)).into_response())
}

fn released(target: &Target) -> Refusal {
    Refusal::conflict(format!("version {} of {} has been released", target.version, target.name))
        .hint("a released version never changes: push under a new version")
}
