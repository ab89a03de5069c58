//! Buckets of object stores that speak S3.
//!
//! What is small is read and written through `object_store`; large files come by URLs that are signed for them, so that a download from
//! a bucket is like any other: in several ranges, resumed, verified.

pub(crate) mod layout;
mod upload;

use std::time::Duration;

use futures_util::TryStreamExt as _;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path;
use object_store::signer::Signer as _;
use object_store::{
    Certificate, ClientOptions, ObjectStore as _, ObjectStoreExt as _, PutMode, PutOptions, RetryConfig,
};
use posada_fetch::{Method, Settings, Stop};
use posada_provider_api::FaultKind;
use tokio::runtime::{Builder, Runtime};
use url::Url;

use crate::{BoxError, BucketRef};

/// How long a URL is good for that was signed: a large file over a slow line.
const SIGNED_FOR: Duration = Duration::from_secs(12 * 60 * 60);
/// How long one request is tried again.
const PATIENCE: Duration = Duration::from_secs(30);
const TRIES: usize = 4;
/// Names that are read of one listing.
const MAX_KEYS: usize = 100_000;
/// What says that a bucket is open to everybody.
const PUBLIC: [&str; 2] = ["aws_skip_signature", "skip_signature"];

/// A bucket.
pub(crate) struct Bucket<'a> {
    at: &'a BucketRef,
    store: AmazonS3,
    /// Whether it is asked without saying who asks.
    public: bool,
    /// Whether it was said which server it is on.
    placed: bool,
    runtime: Runtime,
    stop: &'a Stop,
}

impl<'a> Bucket<'a> {
    /// The bucket of `at`, reached as `options` say ([`crate::Remotes::buckets`]).
    pub fn open(
        at: &'a BucketRef,
        options: &[(String, String)],
        settings: &Settings,
        stop: &'a Stop,
    ) -> Result<Self, BoxError> {
        // Whoever was first in this process has installed the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let set = |names: &[&str]| {
            options.iter().find(|(name, _)| names.contains(&name.as_str())).map(|(_, value)| value.as_str())
        };
        let public = set(&PUBLIC).is_some_and(|value| ["true", "1", "yes"].contains(&value));
        let endpoint = set(&["aws_endpoint", "aws_endpoint_url", "aws_endpoint_url_s3", "endpoint"]);
        let runtime = Builder::new_current_thread().enable_all().build();
        let mut builder = AmazonS3Builder::new();
        for (name, value) in options {
            if let Ok(key) = name.parse() {
                builder = builder.with_config(key, value);
            }
        }
        if public {
            // A URL is only had signed; by whom does not matter, as its signature is left out.
            builder = builder.with_access_key_id("nobody").with_secret_access_key("nothing");
        }
        let retry = RetryConfig { max_retries: TRIES, retry_timeout: PATIENCE, ..RetryConfig::default() };
        let store = builder
            .with_bucket_name(at.bucket())
            .with_client_options(client_options(settings)?)
            .with_allow_http(endpoint.is_some_and(|url| url.starts_with("http://")))
            .with_retry(retry)
            .build()
            .map_err(|error| unusable(at, &error))?;
        Ok(Self {
            at,
            store,
            public,
            placed: endpoint.is_some(),
            runtime: runtime.map_err(|error| BoxError::io("start", "the event loop", error))?,
            stop,
        })
    }

    /// Where `key` can be had from for some time, without anything else.
    pub fn url(&self, key: &str) -> Result<Url, BoxError> {
        let path = self.path(key)?;
        let mut url = self.run(self.store.signed_url(Method::GET, &path, SIGNED_FOR))?;
        if self.public {
            url.set_query(None);
        }
        Ok(url)
    }

    /// Whether there is an object `key`.
    pub fn has(&self, key: &str) -> Result<bool, BoxError> {
        let path = self.path(key)?;
        self.run(async {
            match self.store.head(&path).await {
                Ok(_) => Ok(true),
                Err(object_store::Error::NotFound { .. }) => Ok(false),
                Err(error) => Err(error),
            }
        })
    }

    /// What is in the object `key`, where it is there and has `limit` bytes at most.
    pub fn read(&self, key: &str, limit: u64) -> Result<Option<Vec<u8>>, BoxError> {
        let path = self.path(key)?;
        self.run(async {
            let found = match self.store.get(&path).await {
                Ok(found) if found.meta.size > limit => return Ok(None),
                Ok(found) => found,
                Err(object_store::Error::NotFound { .. }) => return Ok(None),
                Err(error) => return Err(error),
            };
            Ok(Some(found.bytes().await?.to_vec()))
        })
    }

    /// The names of all objects below `prefix`, without it.
    pub fn keys(&self, prefix: &str) -> Result<Vec<String>, BoxError> {
        let path = self.path(prefix)?;
        let skip = path.parts().count();
        let found = self.run(async {
            let mut keys = Vec::new();
            let mut listing = self.store.list((skip > 0).then_some(&path));
            while let Some(meta) = listing.try_next().await? {
                if keys.len() == MAX_KEYS {
                    return Ok(None);
                }
                keys.push(meta.location.parts().skip(skip).collect::<Path>().to_string());
            }
            Ok(Some(keys))
        })?;
        found.ok_or_else(|| self.refuse(format!("has more than {MAX_KEYS} objects below `{prefix}`"), None))
    }

    /// Writes the object `key`, unless there is one; whether it was written.
    pub fn create(&self, key: &str, bytes: Vec<u8>) -> Result<bool, BoxError> {
        let path = self.path(key)?;
        self.run(async {
            let options = PutOptions::from(PutMode::Create);
            match self.store.put_opts(&path, bytes.into(), options).await {
                Ok(_) => Ok(true),
                Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
                    Ok(false)
                }
                Err(error) => Err(error),
            }
        })
    }

    fn path(&self, key: &str) -> Result<Path, BoxError> {
        Path::parse(key).map_err(|error| self.refuse(format!("has no object `{key}`: {error}"), None))
    }

    fn run<T>(&self, work: impl Future<Output = object_store::Result<T>>) -> Result<T, BoxError> {
        self.runtime.block_on(async {
            tokio::select! {
                done = work => done.map_err(|error| self.failed(&error)),
                () = self.stop.stopped() => Err(BoxError::Cancelled),
            }
        })
    }

    fn failed(&self, error: &object_store::Error) -> BoxError {
        use object_store::Error;

        let hint = "give AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, of somebody who may; \
                    AWS_SKIP_SIGNATURE=true is for what is public";
        let said = innermost(error);
        // Of listings, the status is only told in words.
        let refused = matches!(error, Error::PermissionDenied { .. } | Error::Unauthenticated { .. })
            || ["401", "403"].iter().any(|status| said.contains(&format!("status code: {status}")));
        let code = said.split_once("<Code>").and_then(|(_, rest)| Some(rest.split_once("</Code>")?.0));
        match (error, code) {
            (_, code) if refused => {
                let code = code.map(|code| format!(" ({code})")).unwrap_or_default();
                self.refuse(format!("refuses it to who is asking{code}"), Some(hint.to_owned()))
            }
            (Error::NotFound { .. }, _) => self.refuse("is not there".to_owned(), self.elsewhere()),
            (_, code) => self.refuse(format!("cannot be used: {}", code.unwrap_or(&said)), self.elsewhere()),
        }
    }

    /// What to look at where it may be another server that is meant.
    fn elsewhere(&self) -> Option<String> {
        let hint = match self.placed {
            true => "is AWS_ENDPOINT the URL of its server, and AWS_REGION its region?",
            false => "AWS_ENDPOINT names the server where it is not Amazon's, and AWS_REGION the region",
        };
        Some(hint.to_owned())
    }

    /// An error that says what the bucket does instead of what it was asked.
    pub fn refuse(&self, what: String, hint: Option<String>) -> BoxError {
        refuse(self.at, what, hint)
    }
}

fn refuse(at: &BucketRef, what: String, hint: Option<String>) -> BoxError {
    BoxError::Repository { server: at.at("").to_string(), what, hint, kind: FaultKind::Environment }
}

fn unusable(at: &BucketRef, error: &dyn std::error::Error) -> BoxError {
    let hint = "look at the variables AWS_…, and at ~/.aws".to_owned();
    refuse(at, format!("cannot be used: {}", innermost(error)), Some(hint))
}

fn client_options(settings: &Settings) -> Result<ClientOptions, BoxError> {
    let mut options = ClientOptions::new().with_allow_invalid_certificates(settings.insecure);
    for path in &settings.authorities {
        let pem = fs_err::read(path).map_err(|error| BoxError::io("read", path, error))?;
        let certificates = Certificate::from_pem_bundle(&pem)
            .map_err(|error| BoxError::io("use the certificates in", path, std::io::Error::other(error)))?;
        options = certificates.into_iter().fold(options, ClientOptions::with_root_certificate);
    }
    Ok(options)
}

/// What an error says at its bottom, in one line: those above it repeat it.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    let text = innermost.to_string();
    text.lines().next().unwrap_or_default().chars().take(300).collect()
}
