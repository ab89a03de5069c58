use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use posada_box_server::{
    AccessRecord, Handle, Location, Log, Repository, Retention, Server, ServerError, Settings, Storage,
    TlsFiles,
};
use serde_json::json;
use tokio::signal::unix::{Signal, SignalKind, signal};
use url::Url;

use crate::context::Context;
use crate::exit::ExitStatus;
use crate::failure::{CliError, Failure, Result};
use crate::printer::Printer;

/// Serve boxes to a team over HTTP
///
/// Posada and Vagrant fetch boxes from it, and `posada box push` brings them there. Who may do what is told by tokens,
/// see `posada box token`. A line is printed for each request. SIGINT and SIGTERM end it once transfers that are under way have
/// come to their end, a second one at once; SIGHUP has it read certificate and key again.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where the repository is kept: a directory, or `s3://BUCKET/PREFIX` with the variables `AWS_ACCESS_KEY_ID`,
    /// `AWS_SECRET_ACCESS_KEY`, `AWS_ENDPOINT`, `AWS_REGION`
    #[arg(value_name = "STORAGE")]
    storage: String,

    /// Where it listens; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8380")]
    listen: SocketAddr,

    /// The URL by which it is reached, where it stands behind a proxy
    #[arg(long, value_name = "URL")]
    url: Option<Url>,

    /// Nobody fetches without a token
    #[arg(long)]
    private: bool,

    /// The certificate with its chain (PEM); HTTPS is spoken then
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_certificate: Option<PathBuf>,

    /// The certificate's private key (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_certificate")]
    tls_key: Option<PathBuf>,

    /// Keep so many of the newest versions of a box, at least; older ones go
    #[arg(long, value_name = "COUNT")]
    keep: Option<usize>,

    /// Keep versions for so many days, at least
    #[arg(long, value_name = "DAYS")]
    keep_days: Option<u32>,
}

pub fn run(args: Args, context: &Context) -> Result<ExitStatus> {
    let location = location(&args.storage)?;
    let settings = Settings {
        public_url: args.url,
        anonymous_read: !args.private,
        retention: Retention { keep: args.keep, days: args.keep_days },
        tls: args.tls_certificate.zip(args.tls_key).map(|(certificate, key)| TlsFiles { certificate, key }),
        ..Settings::default()
    };
    let (listen, printer) = (args.listen, context.printer.clone());
    context.block_on(async move {
        // From here on, so that no signal falls between the first answer and the first look.
        let signals = Signals::new()?;
        let repository = Repository::new(Storage::open(&location).await?);
        let told = settings.public_url.clone();
        let scheme = if settings.tls.is_some() { "https" } else { "http" };
        let server = Server::bind(listen, repository, settings, Box::new(Lines(printer.clone()))).await?;
        let address = server.address();
        let url = told.map_or_else(|| format!("{scheme}://{address}"), |url| url.to_string());
        printer.json(&json!({"event": "serving", "url": url, "address": address.to_string()}));
        printer.note(&format!("{} serving {url}", printer.err_palette().tick()));
        let handle = server.handle();
        let served = server.run(signals.first(&handle, &printer)).await;
        printer.json(&json!({"event": "served", "complete": served.complete}));
        if !served.complete {
            printer.warn("some transfers did not come to their end in time and were broken off");
        }
        Ok::<_, Failure>(ExitStatus::OK)
    })?
}

/// Where `text` says that a repository is.
pub fn location(text: &str) -> std::result::Result<Location, ServerError> {
    Location::parse(text, crate::buckets::options())
}

/// The signals that a server listens to.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> Result<Self> {
        let listen = |kind| signal(kind).map_err(CliError::internal("cannot listen for signals"));
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }

    /// Done at the first signal that ends it. From then on another one ends the process.
    async fn first(mut self, handle: &Handle, printer: &Printer) {
        loop {
            tokio::select! {
                _ = self.interrupt.recv() => break,
                _ = self.terminate.recv() => break,
                _ = self.hangup.recv() => match handle.reload_tls() {
                    Ok(()) => printer.note("certificate and key were read again"),
                    Err(error) => printer.warn(&format!("{error}; the ones from before stay")),
                },
            }
        }
        printer.note("ending; transfers that are under way come to their end (once more to end at once)");
        tokio::spawn(async move {
            let number = tokio::select! {
                _ = self.interrupt.recv() => SignalKind::interrupt().as_raw_value(),
                _ = self.terminate.recv() => SignalKind::terminate().as_raw_value(),
            };
            // Nothing is half done in a repository: what was not acknowledged was not taken in.
            std::process::exit(ExitStatus::signal(number).code().into());
        });
    }
}

/// Prints a line for each request.
struct Lines(Printer);

impl Log for Lines {
    fn access(&self, access: &AccessRecord) {
        let time = DateTime::<Utc>::from(access.time).to_rfc3339_opts(SecondsFormat::Millis, true);
        let took = u64::try_from(access.took.as_millis()).unwrap_or(u64::MAX);
        self.0.json(&json!({
            "event": "request", "time": time, "remote": access.remote, "token": access.token, "method": access.method,
            "path": access.path, "status": access.status, "bytes": access.bytes, "complete": access.complete,
            "took_ms": took, "agent": access.agent, "cause": access.cause,
        }));
        self.0.line(&line(access, &time, access.took));
    }

    fn note(&self, text: &str) {
        self.0.warn(text);
    }
}

fn line(access: &AccessRecord, time: &str, took: Duration) -> String {
    let mut line = Vec::new();
    let remote = access.remote.map_or_else(|| "-".to_owned(), |remote| remote.ip().to_string());
    // Writing to memory does not fail.
    let _ = write!(
        line,
        "{time} {remote} {} {} {} {} {} ms",
        access.token.as_deref().unwrap_or("-"),
        access.method,
        access.path,
        access.status,
        took.as_millis()
    );
    if access.bytes > 0 {
        let _ = write!(line, ", {}", crate::printer::style::bytes(access.bytes));
    }
    if !access.complete {
        let _ = write!(line, ", broken off");
    }
    if let Some(cause) = &access.cause {
        let _ = write!(line, ": {cause}");
    }
    String::from_utf8_lossy(&line).into_owned()
}
