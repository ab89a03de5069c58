//! Bodies of requests: bounded in size, and in how long nothing may come.

use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _};
use http::StatusCode;
use serde::de::DeserializeOwned;

use crate::refusal::Refusal;

/// The body as it comes, at most `limit` bytes of it.
pub(super) fn stream(
    body: Body,
    limit: u64,
    stall: Duration,
) -> impl Stream<Item = Result<Bytes, Refusal>> + Send {
    let start = (body.into_data_stream(), 0_u64);
    futures_util::stream::try_unfold(start, move |(mut body, mut came)| async move {
        let next = tokio::time::timeout(stall, body.next())
            .await
            .map_err(|_| Refusal::new(StatusCode::REQUEST_TIMEOUT, "nothing more came of the request"))?;
        let Some(bytes) = next
            .transpose()
            .map_err(|error| Refusal::bad_request(format!("the request broke off: {error}")))?
        else {
            return Ok(None);
        };
        came += bytes.len() as u64;
        if came > limit {
            return Err(Refusal::too_large(format!("this takes at most {limit} bytes")));
        }
        Ok(Some((bytes, (body, came))))
    })
}

/// The whole body.
pub(super) async fn whole(body: Body, limit: u64, stall: Duration) -> Result<Bytes, Refusal> {
    let mut all = BytesMut::new();
    let mut pieces = std::pin::pin!(stream(body, limit, stall));
    while let Some(piece) = pieces.next().await.transpose()? {
        all.extend_from_slice(&piece);
    }
    Ok(all.freeze())
}

/// The body, which is JSON.
pub(super) async fn json<T: DeserializeOwned>(body: Body, limit: u64, stall: Duration) -> Result<T, Refusal> {
    let bytes = whole(body, limit, stall).await?;
    serde_json::from_slice(&bytes)
        .map_err(|error| Refusal::bad_request(format!("the request's JSON cannot be used: {error}")))
}
