//! Which repositories the user knows, and with which tokens: `servers.json` in Posada's home, which is the user's alone.

use std::path::{Path, PathBuf};

use posada_box_catalog::{LoginPlaces, Remotes};
use posada_fetch::{Client, Settings, Token};
use serde::{Deserialize, Serialize};
use url::Url;

use crate::context::{Context, env};
use crate::failure::{CliError, Result};
use crate::kept;

/// Names the repository that boxes come from where nothing else is said.
const URL: &str = "POSADA_SERVER_URL";
/// Where it is kept, and what it is in words.
const FILE: &str = "servers.json";
const WHAT: &str = "the servers' tokens";
/// A token for it.
const TOKEN: &str = "POSADA_SERVER_TOKEN";

/// How servers are reached.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct ClientArgs {
    /// A file with certificates (PEM) of authorities to trust besides the system's
    #[arg(long, value_name = "FILE", env = "POSADA_CACERT")]
    pub cacert: Option<PathBuf>,

    /// A directory with such files
    #[arg(long, value_name = "DIRECTORY", env = "POSADA_CAPATH")]
    pub capath: Option<PathBuf>,

    /// A file with a certificate and its key (PEM), shown to servers that ask for one
    #[arg(long, value_name = "FILE", env = "POSADA_CERT")]
    pub cert: Option<PathBuf>,

    /// Take any certificate: whoever is on the line may read and change everything
    #[arg(long)]
    pub insecure: bool,
}

/// What is known of servers.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Servers {
    /// Where boxes come from.
    default: Option<Url>,
    tokens: Vec<Known>,
}

#[derive(Serialize, Deserialize)]
struct Known {
    server: Url,
    token: String,
}

impl std::fmt::Debug for Known {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Known").field("server", &self.server.as_str()).finish_non_exhaustive()
    }
}

impl Servers {
    /// What was kept.
    ///
    /// # Errors
    /// [`CliError::Host`] where it cannot be read, or makes no sense.
    pub fn load(home: &Path) -> Result<Self> {
        kept::load(&file(home), WHAT, "remove it, and log in again with `posada box login URL`")
    }

    /// Keeps it, for this user only.
    ///
    /// # Errors
    /// [`CliError::Host`].
    pub fn save(&self, home: &Path) -> Result<()> {
        kept::save(home, FILE, WHAT, self)
    }

    /// Keeps `token` for `server`; the first server there is becomes the one that boxes come from.
    pub fn log_in(&mut self, server: Url, token: String, default: bool) {
        self.tokens.retain(|known| known.server.origin() != server.origin());
        if default || self.default.is_none() {
            self.default = Some(server.clone());
        }
        self.tokens.push(Known { server, token });
    }

    /// Forgets the server; whether it was known.
    pub fn log_out(&mut self, server: &Url) -> bool {
        let before = self.tokens.len();
        self.tokens.retain(|known| known.server.origin() != server.origin());
        let was_default = self.default.as_ref().is_some_and(|default| default.origin() == server.origin());
        if was_default {
            self.default = None;
        }
        was_default || self.tokens.len() < before
    }

    /// Where boxes come from: what the environment says, else what was logged into.
    ///
    /// # Errors
    /// [`CliError::Usage`] where the environment's URL is none.
    pub fn default_server(&self) -> Result<Option<Url>> {
        match env(URL).filter(|text| !text.is_empty()) {
            Some(text) => Ok(Some(server(&text).map_err(|why| {
                CliError::usage(format!("{URL} cannot be used: {why}"), "set it to a URL, or unset it")
            })?)),
            None => Ok(self.default.clone()),
        }
    }

    /// The server that was named, or the one that boxes come from.
    ///
    /// # Errors
    /// [`CliError::Usage`] where there is neither.
    pub fn or_default(&self, named: Option<Url>) -> Result<Url> {
        let hint = "name it with `--to URL`, or log in to it with `posada box login URL`";
        let known = named.map_or_else(|| self.default_server(), |named| Ok(Some(named)))?;
        Ok(known.ok_or_else(|| CliError::usage("no repository is known", hint))?)
    }

    /// All tokens there are, with the environment's for the server that boxes come from.
    ///
    /// # Errors
    /// Those of [`Servers::default_server`].
    pub fn tokens(&self) -> Result<Vec<Token>> {
        let given = env(TOKEN).filter(|text| !text.is_empty());
        let given = given.zip(self.default_server()?).map(|(secret, server)| (server, secret));
        let kept = self.tokens.iter().map(|known| (known.server.clone(), known.token.clone()));
        Ok(given
            .into_iter()
            .chain(kept)
            .map(|(server, secret)| Token { server, secret: secret.into() })
            .collect())
    }
}

impl ClientArgs {
    /// What the environment says, for commands that have no such options.
    #[must_use]
    pub fn of_environment() -> Self {
        let path = |name: &str| std::env::var_os(name).map(PathBuf::from);
        Self {
            cacert: path("POSADA_CACERT"),
            capath: path("POSADA_CAPATH"),
            cert: path("POSADA_CERT"),
            insecure: false,
        }
    }
}

/// How boxes are fetched that are not in the store of `home`.
///
/// # Errors
/// Those of [`Servers::load`] and [`Servers::default_server`].
pub fn remotes(home: &Path, args: &ClientArgs) -> Result<Remotes> {
    let servers = Servers::load(home)?;
    let trust = crate::trust::load(home)?;
    Ok(Remotes {
        settings: settings(args, servers.tokens()?),
        catalog: servers.default_server()?,
        logins: registry_logins(),
        buckets: crate::buckets::options(),
        trust,
    })
}

/// Where docker, podman and their like keep logins for registries (containers-auth.json(5)).
pub fn registry_logins() -> LoginPlaces {
    let path = |name: &str| std::env::var_os(name).filter(|path| !path.is_empty()).map(PathBuf::from);
    let home = |below: &str| etcetera::home_dir().ok().map(|home| home.join(below));
    let named = path("REGISTRY_AUTH_FILE");
    let podman = path("XDG_RUNTIME_DIR").map(|directory| directory.join("containers/auth.json"));
    let config = path("XDG_CONFIG_HOME").or_else(|| home(".config"));
    let config = config.map(|directory| directory.join("containers/auth.json"));
    let docker =
        path("DOCKER_CONFIG").or_else(|| home(".docker")).map(|directory| directory.join("config.json"));
    let programs = std::env::var_os("PATH").unwrap_or_default();
    LoginPlaces {
        files: [named, podman, config, docker].into_iter().flatten().collect(),
        helpers: std::env::split_paths(&programs).filter(|directory| directory.is_absolute()).collect(),
    }
}

/// A client that knows the user's tokens.
///
/// # Errors
/// Those of [`Servers::load`] and [`Client::new`].
pub fn client(context: &Context, args: &ClientArgs) -> Result<(Client, Servers)> {
    let servers = Servers::load(&context.host.home)?;
    let client = client_with(args, servers.tokens()?)?;
    Ok((client, servers))
}

/// A client with these tokens.
///
/// # Errors
/// Those of [`Client::new`].
pub fn client_with(args: &ClientArgs, tokens: Vec<Token>) -> Result<Client> {
    Ok(Client::new(settings(args, tokens))?)
}

/// How they are reached, with these tokens.
pub fn settings(args: &ClientArgs, tokens: Vec<Token>) -> Settings {
    Settings {
        authorities: args.cacert.iter().chain(&args.capath).cloned().collect(),
        identity: args.cert.clone(),
        insecure: args.insecure,
        tokens,
        ..Settings::default()
    }
}

/// Takes the URL of a server.
///
/// # Errors
/// What is wrong with it.
pub fn server(text: &str) -> std::result::Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("`{text}` is no URL: {error}"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return Err(format!("`{text}` is no web server: write `https://boxes.example.org`"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("a URL is no place for secrets: keep a token with `posada box login URL`".to_owned());
    }
    Ok(url)
}

fn file(home: &Path) -> PathBuf {
    home.join(FILE)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn tokens_are_kept_for_the_user_alone_and_not_shown() {
        let temp = tempfile::tempdir().unwrap();
        let mut servers = Servers::load(temp.path()).unwrap();
        let url = |text| server(text).unwrap();
        servers.log_in(url("https://one.example.org/sub"), "first".to_owned(), false);
        servers.log_in(url("https://two.example.org"), "second".to_owned(), false);
        servers.log_in(url("https://one.example.org"), "third".to_owned(), false);
        servers.save(temp.path()).unwrap();
        let mode = fs_err::metadata(file(temp.path())).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let mut again = Servers::load(temp.path()).unwrap();
        assert_eq!(again.default.as_ref().unwrap().as_str(), "https://one.example.org/sub");
        assert_eq!(again.tokens.iter().map(|known| &*known.token).collect::<Vec<_>>(), ["second", "third"]);
        assert!(!format!("{again:?}").contains("second"));
        assert!(again.log_out(&url("https://one.example.org")));
        assert!(!again.log_out(&url("https://one.example.org")));
        assert_eq!((again.default.is_none(), again.tokens.len()), (true, 1));
        fs_err::write(file(temp.path()), "{").unwrap();
        assert!(Servers::load(temp.path()).is_err());
    }

    #[test]
    fn urls_with_secrets_are_refused() {
        for bad in ["", "boxes", "ftp://h/", "https://me:secret@h/", "https://token@h/", "file:///x"] {
            let why = server(bad).unwrap_err();
            assert!(!why.contains("secret@"), "{why}");
        }
    }
}
