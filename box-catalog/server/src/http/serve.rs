//! The server as a whole: it listens, answers, cleans up now and then, and stops when it is told.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use chrono::Utc;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tower::ServiceExt as _;

use super::Site;
use super::log::{Log, Remote};
use super::stall::Stall;
use super::tls::Tls;
use crate::ServerError;
use crate::repository::Repository;
use crate::settings::{Limits, Settings};

/// How often what is not needed any more is let go.
const COLLECT_EVERY: Duration = Duration::from_secs(60 * 60);
/// How long to wait when the system has no descriptor left for a connection.
const BREATHER: Duration = Duration::from_millis(100);

/// A server that listens.
pub struct Server {
    site: Site,
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<Arc<Tls>>,
}

/// What can be asked of a server while it runs.
#[derive(Clone)]
pub struct Handle {
    tls: Option<Arc<Tls>>,
}

/// How a server ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Served {
    /// Whether all transfers that were under way came to their end.
    pub complete: bool,
}

impl Server {
    /// Listens on `address`.
    ///
    /// # Errors
    /// [`ServerError::Listen`], [`ServerError::Tls`], [`ServerError::Mirror`].
    pub async fn bind(
        address: SocketAddr,
        repository: Repository,
        settings: Settings,
        log: Box<dyn Log>,
    ) -> Result<Self, ServerError> {
        let tls = settings.tls.clone().map(Tls::open).transpose()?.map(Arc::new);
        let listen = |source| ServerError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        Ok(Self { site: Site::new(repository, settings, log)?, listener, address, tls })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// What can be asked of it while it runs.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle { tls: self.tls.clone() }
    }

    /// Answers until `stop` is done, and lets transfers under way end.
    pub async fn run(self, stop: impl Future<Output = ()>) -> Served {
        let Self { site, listener, tls, .. } = self;
        let limits = site.0.settings.limits;
        let router = site.router();
        let graceful = GracefulShutdown::new();
        let places = Arc::new(Semaphore::new(limits.connections));
        let collecting = tokio::spawn(collect_now_and_then(site.clone()));
        let mut stop = std::pin::pin!(stop);
        loop {
            let next = async {
                // Never closed.
                let place = places.clone().acquire_owned().await;
                (listener.accept().await, place)
            };
            let (accepted, place) = tokio::select! {
                () = &mut stop => break,
                next = next => next,
            };
            let (stream, remote) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    if !is_of_one_connection(&error) {
                        site.0.log.note(&format!("no connection can be accepted: {error}"));
                        tokio::time::sleep(BREATHER).await;
                    }
                    continue;
                }
            };
            let connection = Connection {
                router: router.clone(),
                remote,
                limits,
                watcher: graceful.watcher(),
                tls: tls.clone(),
            };
            tokio::spawn(async move {
                let _place = place;
                connection.serve(stream).await;
            });
        }
        drop(listener);
        collecting.abort();
        let complete = tokio::time::timeout(limits.farewell, graceful.shutdown()).await.is_ok();
        if let Some(mirror) = site.mirror() {
            mirror.end().await;
        }
        Served { complete }
    }
}

impl Handle {
    /// Reads certificate and key again, for connections from now on.
    ///
    /// # Errors
    /// [`ServerError::Tls`]; then all stays as it is.
    pub fn reload_tls(&self) -> Result<(), ServerError> {
        self.tls.as_ref().map_or(Ok(()), |tls| tls.reload())
    }
}

/// Whether an error of `accept` tells of a connection that is gone, rather than of the listener.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

struct Connection {
    router: Router,
    remote: SocketAddr,
    limits: Limits,
    watcher: hyper_util::server::graceful::Watcher,
    tls: Option<Arc<Tls>>,
}

impl Connection {
    async fn serve(self, stream: TcpStream) {
        // Small answers must not wait for more to send; where it cannot be set, all still works.
        let _ = stream.set_nodelay(true);
        let Some(tls) = &self.tls else { return self.speak(stream, false).await };
        let shaking = tls.acceptor().accept(stream);
        // What never becomes a connection is nobody's request.
        if let Ok(Ok(stream)) = tokio::time::timeout(self.limits.head, shaking).await {
            let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            self.speak(stream, h2).await;
        }
    }

    async fn speak(self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, h2: bool) {
        let io = TokioIo::new(Stall::new(stream, self.limits.stall));
        let remote = Remote(self.remote);
        let service = self.router.map_request(move |request: Request<Incoming>| {
            let mut request = request.map(Body::new);
            // HTTP/2 says it in its own way.
            if let Some(host) = request.uri().authority().and_then(|host| host.as_str().parse().ok()) {
                request.headers_mut().entry(http::header::HOST).or_insert(host);
            }
            request.extensions_mut().insert(remote);
            request
        });
        let service = TowerToHyperService::new(service);
        // An error here is a client that went away, or one that made no sense; hyper has answered what it could.
        let _ = if h2 {
            let mut builder = http2::Builder::new(TokioExecutor::new());
            builder.timer(TokioTimer::new()).max_concurrent_streams(64);
            builder.keep_alive_interval(self.limits.stall / 2).keep_alive_timeout(self.limits.stall / 2);
            self.watcher.watch(builder.serve_connection(io, service)).await
        } else {
            let mut builder = http1::Builder::new();
            builder.timer(TokioTimer::new()).header_read_timeout(self.limits.head).max_buf_size(64 << 10);
            self.watcher.watch(builder.serve_connection(io, service)).await
        };
    }
}

async fn collect_now_and_then(site: Site) {
    let mut clock = tokio::time::interval(COLLECT_EVERY);
    clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        clock.tick().await;
        if let Some(mirror) = site.mirror() {
            let settings = mirror.settings();
            match site.repository().expire_mirrored(Utc::now(), settings.keep, settings.size).await {
                Ok(0) => {}
                Ok(files) => site.0.log.note(&format!("mirrored files that are let go: {files}")),
                Err(error) => site.0.log.note(&format!("mirrored files cannot be let go: {error}")),
            }
            mirror.sweep().await;
        }
        let (retention, grace) = (site.0.settings.retention, site.0.settings.grace);
        match site.repository().collect(Utc::now(), &retention, grace).await {
            Ok(collected) => {
                site.0.metrics.collected(&collected);
                if collected != crate::Collected::default() {
                    site.0.log.note(&format!(
                        "let go: {} versions, {} files, {} chunks with {} bytes",
                        collected.versions, collected.files, collected.chunks, collected.bytes
                    ));
                }
            }
            Err(error) => site.0.log.note(&format!("what is not needed any more cannot be let go: {error}")),
        }
    }
}
