//! What a registry wants to be shown, and where tokens for it come from.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use url::Url;
use zeroize::Zeroizing;

use super::helper;

/// The longest challenge that is read, bytes.
const MAX_CHALLENGE: usize = 8192;

/// The largest file of logins that is read, bytes.
const MAX_LOGINS: u64 = 4 << 20;

/// User, colon and password in Base64, as RFC 7617 has them sent.
#[derive(Clone)]
pub struct Login(Zeroizing<String>);

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").finish_non_exhaustive()
    }
}

impl Login {
    /// What is sent.
    pub fn authorization(&self) -> Zeroizing<String> {
        Zeroizing::new(format!("Basic {}", self.0.as_str()))
    }

    /// That of `user`.
    pub fn new(user: &str, password: &str) -> Self {
        let both = Zeroizing::new(format!("{user}:{password}"));
        Self(Zeroizing::new(STANDARD.encode(both.as_bytes())))
    }

    /// The login for `repository` of `registry` in the first of the files that has one, or knows who has. They are `config.json` of
    /// docker, and `auth.json` of podman and its like (containers-auth.json(5)).
    ///
    /// # Errors
    /// What is wrong with one of them, or with a program that keeps logins.
    pub fn find(places: &LoginPlaces, registry: &str, repository: &str) -> Result<Option<Self>, String> {
        for path in &places.files {
            let mut bytes = Vec::new();
            let read = File::open(path).and_then(|file| file.take(MAX_LOGINS).read_to_end(&mut bytes));
            match read {
                Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                    continue;
                }
                read => read.map_err(|error| format!("`{}` cannot be read: {error}", path.display()))?,
            };
            let logins: Logins = serde_json::from_slice(&bytes)
                .map_err(|error| format!("`{}` is damaged: {error}", path.display()))?;
            let own = logins.helper_of(registry);
            let asked = |name: &String| helper::ask(&places.helpers, name, &logins.called(registry));
            if let Some(login) = own.map(asked).transpose()?.flatten() {
                return Ok(Some(login));
            }
            if let Some(login) = logins.of(registry, repository) {
                return Ok(Some(login));
            }
            if let Some(login) = logins.store.as_ref().map(asked).transpose()?.flatten() {
                return Ok(Some(login));
            }
        }
        Ok(None)
    }
}

/// Where logins may be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoginPlaces {
    /// Files of them, as docker and podman keep them; those that are not there are passed over.
    pub files: Vec<PathBuf>,
    /// Directories with the programs that such files leave the keeping to, `docker-credential-…`.
    pub helpers: Vec<PathBuf>,
}

#[derive(Deserialize)]
struct Logins {
    #[serde(default)]
    auths: BTreeMap<String, Kept>,
    /// Who keeps those of single registries.
    #[serde(default, rename = "credHelpers")]
    helpers: BTreeMap<String, String>,
    /// Who keeps all others.
    #[serde(default, rename = "credsStore")]
    store: Option<String>,
}

/// Looks for logins in a file of them.
#[cfg(any(test, feature = "fuzzing"))]
pub fn kept_logins(bytes: &[u8]) {
    if let Ok(logins) = serde_json::from_slice::<Logins>(bytes) {
        let _ = logins.of("h:5000", "team/web");
    }
}

#[derive(Deserialize)]
struct Kept {
    auth: Option<String>,
}

impl Logins {
    /// Who keeps the login for `registry`, and no other.
    fn helper_of(&self, registry: &str) -> Option<&String> {
        self.helpers.iter().find(|(place, _)| stem(place) == registry).map(|(_, name)| name)
    }

    /// What whoever keeps the login for `registry` knows it by: as it stands in the file.
    fn called(&self, registry: &str) -> String {
        let known = self.auths.keys().chain(self.helpers.keys()).find(|place| stem(place) == registry);
        known.cloned().unwrap_or_else(|| registry.to_owned())
    }

    /// The one for `repository`, or for what it is in, or for the whole registry.
    fn of(&self, registry: &str, repository: &str) -> Option<Login> {
        let of = |wanted: &str| {
            let mut kept = self.auths.iter().filter(|(place, _)| stem(place) == wanted);
            kept.find_map(|(_, kept)| kept.auth.clone().filter(|auth| !auth.is_empty()))
        };
        let whole = format!("{registry}/{repository}");
        let slashes = whole.rmatch_indices('/').map(|(at, _)| at);
        let found = std::iter::once(whole.len()).chain(slashes).find_map(|end| of(&whole[..end]));
        found.map(|auth| Login(Zeroizing::new(auth)))
    }
}

/// A place as it is kept: docker writes some of them as URLs.
fn stem(place: &str) -> &str {
    let bare = place.strip_prefix("https://").or_else(|| place.strip_prefix("http://")).unwrap_or(place);
    let bare = bare.trim_end_matches('/');
    bare.strip_suffix("/v1").or_else(|| bare.strip_suffix("/v2")).unwrap_or(bare)
}

/// What a registry asks for (RFC 9110, section 11.6.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Challenge {
    /// User and password.
    Basic,
    /// A token that is to be had at `realm`.
    Bearer { realm: Url, service: Option<String>, scope: Option<String> },
}

impl Challenge {
    /// Reads `WWW-Authenticate`; `None` where it asks for nothing that is known here.
    pub fn parse(header: &str) -> Option<Self> {
        if header.len() > MAX_CHALLENGE {
            return None;
        }
        let (scheme, rest) = header.trim().split_once(' ').unwrap_or((header.trim(), ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Self::Basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let mut fields = fields(rest);
        let realm = Url::parse(&fields.remove("realm")?).ok()?;
        matches!(realm.scheme(), "http" | "https").then_some(())?;
        Some(Self::Bearer { realm, service: fields.remove("service"), scope: fields.remove("scope") })
    }

    /// Where the token for `scope` is asked for; the registry may know better what it is called.
    pub fn token_url(realm: &Url, service: Option<&str>, scope: &str) -> Url {
        let mut url = realm.clone();
        {
            let mut query = url.query_pairs_mut();
            if let Some(service) = service {
                query.append_pair("service", service);
            }
            query.append_pair("scope", scope);
        }
        url
    }
}

/// `name="value"` and `name=value`, with commas between; a backslash takes the next character as it is.
fn fields(text: &str) -> BTreeMap<String, String> {
    let mut fields = BTreeMap::new();
    let mut rest = text.chars().peekable();
    loop {
        while rest.next_if(|c| c.is_whitespace() || *c == ',').is_some() {}
        let mut name = String::new();
        while let Some(c) = rest.next_if(|c| *c != '=' && *c != ',') {
            name.push(c.to_ascii_lowercase());
        }
        if rest.next() != Some('=') {
            if rest.peek().is_none() {
                return fields;
            }
            continue;
        }
        let mut value = String::new();
        if rest.next_if_eq(&'"').is_some() {
            while let Some(c) = rest.next().filter(|c| *c != '"') {
                value.extend(if c == '\\' { rest.next() } else { Some(c) });
            }
        } else {
            while let Some(c) = rest.next_if(|c| *c != ',' && !c.is_whitespace()) {
                value.push(c);
            }
        }
        fields.entry(name.trim().to_owned()).or_insert(value);
    }
}

/// What a server of tokens answers; the names are those of both of its protocols.
#[derive(Deserialize)]
struct Granted {
    token: Option<String>,
    access_token: Option<String>,
}

/// The token in what a server of tokens answers.
pub fn granted(bytes: &[u8]) -> Option<Zeroizing<String>> {
    let granted: Granted = serde_json::from_slice(bytes).ok()?;
    granted.token.or(granted.access_token).filter(|token| !token.is_empty()).map(Zeroizing::new)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn challenges_are_read() {
        assert_eq!(Challenge::parse("Basic realm=\"x\""), Some(Challenge::Basic));
        assert_eq!(Challenge::parse("basic"), Some(Challenge::Basic));
        let header = r#"Bearer realm="https://a.example.org/token?x=1", service="r \"1\"",scope="repository:a/b:pull,push""#;
        let Some(Challenge::Bearer { realm, service, scope }) = Challenge::parse(header) else { panic!() };
        assert_eq!(service.as_deref(), Some("r \"1\""));
        assert_eq!(scope.as_deref(), Some("repository:a/b:pull,push"));
        let url = Challenge::token_url(&realm, service.as_deref(), "repository:a/b:pull");
        assert_eq!(
            url.as_str(),
            "https://a.example.org/token?x=1&service=r+%221%22&scope=repository%3Aa%2Fb%3Apull"
        );
        for bad in ["", "Digest realm=x", "Bearer", "Bearer realm=\"/token\"", "Bearer realm=\"file:///x\""] {
            assert_eq!(Challenge::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn tokens_have_two_names() {
        assert_eq!(granted(br#"{"token": "a", "expires_in": 60}"#).unwrap().as_str(), "a");
        assert_eq!(granted(br#"{"access_token": "b"}"#).unwrap().as_str(), "b");
        for bad in [&b"{}"[..], b"", b"[]", br#"{"token": ""}"#] {
            assert!(granted(bad).is_none());
        }
    }

    #[test]
    fn logins_are_found_where_docker_and_podman_keep_them() {
        let temp = tempfile::tempdir().unwrap();
        let [first, second, none] = ["first", "second", "none"].map(|name| temp.path().join(name));
        std::fs::write(&first, r#"{"auths": {"h:5000": {"auth": "b25l"}, "helped": {}}, "credsStore": "x"}"#)
            .unwrap();
        let text = r#"{"auths": {"https://g/v1/": {"auth": "dHdv"}, "g/team": {"auth": "dGVhbQ=="}, "h:5000": {"auth": "eA=="}}}"#;
        std::fs::write(&second, text).unwrap();
        let places = LoginPlaces { files: vec![none, first, second.clone()], helpers: Vec::new() };
        for (registry, repository, auth) in [
            ("h:5000", "a/b", Some("Basic b25l")),
            ("g", "a", Some("Basic dHdv")),
            ("g", "team/web", Some("Basic dGVhbQ==")),
            ("g", "teams", Some("Basic dHdv")),
            ("helped", "a", None),
            ("h", "a", None),
        ] {
            let found = Login::find(&places, registry, repository).unwrap();
            assert!(!format!("{found:?}").contains("b25l"));
            assert_eq!(
                found.map(|login| login.authorization().to_string()).as_deref(),
                auth,
                "{registry}/{repository}"
            );
        }
        std::fs::write(&second, "{").unwrap();
        assert!(Login::find(&places, "h:5000", "a").unwrap().is_some());
        assert!(Login::find(&places, "g", "a").unwrap_err().contains("second"));
    }

    #[test]
    fn programs_that_keep_logins_are_asked() {
        use std::os::unix::fs::PermissionsExt as _;

        let temp = tempfile::tempdir().unwrap();
        let (config, programs) = (temp.path().join("config.json"), temp.path().join("bin"));
        std::fs::create_dir(&programs).unwrap();
        let program = |name: &str, script: &str| {
            let path = programs.join(format!("docker-credential-{name}"));
            std::fs::write(&path, format!("#!/bin/sh\nread -r server\n{script}\n")).unwrap();
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
        };
        // A name that is kept by one who says for whom, and those of a store that does not have all.
        program(
            "one",
            r#"[ "$1" = get ] && printf '{"ServerURL":"%s","Username":"u-%s","Secret":"p"}' "$server" "$server""#,
        );
        program(
            "all",
            r#"case $server in
                https://index/v1/) echo '{"Username":"i","Secret":"s"}' ;;
                *) echo 'credentials not found in native keychain'; exit 1 ;;
            esac"#,
        );
        program("locked", "echo 'the keychain is locked' >&2; exit 3");
        program("endless", "exec yes");
        program("token", r#"echo '{"Username":"<token>","Secret":"t"}'"#);
        let text = r#"{"auths": {"https://index/v1/": {}, "plain": {"auth": "cGxhaW4="}},
            "credHelpers": {"h:5000": "one", "locked": "locked", "endless": "endless", "token": "token",
                "gone": "gone", "bad": "../../bin/sh"}, "credsStore": "all"}"#;
        std::fs::write(&config, text).unwrap();
        let places = LoginPlaces { files: vec![config], helpers: vec![temp.path().join("no"), programs] };
        let find = |registry: &str| {
            let found = Login::find(&places, registry, "team/web");
            found.map(|login| login.map(|login| login.authorization().to_string()))
        };
        let basic = |both: &str| Ok(Some(format!("Basic {}", STANDARD.encode(both))));
        assert_eq!(find("h:5000"), basic("u-h:5000:p"));
        assert_eq!(find("index"), basic("i:s"));
        assert_eq!(find("plain"), basic("plain"));
        // Without one, the registry may still be open to everybody.
        assert_eq!((find("unknown"), find("gone")), (Ok(None), Ok(None)));
        for (registry, what) in [
            ("locked", "the keychain is locked"),
            ("endless", "docker-credential-endless"),
            ("token", "identity token"),
            ("bad", "../../bin/sh"),
        ] {
            let told = find(registry).unwrap_err();
            assert!(told.contains(what), "{told}");
        }
    }

    proptest! {
        #[test]
        fn any_header_is_read_or_not(text in "(Bearer |Basic )?[a-z=\",\\\\ :/]{0,60}") {
            super::super::fuzzing::oci_login(text.as_bytes());
        }
    }
}
