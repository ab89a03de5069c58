//! What a repository is asked: `box-catalog/server/API.md`, “Pushing”.

use posada_chunks::Digest;
use posada_fetch::{Client, Exchange, Method, Reply, Stop, shown};
use posada_provider_api::FaultKind;
use serde::{Deserialize, Serialize};
use url::Url;

use super::{Fate, Published};
use crate::delta::FileManifest;
use crate::{BoxError, Progress, Version};

#[derive(Serialize)]
struct Digests<'a> {
    digests: &'a [Digest],
}

#[derive(Deserialize)]
struct Missing {
    missing: Vec<Digest>,
}

#[derive(Deserialize)]
struct Refused {
    error: String,
    hint: Option<String>,
}

pub(super) struct Api<'a> {
    pub client: &'a Client,
    pub server: &'a Url,
    pub stop: &'a Stop,
    pub progress: &'a dyn Progress,
}

impl Api<'_> {
    /// Which of `digests` are not there.
    pub fn missing(&self, digests: &[Digest]) -> Result<Vec<Digest>, BoxError> {
        let answer = self.json(Method::POST, "api/v1/chunks/missing", &Digests { digests })?;
        let Missing { missing } = self.read(&answer)?;
        // Others than were asked about are of no use to it.
        let asked: std::collections::HashSet<_> = digests.iter().collect();
        Ok(missing.into_iter().filter(|digest| asked.contains(digest)).collect())
    }

    /// Hands chunks over.
    pub fn put_chunks(&self, bundle: Vec<u8>) -> Result<(), BoxError> {
        let answer = self.send(Method::POST, "api/v1/chunks", "application/vnd.posada.chunks", bundle)?;
        self.accepted(&answer)
    }

    /// Hands in what a file is made of; the chunks that are not there come back, where there are any.
    pub fn put_manifest(
        &self,
        to: &Published,
        manifest: &FileManifest,
    ) -> Result<Option<Vec<Digest>>, BoxError> {
        let path =
            format!("{}/versions/{}/{}/{}/manifest", to.name, to.version, to.provider, to.architecture);
        let answer = self.json(Method::PUT, &path, manifest)?;
        if answer.status == 409
            && let Ok(Missing { missing }) = serde_json::from_slice(&answer.bytes)
        {
            return Ok(Some(missing));
        }
        self.accepted(&answer).map(|()| None)
    }

    /// Hands in who says that a file is what it is.
    pub fn put_signature(&self, to: &Published, signature: String) -> Result<(), BoxError> {
        let Published { name, version, provider, architecture, .. } = to;
        let path = format!("{name}/versions/{version}/{provider}/{architecture}/vagrant.box.minisig");
        let answer = self.send(Method::PUT, &path, "text/plain", signature.into_bytes())?;
        self.accepted(&answer)
    }

    /// Releases a version, or takes it out of the catalog and back.
    pub fn decide(&self, name: &str, version: &Version, fate: Fate) -> Result<(), BoxError> {
        let word = match fate {
            Fate::Released => "release",
            Fate::Yanked => "yank",
            Fate::Unyanked => "unyank",
        };
        let path = format!("api/v1/boxes/{name}/versions/{version}/{word}");
        let answer = self.send(Method::POST, &path, "application/json", Vec::new())?;
        self.accepted(&answer)
    }

    fn json(&self, method: Method, path: &str, body: &impl Serialize) -> Result<Reply, BoxError> {
        let body = serde_json::to_vec(body).map_err(|error| self.nonsense(error.to_string()))?;
        self.send(method, path, "application/json", body)
    }

    fn send(&self, method: Method, path: &str, kind: &'static str, body: Vec<u8>) -> Result<Reply, BoxError> {
        let base = format!("{}/", self.server.as_str().trim_end_matches('/'));
        let url = Url::parse(&base).and_then(|base| base.join(path));
        let url = url.map_err(|error| self.nonsense(error.to_string()))?;
        let mut exchange = Exchange::new(method, &url);
        if !body.is_empty() {
            exchange = exchange.sending(kind, body);
        }
        Ok(self.client.exchange(&exchange, &|text| self.progress.warn(text), self.stop)?)
    }

    fn read<'a, T: Deserialize<'a>>(&self, answer: &'a Reply) -> Result<T, BoxError> {
        self.accepted(answer)?;
        serde_json::from_slice(&answer.bytes).map_err(|error| {
            self.nonsense(format!("gives an answer that is none ({error}); is it a repository of posada's?"))
        })
    }

    fn accepted(&self, answer: &Reply) -> Result<(), BoxError> {
        if (200..300).contains(&answer.status) {
            return Ok(());
        }
        let said: Option<Refused> = serde_json::from_slice(&answer.bytes).ok();
        let kind = match answer.status {
            401 | 403 | 507 => FaultKind::Environment,
            _ => FaultKind::User,
        };
        let login = "`posada box login URL` keeps a token for it".to_owned();
        Err(BoxError::Repository {
            server: shown(self.server),
            what: match &said {
                Some(said) => format!("refuses it: {}", said.error),
                None => format!("answers {}; is it a repository of posada's?", answer.status),
            },
            hint: said.and_then(|said| said.hint).or_else(|| (answer.status == 401).then_some(login)),
            kind,
        })
    }

    fn nonsense(&self, what: String) -> BoxError {
        BoxError::Repository { server: shown(self.server), what, hint: None, kind: FaultKind::Environment }
    }
}
