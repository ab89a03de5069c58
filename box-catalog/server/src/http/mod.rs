//! Requests and their answers. One file for each kind of thing that is asked for.

mod answer;
mod api;
mod auth;
mod body;
mod boxes;
mod chunks;
mod files;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod log;
mod metrics;
mod mirrored;
mod pages;
mod serve;
mod stall;
mod tls;

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::middleware;
use axum::routing::{get, post};
use http::{HeaderMap, StatusCode, header};

pub use log::{Access as AccessRecord, Log};
pub use serve::{Handle, Served, Server};

use crate::ServerError;
use crate::mirror::Mirror;
use crate::pages::Pages;
use crate::refusal::Refusal;
use crate::repository::Repository;
use crate::settings::Settings;
use metrics::Metrics;

/// What all requests share.
#[derive(Clone)]
pub(crate) struct Site(Arc<Inner>);

struct Inner {
    repository: Repository,
    settings: Settings,
    metrics: Metrics,
    pages: Pages,
    log: Arc<dyn Log>,
    mirror: Option<Arc<Mirror>>,
}

impl Site {
    pub(crate) fn new(
        repository: Repository,
        settings: Settings,
        log: Box<dyn Log>,
    ) -> Result<Self, ServerError> {
        let log: Arc<dyn Log> = log.into();
        let mirror = settings.mirror.clone().map(|mirror| Mirror::new(mirror, log.clone())).transpose()?;
        let metrics = Metrics::default();
        Ok(Self(Arc::new(Inner { repository, settings, metrics, pages: Pages::new(), log, mirror })))
    }

    fn mirror(&self) -> Option<&Arc<Mirror>> {
        self.0.mirror.as_ref()
    }

    fn repository(&self) -> &Repository {
        &self.0.repository
    }

    /// The URL by which the client reaches us, without a slash at its end.
    fn base(&self, headers: &HeaderMap) -> String {
        if let Some(url) = &self.0.settings.public_url {
            return url.as_str().trim_end_matches('/').to_owned();
        }
        let scheme = if self.0.settings.tls.is_some() { "https" } else { "http" };
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).filter(|host| is_host(host));
        format!("{scheme}://{}", host.unwrap_or("localhost"))
    }

    /// All paths there are.
    pub(crate) fn router(&self) -> Router {
        let version = "/api/v1/boxes/{namespace}/{name}/versions/{version}";
        let file = "/{namespace}/{name}/versions/{version}/{provider}/{architecture}";
        Router::new()
            .route("/", get(pages::index))
            .route("/assets/style.css", get(pages::style))
            .route("/healthz", get(api::health))
            .route("/metrics", get(metrics::show))
            .route("/{namespace}/{name}", get(boxes::show))
            .route("/api/v2/vagrant/{namespace}/{name}", get(boxes::catalog))
            .route(&format!("{file}/vagrant.box"), get(files::fetch).put(files::push))
            .route(&format!("{file}/vagrant.box.minisig"), get(files::signature).put(files::push_signature))
            .route(&format!("{file}/manifest"), get(files::manifest).put(files::push_manifest))
            .route("/api/v1/whoami", get(api::whoami))
            .route("/api/v1/boxes", get(boxes::list))
            .route("/api/v1/boxes/{namespace}/{name}", get(boxes::detail).patch(boxes::describe))
            .route(version, axum::routing::delete(boxes::drop_version))
            .route(&format!("{version}/release"), post(boxes::release))
            .route(&format!("{version}/yank"), post(boxes::yank))
            .route(&format!("{version}/unyank"), post(boxes::unyank))
            .route("/api/v1/chunks", post(chunks::store))
            .route("/api/v1/chunks/missing", post(chunks::missing))
            .route("/api/v1/chunks/get", post(chunks::fetch_many))
            .route("/api/v1/chunks/{digest}", get(chunks::fetch))
            .fallback(nothing)
            .method_not_allowed_fallback(not_so)
            .layer(middleware::from_fn_with_state(self.clone(), auth::identify))
            .layer(middleware::from_fn_with_state(self.clone(), log::record))
            .with_state(self.clone())
    }
}

/// Whether a `Host` can be written into URLs: a name or an address, and a port.
fn is_host(host: &str) -> bool {
    !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_:[]".contains(&b))
}

async fn nothing(_: Request) -> Refusal {
    Refusal::not_found("there is nothing here")
}

async fn not_so(_: Request) -> Refusal {
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "this cannot be done here")
}
