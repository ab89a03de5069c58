//! Chunks, one by one and many at once.

use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use bytes::Bytes;
use futures_util::stream::FuturesUnordered;
use futures_util::{StreamExt as _, TryStreamExt as _};
use http::header;
use serde::Deserialize;
use serde_json::json;

use super::{Site, auth, body};
use crate::ServerError;
use crate::bundle::{self, Packed, Unbundle};
use crate::digest::ChunkDigest;
use crate::refusal::Refusal;
use crate::repository::{Access, Identity};

/// The largest list of digests, bytes, and how many there may be to ask for or about.
const MAX_LIST: u64 = 8 << 20;
const MAX_ASKED_ABOUT: usize = 65_536;
const MAX_ASKED_FOR: usize = 4_096;
/// The largest bundle, bytes.
const MAX_BUNDLE: u64 = 1 << 30;
/// How many chunks are kept, or read, at once.
const AT_ONCE: usize = 4;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Digests {
    digests: Vec<ChunkDigest>,
}

/// A chunk.
pub(super) async fn fetch(
    State(site): State<Site>,
    Extension(identity): Extension<Identity>,
    Path(digest): Path<String>,
) -> Result<Response, Refusal> {
    auth::check_somewhere(&identity, Access::Read)?;
    let digest = ChunkDigest::parse(&digest).ok_or_else(|| Refusal::not_found("this is no chunk's name"))?;
    let frame = site.repository().chunk(&digest).await?.ok_or_else(|| no_chunk(&digest))?;
    let kind = [
        (header::CONTENT_TYPE, "application/zstd"),
        (header::CACHE_CONTROL, "private, max-age=31536000, immutable"),
    ];
    Ok((kind, frame).into_response())
}

fn no_chunk(digest: &ChunkDigest) -> Refusal {
    Refusal::not_found(format!("there is no chunk {digest}"))
}

/// Many chunks, as a bundle.
pub(super) async fn fetch_many(
    State(site): State<Site>,
    Extension(identity): Extension<Identity>,
    request: Body,
) -> Result<Response, Refusal> {
    auth::check_somewhere(&identity, Access::Read)?;
    let Digests { digests } = body::json(request, MAX_LIST, site.0.settings.limits.stall).await?;
    if digests.len() > MAX_ASKED_FOR {
        return Err(Refusal::too_large(format!("at most {MAX_ASKED_FOR} chunks can be asked for at once")));
    }
    // Once the answer has begun there is no other way to say that one is not there than to break off.
    if let Some(missing) = site.repository().missing_chunks(&digests).await?.first() {
        return Err(no_chunk(missing));
    }
    let repository = site.repository().clone();
    let records = futures_util::stream::iter(digests)
        .map(move |digest| {
            let repository = repository.clone();
            async move {
                let gone = || ServerError::damaged(digest, "it is not there");
                let frame = repository.chunk(&digest).await?.ok_or_else(gone)?;
                let length = repository.length_of(&digest, &frame)?;
                let packed = Packed { digest, length, frame };
                Ok::<[Result<Bytes, ServerError>; 2], ServerError>([
                    Ok(bundle::head(&packed)),
                    Ok(packed.frame),
                ])
            }
        })
        .buffered(AT_ONCE)
        .map_ok(futures_util::stream::iter)
        .try_flatten();
    let kind = [(header::CONTENT_TYPE, "application/vnd.posada.chunks")];
    Ok((kind, Body::from_stream(records)).into_response())
}

/// Which chunks are not there.
pub(super) async fn missing(
    State(site): State<Site>,
    Extension(identity): Extension<Identity>,
    request: Body,
) -> Result<Response, Refusal> {
    auth::check_somewhere(&identity, Access::Push)?;
    let Digests { digests } = body::json(request, MAX_LIST, site.0.settings.limits.stall).await?;
    if digests.len() > MAX_ASKED_ABOUT {
        return Err(Refusal::too_large(format!(
            "at most {MAX_ASKED_ABOUT} chunks can be asked about at once"
        )));
    }
    let missing = site.repository().missing_chunks(&digests).await?;
    Ok(Json(json!({"missing": missing})).into_response())
}

/// Keeps the chunks of a bundle. Those that came before it broke off are kept, too.
pub(super) async fn store(
    State(site): State<Site>,
    Extension(identity): Extension<Identity>,
    request: Body,
) -> Result<Response, Refusal> {
    auth::check_somewhere(&identity, Access::Push)?;
    let mut pieces = std::pin::pin!(body::stream(request, MAX_BUNDLE, site.0.settings.limits.stall));
    let (mut unbundle, mut stored) = (Unbundle::default(), 0_u64);
    let mut keeping = FuturesUnordered::new();
    while let Some(piece) = pieces.next().await.transpose()? {
        unbundle.feed(&piece);
        while let Some(packed) = unbundle.take()? {
            keeping.push(site.repository().put_chunk(packed));
            if keeping.len() >= AT_ONCE {
                stored += u64::from(keeping.try_next().await?.unwrap_or_default());
            }
        }
    }
    while let Some(new) = keeping.try_next().await? {
        stored += u64::from(new);
    }
    unbundle.end()?;
    site.0.metrics.chunks_stored(stored);
    Ok(Json(json!({"stored": stored})).into_response())
}
