//! One repository of a registry, and what is asked of it.

use std::cell::RefCell;

use posada_fetch::{Algorithm, Checksum, Client, Exchange, FetchError, Method, Reply, Stop, shown};
use posada_provider_api::FaultKind;
use serde::Deserialize;
use url::Url;
use zeroize::Zeroizing;

use super::auth::{Challenge, Login, LoginPlaces, granted};
use super::manifest::ACCEPT;
use super::{Descriptor, ImageRef};
use crate::{BoxError, Progress};

/// Bytes of a manifest, an index or a configuration that are read. Registries take manifests of 4 MiB.
const MAX_SMALL: u64 = 8 << 20;

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Reading.
    Pull,
    /// Writing, too.
    Push,
}

/// One repository of a registry.
pub struct Registry<'a> {
    client: Client,
    image: ImageRef,
    access: Access,
    /// Where the repository is: ends with a slash.
    base: Url,
    /// Where a login for it may be.
    logins: LoginPlaces,
    /// The client that shows what the registry wants to see.
    known: RefCell<Option<Client>>,
    progress: &'a dyn Progress,
    stop: &'a Stop,
}

/// What registries say where they refuse something.
#[derive(Deserialize)]
struct Errors {
    errors: Vec<Said>,
}

#[derive(Deserialize)]
struct Said {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

impl<'a> Registry<'a> {
    /// The repository of `image`. One of this host may speak without encryption.
    ///
    /// # Errors
    /// [`BoxError::Cancelled`].
    pub fn open(
        image: &ImageRef,
        access: Access,
        logins: &LoginPlaces,
        client: &Client,
        progress: &'a dyn Progress,
        stop: &'a Stop,
    ) -> Result<Self, BoxError> {
        let base = |scheme: &str| {
            Url::parse(&format!("{scheme}://{}/v2/{}/", image.registry(), image.repository()))
                .map_err(|error| BoxError::Name(format!("{image}: {error}")))
        };
        let mut base_url = base("https")?;
        if image.is_local() && speaks_plainly(client, &base("http")?, stop)? {
            base_url = base("http")?;
        }
        Ok(Self {
            client: client.clone(),
            image: image.clone(),
            access,
            base: base_url,
            logins: logins.clone(),
            known: RefCell::default(),
            progress,
            stop,
        })
    }

    /// A URL in the repository.
    pub fn url(&self, path: &str) -> Result<Url, BoxError> {
        self.base.join(path).map_err(|error| self.nonsense(error.to_string()))
    }

    /// Where content is.
    pub fn blob_url(&self, digest: &Checksum) -> Result<Url, BoxError> {
        self.url(&format!("blobs/{digest}"))
    }

    /// A client that shows what the registry wants to see.
    pub fn client(&self) -> Client {
        self.known.borrow().clone().unwrap_or_else(|| self.client.clone())
    }

    /// What lies at a tag or digest, and what it comes to.
    pub fn manifest(&self, reference: &str) -> Result<(Vec<u8>, Checksum), BoxError> {
        let url = self.url(&format!("manifests/{reference}"))?;
        let headers = vec![("accept", ACCEPT.to_owned())];
        let reply = self.call(&Exchange { headers, ..Exchange::new(Method::GET, &url) })?;
        if reply.status == 404 {
            return Err(BoxError::Repository {
                server: self.shown(),
                what: format!("has no image or box `{reference}`{}", said(&reply)),
                hint: Some(
                    "is it written correctly? A registry may say so, too, of what it does not let you see"
                        .to_owned(),
                ),
                kind: FaultKind::Box,
            });
        }
        self.accepted(&reply)?;
        if reply.bytes.len() as u64 > MAX_SMALL {
            return Err(self.nonsense(format!("answers with a manifest of {} bytes", reply.bytes.len())));
        }
        let promised = reference
            .parse()
            .ok()
            .or_else(|| reply.header("docker-content-digest")?.parse::<Checksum>().ok());
        let got =
            Checksum::of(promised.as_ref().map_or(Algorithm::Sha256, Checksum::algorithm), &reply.bytes);
        match promised {
            Some(wanted) if wanted != got => {
                Err(FetchError::Mismatch { url: shown(&url), wanted, got }.into())
            }
            _ => Ok((reply.bytes, got)),
        }
    }

    /// Small content.
    pub fn small(&self, wanted: &Descriptor) -> Result<Vec<u8>, BoxError> {
        let url = self.blob_url(&wanted.digest)?;
        if wanted.size > MAX_SMALL {
            return Err(FetchError::TooLarge { url: shown(&url), limit: MAX_SMALL }.into());
        }
        let reply = self.call(&Exchange::new(Method::GET, &url))?;
        self.accepted(&reply)?;
        let got = Checksum::of(wanted.digest.algorithm(), &reply.bytes);
        if got != wanted.digest {
            let wanted = wanted.digest.clone();
            return Err(FetchError::Mismatch { url: shown(&url), wanted, got }.into());
        }
        Ok(reply.bytes)
    }

    /// Whether content is there.
    pub fn has(&self, digest: &Checksum) -> Result<bool, BoxError> {
        let url = self.blob_url(digest)?;
        let reply = self.call(&Exchange::new(Method::HEAD, &url))?;
        match reply.status {
            404 => Ok(false),
            _ => self.accepted(&reply).map(|()| true),
        }
    }

    /// Begins to bring content: where its first piece goes.
    pub fn begin(&self) -> Result<Url, BoxError> {
        let url = self.url("blobs/uploads/")?;
        let reply = self.call(&Exchange::new(Method::POST, &url))?;
        self.accepted(&reply)?;
        self.location(&reply)
    }

    /// Brings a piece that begins at byte `from`: where the next one goes.
    pub fn piece(&self, url: &Url, from: u64, piece: Vec<u8>) -> Result<Url, BoxError> {
        let last = from + (piece.len() as u64).saturating_sub(1);
        let headers = vec![
            ("content-type", "application/octet-stream".to_owned()),
            ("content-range", format!("{from}-{last}")),
        ];
        let reply = self.call(&Exchange { headers, body: piece, ..Exchange::new(Method::PATCH, url) })?;
        self.accepted(&reply)?;
        self.location(&reply)
    }

    /// Ends it: the registry holds it against its digest.
    pub fn end(&self, url: &Url, digest: &Checksum) -> Result<(), BoxError> {
        let mut url = url.clone();
        url.query_pairs_mut().append_pair("digest", &digest.to_string());
        let reply = self.call(&Exchange::new(Method::PUT, &url))?;
        self.accepted(&reply)
    }

    /// Puts a manifest under a tag.
    pub fn put_manifest(&self, tag: &str, kind: &str, manifest: Vec<u8>) -> Result<(), BoxError> {
        let url = self.url(&format!("manifests/{tag}"))?;
        let headers = vec![("content-type", kind.to_owned())];
        let reply = self.call(&Exchange { headers, body: manifest, ..Exchange::new(Method::PUT, &url) })?;
        self.accepted(&reply)
    }

    fn location(&self, reply: &Reply) -> Result<Url, BoxError> {
        let location = reply.header("location").and_then(|location| reply.url.join(location).ok());
        location.ok_or_else(|| self.nonsense("does not say where content goes".to_owned()))
    }

    /// Has an exchange, showing what the registry wants to see.
    pub fn call(&self, exchange: &Exchange<'_>) -> Result<Reply, BoxError> {
        let ask = || self.client().exchange(exchange, &|text| self.progress.warn(text), self.stop);
        let reply = ask()?;
        if reply.status != 401 {
            return Ok(reply);
        }
        self.introduce(&reply)?;
        Ok(ask()?)
    }

    /// Gets anew what is shown, which may have been for a time only.
    pub fn renew(&self) -> Result<(), BoxError> {
        self.known.take();
        let url = self.url("tags/list?n=1")?;
        self.call(&Exchange::new(Method::GET, &url)).map(drop)
    }

    /// Gets what the registry wants to see.
    fn introduce(&self, reply: &Reply) -> Result<(), BoxError> {
        let challenges = reply.headers.get_all("www-authenticate").iter();
        let mut challenges = challenges.filter_map(|header| Challenge::parse(header.to_str().ok()?));
        let login = self.login()?;
        let authorization = match (challenges.next(), &login) {
            (None, _) | (Some(Challenge::Basic), None) => return Err(self.refused(reply)),
            (Some(Challenge::Basic), Some(login)) => login.authorization(),
            (Some(Challenge::Bearer { realm, service, .. }), login) => {
                let token = self.token(&realm, service.as_deref(), login.as_ref())?;
                Zeroizing::new(format!("Bearer {}", token.as_str()))
            }
        };
        *self.known.borrow_mut() = Some(self.client.showing(&self.base, &authorization)?);
        Ok(())
    }

    fn login(&self) -> Result<Option<Login>, BoxError> {
        Login::find(&self.logins, self.image.registry(), self.image.repository())
            .map_err(|what| self.nonsense(format!("wants to know who asks, but {what}")))
    }

    fn token(
        &self,
        realm: &Url,
        service: Option<&str>,
        login: Option<&Login>,
    ) -> Result<Zeroizing<String>, BoxError> {
        if self.base.scheme() == "https" && realm.scheme() != "https" {
            return Err(
                self.nonsense("sends who asks for a token to a place that is not encrypted".to_owned())
            );
        }
        let actions = match self.access {
            Access::Pull => "pull",
            Access::Push => "pull,push",
        };
        let scope = format!("repository:{}:{actions}", self.image.repository());
        let url = Challenge::token_url(realm, service, &scope);
        let client = match login {
            Some(login) => self.client.showing(&url, &login.authorization())?,
            None => self.client.clone(),
        };
        let exchange = Exchange::new(Method::GET, &url);
        let reply = client.exchange(&exchange, &|text| self.progress.warn(text), self.stop)?;
        if reply.status != 200 {
            return Err(self.refused(&reply));
        }
        granted(&reply.bytes)
            .ok_or_else(|| self.nonsense("sends who asks for a token to a place that gives none".to_owned()))
    }

    /// That the registry has done what it was asked for.
    pub fn accepted(&self, reply: &Reply) -> Result<(), BoxError> {
        match reply.status {
            200..300 => Ok(()),
            401 | 403 => Err(self.refused(reply)),
            status => Err(self.nonsense(format!("answers {status}{}", said(reply)))),
        }
    }

    fn refused(&self, reply: &Reply) -> BoxError {
        let registry = self.image.registry();
        BoxError::Repository {
            server: self.shown(),
            what: format!("refuses it ({}){}", reply.status, said(reply)),
            hint: Some(match self.login() {
                Ok(Some(_)) => format!("the login for `{registry}` does not allow it"),
                _ => format!(
                    "log in with `docker login {registry}` or `podman login {registry}`: what they keep is used"
                ),
            }),
            kind: FaultKind::Environment,
        }
    }

    /// An answer that makes no sense, or none that was to be expected.
    pub fn nonsense(&self, what: String) -> BoxError {
        BoxError::Repository { server: self.shown(), what, hint: None, kind: FaultKind::Environment }
    }

    fn shown(&self) -> String {
        format!("{}/{}", self.image.registry(), self.image.repository())
    }
}

/// Whether the registry of this host does without encryption.
fn speaks_plainly(client: &Client, base: &Url, stop: &Stop) -> Result<bool, BoxError> {
    let exchange = Exchange::new(Method::GET, base);
    match client.exchange_once(&exchange, stop) {
        Err(FetchError::Cancelled) => Err(BoxError::Cancelled),
        // What nobody listens on is told by the first question in earnest.
        Err(FetchError::Transport { source, .. }) => Ok(source.is_connect()),
        Err(_) => Ok(true),
        // What web servers answer to who does not speak as they do.
        Ok(reply) => Ok(reply.status != 400),
    }
}

/// What a registry has to say of its refusal.
fn said(reply: &Reply) -> String {
    let errors = serde_json::from_slice(&reply.bytes).map_or_else(|_| Vec::new(), |Errors { errors }| errors);
    let Some(first) = errors.into_iter().next() else { return String::new() };
    let text = if first.message.is_empty() { first.code } else { first.message };
    let text: String = text.chars().filter(|c| !c.is_control()).take(200).collect();
    format!(": {text}")
}
