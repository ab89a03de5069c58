//! Where the host gets Debian's packages from, so that a box gets them from the same place.

use std::path::Path;

use super::Recipe;

/// Debian's own keys, on every Debian host and in every Debian box.
const KEYRING: &str = "usr/share/keyrings/debian-archive-keyring.gpg";

/// A place packages come from.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Source {
    uri: String,
    suite: String,
}

/// Lines for sources.list that take the recipe's suite from where the host, if it is a Debian one, takes its
/// own. Empty where that cannot be seen; mmdebstrap then goes by its own defaults.
pub fn sources(etc: &Path, recipe: &Recipe) -> Vec<String> {
    let read = |path: &Path| std::fs::read_to_string(path).unwrap_or_default();
    let release = read(&etc.join("os-release"));
    let field = |key: &str| {
        let line = release.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        line.map(|value| value.trim_matches('"').to_owned())
    };
    let (Some("debian"), Some(codename)) = (field("ID").as_deref(), field("VERSION_CODENAME")) else {
        return Vec::new();
    };
    let mut files = vec![etc.join("apt/sources.list")];
    if let Ok(entries) = std::fs::read_dir(etc.join("apt/sources.list.d")) {
        let mut more: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
        more.sort();
        files.extend(more);
    }
    let has_extension =
        |path: &Path, wanted: &str| path.extension().is_some_and(|extension| extension == wanted);
    let found = files.iter().flat_map(|path| {
        if has_extension(path, "sources") {
            deb822(&read(path))
        } else if has_extension(path, "list") {
            one_line(&read(path))
        } else {
            Vec::new()
        }
    });
    let key = etc.parent().map(|root| root.join(KEYRING)).filter(|keyring| keyring.exists());
    let options = key.map(|_| format!(" [signed-by=/{KEYRING}]")).unwrap_or_default();
    let components = recipe.components().join(" ");
    let mut lines = Vec::new();
    for source in found {
        // `bookworm`, `bookworm-updates`, `bookworm-security` become those of the recipe's suite.
        let Some(tail) = source.suite.strip_prefix(&codename) else { continue };
        if !matches!(tail, "" | "-updates" | "-security") {
            continue;
        }
        let line = format!("deb{options} {} {}{tail} {components}", source.uri, recipe.suite());
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    lines
}

/// Whether it is Debian's archive or a mirror of it, not a third party's beside it.
fn is_debian(uri: &str, components: &[&str], signed_by: Option<&str>) -> bool {
    let path_is_debian =
        uri.trim_end_matches('/').rsplit('/').next().is_some_and(|last| last.starts_with("debian"));
    let key_is_debian = signed_by.is_none_or(|key| key.contains("debian-archive"));
    path_is_debian && key_is_debian && components.contains(&"main")
}

/// The one-line form of sources.list(5).
fn one_line(text: &str) -> Vec<Source> {
    let source = |line: &str| {
        let line = line.split('#').next()?.trim();
        let rest = line.strip_prefix("deb ")?.trim_start();
        let (options, rest) = match rest.strip_prefix('[') {
            Some(rest) => rest.split_once(']')?,
            None => ("", rest),
        };
        let signed_by = options.split_whitespace().find_map(|option| option.strip_prefix("signed-by="));
        let mut words = rest.split_whitespace();
        let (uri, suite) = (words.next()?, words.next()?);
        let components: Vec<&str> = words.collect();
        let source = Source { uri: uri.to_owned(), suite: suite.trim_end_matches('/').to_owned() };
        is_debian(uri, &components, signed_by).then_some(source)
    };
    text.lines().filter_map(source).collect()
}

/// The deb822 form of sources.list(5).
fn deb822(text: &str) -> Vec<Source> {
    let mut sources = Vec::new();
    let uncommented: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    for stanza in uncommented.split(|line| line.trim().is_empty()) {
        let field = |key: &str| -> Option<String> {
            let mut lines = stanza.iter().skip_while(|line| {
                line.split_once(':').is_none_or(|(name, _)| {
                    !name.trim().eq_ignore_ascii_case(key) || line.starts_with([' ', '\t'])
                })
            });
            let mut value = lines.next()?.split_once(':')?.1.trim().to_owned();
            for line in lines.take_while(|line| line.starts_with([' ', '\t'])) {
                value.push(' ');
                value.push_str(line.trim());
            }
            Some(value)
        };
        let enabled =
            field("Enabled").is_none_or(|value| !matches!(value.as_str(), "no" | "false" | "off" | "0"));
        let (Some(types), Some(uris), Some(suites)) = (field("Types"), field("URIs"), field("Suites")) else {
            continue;
        };
        if !enabled || !types.split_whitespace().any(|kind| kind == "deb") {
            continue;
        }
        let (components, signed_by) = (field("Components").unwrap_or_default(), field("Signed-By"));
        let components: Vec<&str> = components.split_whitespace().collect();
        for uri in uris.split_whitespace().filter(|uri| is_debian(uri, &components, signed_by.as_deref())) {
            let source = |suite: &str| Source { uri: uri.to_owned(), suite: suite.to_owned() };
            sources.extend(suites.split_whitespace().map(source));
        }
    }
    sources
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn host(files: &[(&str, &str)]) -> (tempfile::TempDir, PathBuf) {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let etc = root.path().join("etc");
        (root, etc)
    }

    fn recipe(name: &str) -> Recipe {
        Recipe::builtin(name).unwrap().unwrap()
    }

    const RELEASE: (&str, &str) = ("etc/os-release", "ID=debian\nVERSION_CODENAME=bookworm\n");

    #[test]
    fn the_hosts_mirror_is_taken_and_others_are_left() {
        let (_root, etc) = host(&[
            RELEASE,
            (
                "etc/apt/sources.list.d/debian.sources",
                "Types: deb\n# URIs: http://old.example/debian\nURIs: http://mirror.example/debian\n\
                 Suites: bookworm bookworm-updates\n bookworm-backports\nComponents: main\n\n\
                 Types: deb deb-src\nURIs: http://mirror.example/debian-security/\nSuites: bookworm-security\n\
                 Components: main contrib\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n\n\
                 Types: deb\nEnabled: no\nURIs: http://off.example/debian\nSuites: bookworm\nComponents: main\n",
            ),
            (
                "etc/apt/sources.list.d/other.list",
                "deb [signed-by=/x/vendor.gpg] http://vendor.example/debian bookworm main\n",
            ),
            (
                "etc/apt/sources.list.d/more.list",
                "deb http://db.example/pub bookworm-db main\ndeb http://x.example/debian bookworm stable\n",
            ),
            ("etc/apt/sources.list.d/saved.bak", "deb http://bak.example/debian bookworm main\n"),
        ]);
        assert_eq!(
            sources(&etc, &recipe("debian/12")),
            [
                "deb http://mirror.example/debian bookworm main",
                "deb http://mirror.example/debian bookworm-updates main",
                "deb http://mirror.example/debian-security/ bookworm-security main",
            ]
        );
    }

    #[test]
    fn another_release_comes_from_the_same_mirror_and_keys_are_named() {
        let (root, etc) = host(&[
            RELEASE,
            (
                "etc/apt/sources.list",
                "# mine\ndeb [arch=amd64] https://mirror.example/debian/ bookworm main # x\ndeb-src https://mirror.example/debian bookworm main\n",
            ),
            (KEYRING, "keys"),
        ]);
        let signed = "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]";
        assert_eq!(
            sources(&etc, &recipe("debian/13")),
            [format!("{signed} https://mirror.example/debian/ trixie main")]
        );
        drop(root);
    }

    #[test]
    fn other_hosts_say_nothing() {
        let (_root, etc) = host(&[
            ("etc/os-release", "ID=fedora\nVERSION_CODENAME=\"\"\n"),
            ("etc/apt/sources.list", "deb http://mirror.example/debian bookworm main\n"),
        ]);
        assert!(sources(&etc, &recipe("debian/12")).is_empty());
        assert!(sources(Path::new("/nonexistent"), &recipe("debian/12")).is_empty());
    }
}
