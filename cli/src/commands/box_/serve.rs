use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use posada_box_server::{
    AccessRecord, Handle, Limits, Location, Log, MirrorSettings, Repository, Retention, Server, ServerError,
    Settings, Storage, TlsFiles,
};
use posada_fetch::Token;
use serde_json::json;
use tokio::signal::unix::{Signal, SignalKind, signal};
use url::Url;

use crate::context::{Context, env};
use crate::exit::ExitStatus;
use crate::failure::{CliError, Failure, Result};
use crate::printer::Printer;
use crate::servers::{self, ClientArgs};

/// What the mirrored catalog is shown.
const TOKEN: &str = "POSADA_MIRROR_TOKEN";

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

    #[command(flatten)]
    mirror: MirrorArgs,
}

/// What it has besides its own boxes.
#[derive(Debug, clap::Args)]
struct MirrorArgs {
    /// A catalog as Vagrant's, such as another `posada box serve`, whose boxes it fetches when they are asked for, and keeps. Boxes
    /// of its own come first
    #[arg(long, value_name = "URL", value_parser = servers::server)]
    mirror: Option<Url>,

    /// How long what the catalog says of a box is taken to be current
    #[arg(long, value_name = "SECONDS", default_value = "60", requires = "mirror")]
    mirror_fresh: u64,

    /// Keep mirrored files for so many days after they were last asked for
    #[arg(long, value_name = "DAYS", requires = "mirror")]
    mirror_keep: Option<u32>,

    /// Keep so many GB (10^9 bytes) of mirrored files, those that were asked for last; larger ones are not fetched
    #[arg(long, value_name = "GB", requires = "mirror")]
    mirror_size: Option<u64>,

    /// A file with the token that the catalog is shown, and no other server; or POSADA_MIRROR_TOKEN
    #[arg(long, value_name = "FILE", requires = "mirror")]
    mirror_token_file: Option<PathBuf>,

    #[command(flatten)]
    client: ClientArgs,
}

pub fn run(args: Args, context: &Context) -> Result<ExitStatus> {
    let location = location(&args.storage)?;
    let mirror = args.mirror.settings(&location, &context.host.home)?;
    let shown = mirror.as_ref().map(|mirror| posada_fetch::shown(&mirror.upstream));
    let open = mirror.as_ref().is_some_and(|mirror| !mirror.client.tokens.is_empty()) && !args.private;
    let settings = Settings {
        mirror,
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
        printer
            .json(&json!({"event": "serving", "url": url, "address": address.to_string(), "mirror": shown}));
        let mirroring = shown.map(|upstream| format!(", mirroring {upstream}")).unwrap_or_default();
        printer.note(&format!("{} serving {url}{mirroring}", printer.err_palette().tick()));
        if open {
            printer.warn(
                "whoever reaches this server can fetch what the mirror's token opens: `--private` asks them for tokens of their own",
            );
        }
        let handle = server.handle();
        let served = server.run(signals.first(&handle, &printer)).await;
        printer.json(&json!({"event": "served", "complete": served.complete}));
        if !served.complete {
            printer.warn("some transfers did not come to their end in time and were broken off");
        }
        Ok::<_, Failure>(ExitStatus::OK)
    })?
}

impl MirrorArgs {
    fn settings(self, location: &Location, home: &Path) -> Result<Option<MirrorSettings>> {
        let Some(upstream) = self.mirror else { return Ok(None) };
        let secret = match &self.mirror_token_file {
            Some(file) => Some(fs_err::read_to_string(file).map_err(|error| CliError::Usage {
                message: format!("the mirror's token cannot be read: {error}"),
                hint: Some("name a file with the token and nothing else".to_owned()),
            })?),
            None => env(TOKEN),
        };
        let secret = secret.map(|secret| secret.trim().to_owned()).filter(|secret| !secret.is_empty());
        let tokens = secret.map(|secret| Token { server: upstream.clone(), secret: secret.into() });
        let size = self.mirror_size.map(|size| size.saturating_mul(1_000_000_000));
        Ok(Some(MirrorSettings {
            upstream,
            client: servers::settings(&self.client, tokens.into_iter().collect()),
            fresh: Duration::from_secs(self.mirror_fresh),
            keep: self.mirror_keep,
            size,
            limit: size.unwrap_or(u64::MAX).min(Limits::default().file),
            parts: match location {
                Location::Directory(root) => root.join("mirror-parts"),
                Location::Bucket { .. } | Location::Memory => home.join("mirror-parts"),
            },
        }))
    }
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
            "took_ms": took, "agent": access.agent, "mirror": access.mirror,
            "cause": access.cause,
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
    if let Some(mirror) = access.mirror {
        let _ = write!(line, ", mirror: {mirror}");
    }
    if !access.complete {
        let _ = write!(line, ", broken off");
    }
    if let Some(cause) = &access.cause {
        let _ = write!(line, ": {cause}");
    }
    String::from_utf8_lossy(&line).into_owned()
}
