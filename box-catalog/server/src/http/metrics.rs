//! Figures in the text format of Prometheus (version 0.0.4).

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use axum::Extension;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header;

use super::log::Access;
use super::{Site, auth};
use crate::mirror::Figures;
use crate::refusal::Refusal;
use crate::repository::{self, Collected, Identity};

/// The bounds of the buckets for how long requests took, seconds.
const BOUNDS: [f64; 8] = [0.005, 0.025, 0.1, 0.5, 2.5, 10.0, 60.0, 600.0];

/// What has been counted since the start.
#[derive(Debug, Default)]
pub(super) struct Metrics {
    in_flight: AtomicU64,
    requests: Mutex<BTreeMap<(&'static str, u16), u64>>,
    durations: [AtomicU64; BOUNDS.len()],
    duration_count: AtomicU64,
    duration_micros: AtomicU64,
    sent: AtomicU64,
    broken: AtomicU64,
    downloads: AtomicU64,
    chunks: AtomicU64,
    gc_runs: AtomicU64,
    gc_bytes: AtomicU64,
}

impl Metrics {
    pub(super) fn begin(&self) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn end(&self, access: &Access) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
        self.sent.fetch_add(access.bytes, Ordering::Relaxed);
        self.broken.fetch_add(u64::from(!access.complete), Ordering::Relaxed);
        let micros = u64::try_from(access.took.as_micros()).unwrap_or(u64::MAX);
        self.duration_micros.fetch_add(micros, Ordering::Relaxed);
        self.duration_count.fetch_add(1, Ordering::Relaxed);
        for (bound, count) in BOUNDS.iter().zip(&self.durations) {
            count.fetch_add(u64::from(access.took.as_secs_f64() <= *bound), Ordering::Relaxed);
        }
        // Methods are the client's to choose: the figures must not grow with them.
        let known = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"];
        let method = known.into_iter().find(|known| *known == access.method).unwrap_or("other");
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        *requests.entry((method, access.status)).or_default() += 1;
    }

    pub(super) fn download(&self) {
        self.downloads.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn chunks_stored(&self, count: u64) {
        self.chunks.fetch_add(count, Ordering::Relaxed);
    }

    pub(super) fn collected(&self, collected: &Collected) {
        self.gc_runs.fetch_add(1, Ordering::Relaxed);
        self.gc_bytes.fetch_add(collected.bytes, Ordering::Relaxed);
    }

    fn render(&self, mirror: Option<&Figures>) -> String {
        let mut text = String::new();
        let mut head = |name: &str, kind: &str, help: &str, lines: &str| {
            // Writing to a String cannot fail.
            let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{lines}");
        };
        let value = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        let lines: String = requests
            .iter()
            .map(|((method, status), count)| {
                format!("posada_http_requests_total{{method=\"{method}\",status=\"{status}\"}} {count}\n")
            })
            .collect();
        head("posada_http_requests_total", "counter", "Requests answered.", &lines);
        let name = "posada_http_request_seconds";
        let mut lines: String = BOUNDS
            .iter()
            .zip(&self.durations)
            .map(|(bound, count)| format!("{name}_bucket{{le=\"{bound}\"}} {}\n", value(count)))
            .collect();
        let (count, sum) = (value(&self.duration_count), value(&self.duration_micros) as f64 / 1e6);
        let _ =
            write!(lines, "{name}_bucket{{le=\"+Inf\"}} {count}\n{name}_sum {sum}\n{name}_count {count}\n");
        head(name, "histogram", "From a request's head to its answer's end.", &lines);
        for (name, kind, help, counter) in [
            ("posada_http_requests_in_flight", "gauge", "Requests being answered.", &self.in_flight),
            ("posada_http_sent_bytes_total", "counter", "Bytes of answers.", &self.sent),
            ("posada_http_broken_total", "counter", "Answers that were not sent to their end.", &self.broken),
            (
                "posada_box_downloads_total",
                "counter",
                "Box files asked for from their beginning.",
                &self.downloads,
            ),
            ("posada_chunks_stored_total", "counter", "Chunks that pushes brought.", &self.chunks),
            ("posada_gc_runs_total", "counter", "Collections of what is not needed any more.", &self.gc_runs),
            ("posada_gc_freed_bytes_total", "counter", "Bytes that collections freed.", &self.gc_bytes),
        ] {
            head(name, kind, help, &format!("{name} {}\n", value(counter)));
        }
        for (name, help, counter) in mirror.iter().flat_map(|figures| figures.all()) {
            head(name, "counter", help, &format!("{name} {}\n", value(counter)));
        }
        text
    }
}

/// The figures. Where fetching needs a token, they do, too.
pub(super) async fn show(
    State(site): State<Site>,
    Extension(identity): Extension<Identity>,
) -> Result<Response, Refusal> {
    auth::check_somewhere(&identity, repository::Access::Read)?;
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    Ok((kind, site.0.metrics.render(site.mirror().map(|mirror| &mirror.figures))).into_response())
}
