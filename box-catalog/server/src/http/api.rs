//! What is asked of the server itself.

use axum::Extension;
use axum::Json;
use axum::response::IntoResponse;

use crate::repository::Identity;

/// That it runs.
pub(super) async fn health() -> &'static str {
    "ok\n"
}

/// What the token allows.
pub(super) async fn whoami(Extension(identity): Extension<Identity>) -> impl IntoResponse {
    Json(identity)
}
