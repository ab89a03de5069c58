//! What a request is refused with.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde_json::json;

use crate::ServerError;
use crate::bundle::InvalidBundle;
use crate::digest::ChunkDigest;
use crate::names::InvalidName;

/// Why a request is not carried out.
#[derive(Debug)]
pub(crate) struct Refusal {
    status: StatusCode,
    message: String,
    hint: Option<&'static str>,
    /// Chunks that would have to be there.
    missing: Option<Vec<ChunkDigest>>,
    /// What went wrong on our side; told to the log, not to the client.
    pub cause: Option<String>,
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), hint: None, missing: None, cause: None }
    }

    pub(crate) fn hint(mut self, hint: &'static str) -> Self {
        self.hint = Some(hint);
        self
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    pub(crate) fn conflict(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, message)
    }

    pub(crate) fn unprocessable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, message)
    }

    pub(crate) fn too_large(message: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, message)
    }

    pub(crate) fn missing(chunks: Vec<ChunkDigest>) -> Self {
        let message = format!("{} chunks of the manifest are not in the repository", chunks.len());
        Self { missing: Some(chunks), ..Self::conflict(message) }.hint("send them, then the manifest again")
    }

    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    pub(crate) fn what_to_do(&self) -> Option<&'static str> {
        self.hint
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }
}

impl From<ServerError> for Refusal {
    fn from(error: ServerError) -> Self {
        let (status, message) = match &error {
            ServerError::Full => {
                (StatusCode::INSUFFICIENT_STORAGE, "there is no room left in the repository")
            }
            ServerError::Contended(_) => {
                (StatusCode::SERVICE_UNAVAILABLE, "too many write to this at once; try again")
            }
            ServerError::Name(_) | ServerError::TokenTaken(_) | ServerError::NoToken(_) => {
                return Self::bad_request(error.to_string());
            }
            ServerError::Damaged { .. } => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "the repository is damaged here; its server's log tells more",
            ),
            _ => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "the repository's storage failed; its server's log tells more",
            ),
        };
        let mut cause = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(error) = source {
            cause = format!("{cause}: {error}");
            source = error.source();
        }
        Self { cause: Some(cause), ..Self::new(status, message) }
    }
}

impl From<InvalidName> for Refusal {
    fn from(error: InvalidName) -> Self {
        Self::bad_request(error.to_string())
    }
}

impl From<InvalidBundle> for Refusal {
    fn from(error: InvalidBundle) -> Self {
        Self::bad_request(error.to_string())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut body = json!({"error": self.message, "hint": self.hint});
        if let Some(missing) = self.missing {
            body["missing"] = json!(missing);
        }
        let mut response = (self.status, axum::Json(body)).into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static("Bearer realm=\"posada\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        if let Some(cause) = self.cause {
            response.extensions_mut().insert(Cause(cause));
        }
        response
    }
}

/// What went wrong on our side, on its way to the access log.
#[derive(Debug, Clone)]
pub(crate) struct Cause(pub String);
