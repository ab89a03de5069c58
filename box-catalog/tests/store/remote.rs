//! Boxes from a catalog and from web servers, which are one of our own on the loopback.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use libtest_mimic::Trial;
use posada_box_catalog::source::Wanted;
use posada_box_catalog::{
    BoxError, BoxRef, Cancel, FetchOptions, Form, Quiet, Remotes, Store, StoredBox, VersionReq,
};
use posada_fetch::{FetchError, Settings};
use sha2::Digest as _;

use crate::support::{World, entries, trial};

pub fn trials() -> Vec<Trial> {
    vec![
        trial("a_box_comes_from_a_catalog_by_version_provider_and_checksum", catalog),
        trial("what_a_catalog_has_with_another_checksum_is_not_added", forged),
        trial("up_fetches_what_the_store_does_not_have", obtained),
        trial("a_url_is_checked_by_what_lies_beside_it", beside),
        trial("an_image_server_is_asked_by_alias_form_and_version", image_server),
        trial("a_token_goes_to_its_server_and_into_no_text", token),
    ]
}

#[derive(Clone, Default)]
pub struct Site(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    files: BTreeMap<String, Vec<u8>>,
    asked: Vec<String>,
    token: Option<String>,
    /// What those are answered who do not show it; those who ask for it are not.
    challenge: Option<String>,
}

impl Site {
    pub fn start(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let site = self.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let site = site.clone();
                std::thread::spawn(move || site.answer(stream));
            }
        });
        base
    }

    pub fn put(&self, path: &str, bytes: impl Into<Vec<u8>>) {
        self.0.lock().unwrap().files.insert(path.to_owned(), bytes.into());
    }

    pub fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap().asked)
    }

    /// Has all but a server of tokens show this one.
    pub fn want_token(&self, token: &str, challenge: &str) {
        let mut inner = self.0.lock().unwrap();
        (inner.token, inner.challenge) = (Some(token.to_owned()), Some(challenge.to_owned()));
    }

    /// One request a connection, whole files only.
    fn answer(&self, mut stream: TcpStream) {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut lines = reader.by_ref().lines().map_while(Result::ok);
        let Some(first) = lines.next() else { return };
        let headers: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
        // What is sent and not read would have the connection broken off.
        let length = headers.iter().find_map(|header| {
            let (name, value) = header.split_once(": ")?;
            name.eq_ignore_ascii_case("content-length").then(|| value.parse().unwrap())
        });
        reader.take(length.unwrap_or(0)).read_to_end(&mut Vec::new()).unwrap();
        let path = first.split(' ').nth(1).unwrap().to_owned();
        let mut inner = self.0.lock().unwrap();
        inner.asked.push(path.clone());
        let allowed = path.starts_with("/token?")
            || inner.token.as_ref().is_none_or(|token| {
                let wanted = format!("authorization: bearer {token}");
                headers.iter().any(|header| header.to_ascii_lowercase() == wanted)
            });
        let (status, body) = match inner.files.get(&path) {
            _ if !allowed => ("401 Unauthorized", Vec::new()),
            Some(bytes) => ("200 OK", bytes.clone()),
            None => ("404 Not Found", Vec::new()),
        };
        let challenge = inner.challenge.iter().map(|text| format!("WWW-Authenticate: {text}\r\n"));
        let challenge: String = challenge.collect();
        drop(inner);
        let head = format!(
            "HTTP/1.1 {status}\r\n{challenge}Content-Length: {}\r\nETag: \"1\"\r\nConnection: close\r\n\r\n",
            body.len()
        );
        let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
    }
}

pub fn hex(bytes: &[u8]) -> String {
    sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A store that fetches from `base`.
pub fn store(world: &World, base: &str, tokens: Vec<posada_fetch::Token>) -> Store {
    let settings = Settings { proxies: false, tokens, ..Settings::default() };
    world.store.clone().with_remotes(Remotes {
        settings,
        catalog: Some(base.parse().unwrap()),
        ..Remotes::default()
    })
}

fn fetch(
    store: &Store,
    reference: &str,
    requirement: Option<&str>,
    name: Option<&str>,
) -> Result<StoredBox, BoxError> {
    let requirement = requirement.map(|text| VersionReq::parse(text).unwrap());
    let wanted = Wanted { requirement, form: None, provider: None, architecture: None };
    let options = FetchOptions { name: name.map(str::to_owned), ..FetchOptions::default() };
    store.fetch(&BoxRef::parse(reference).unwrap(), &wanted, &options, &Quiet, &Cancel::default())
}

/// Versions 1.0, 1.1 and 2.0 for lxc, with the checksum that `sum` makes of each.
fn publish(world: &World, site: &Site, sum: impl Fn(&[u8]) -> String) {
    let mut versions = Vec::new();
    for version in ["1.0", "2.0", "1.1"] {
        let bytes = std::fs::read(world.archive(&format!("{version}.tar"), version, &[])).unwrap();
        let provider = |name: &str| {
            format!(
                r#"{{"name": "{name}", "url": "/files/{version}.box", "checksum": "{}", "checksum_type": "sha256"}}"#,
                sum(&bytes)
            )
        };
        versions.push(format!(
            r#"{{"version": "{version}", "status": "active", "providers": [{}, {}]}}"#,
            provider("aws"),
            provider("lxc")
        ));
        site.put(&format!("/files/{version}.box"), bytes);
    }
    site.put("/team/web", format!(r#"{{"name": "team/web", "versions": [{}]}}"#, versions.join(", ")));
}

fn text(stored: &StoredBox) -> String {
    std::fs::read_to_string(stored.rootfs().unwrap().join("etc/text")).unwrap()
}

fn catalog() {
    let (world, site) = (World::new(), Site::default());
    publish(&world, &site, hex);
    let store = store(&world, &site.start(), Vec::new());
    let stored = fetch(&store, "team/web", Some("~> 1.0"), None).unwrap();
    assert_eq!(
        (stored.name.as_str(), stored.version.as_str(), text(&stored).as_str()),
        ("team/web", "1.1", "1.1")
    );
    assert_eq!(site.asked(), ["/team/web", "/files/1.1.box"]);
    // What is there already is not fetched once more.
    fetch(&store, "team/web", Some("= 1.1"), None).unwrap();
    assert_eq!(site.asked(), ["/team/web"]);
    assert_eq!(entries(&world.path("boxes/downloads")), Vec::<String>::new());
    let error = fetch(&store, "team/web", Some("> 3"), None).unwrap_err();
    assert!(
        matches!(&error, BoxError::NotOffered { have, .. } if have == &["2.0", "1.1", "1.0"]),
        "{error:?}"
    );
    let error = fetch(&store, "team/none", None, None).unwrap_err();
    assert!(matches!(error, BoxError::Fetch(FetchError::NotFound { .. })), "{error:?}");
}

fn forged() {
    let (world, site) = (World::new(), Site::default());
    publish(&world, &site, |_| "ab".repeat(32));
    let store = store(&world, &site.start(), Vec::new());
    let error = fetch(&store, "team/web", None, None).unwrap_err();
    assert!(matches!(error, BoxError::Fetch(FetchError::Mismatch { .. })), "{error:?}");
    assert_eq!(store.list().unwrap(), []);
    world.assert_clean();
}

fn obtained() {
    let (world, site) = (World::new(), Site::default());
    publish(&world, &site, hex);
    let store = store(&world, &site.start(), Vec::new());
    let obtain = |name: &str, form| {
        store.obtain(&BoxRef::parse(name).unwrap(), None, form, &Quiet, &Cancel::default())
    };
    assert_eq!(text(&obtain("team/web", Form::Rootfs).unwrap()), "2.0");
    site.asked();
    // Now the store has it, and nobody is asked.
    obtain("team/web", Form::Rootfs).unwrap();
    assert_eq!(site.asked(), Vec::<String>::new());
    // Another provider may be tried, as without a catalog.
    assert!(matches!(obtain("team/web", Form::Disk), Err(BoxError::MissingForm { .. })));
    assert!(
        matches!(obtain("team/wep", Form::Rootfs), Err(BoxError::Missing { near, .. }) if near == ["team/web"])
    );
}

fn beside() {
    let (world, site) = (World::new(), Site::default());
    let base = site.start();
    let store = store(&world, &base, Vec::new());
    let bytes = std::fs::read(world.archive("a.tar", "one", &[])).unwrap();
    site.put("/d/a.tar", bytes.clone());
    site.put("/d/SHA256SUMS", format!("{}  other\n{} *a.tar\n", "00".repeat(32), "ab".repeat(32)));
    let url = format!("{base}/d/a.tar");
    let error = fetch(&store, &url, None, Some("a")).unwrap_err();
    assert!(matches!(error, BoxError::Fetch(FetchError::Mismatch { .. })), "{error:?}");
    site.put("/d/SHA256SUMS", format!("{} *a.tar\n", hex(&bytes)));
    assert_eq!(text(&fetch(&store, &url, None, Some("a")).unwrap()), "one");
    // What the reference says counts, and nothing beside it is asked for.
    site.asked();
    let wrong = format!("{url}#sha256={}", "ab".repeat(32));
    assert!(matches!(
        fetch(&store, &wrong, None, Some("b")),
        Err(BoxError::Fetch(FetchError::Mismatch { .. }))
    ));
    assert!(!site.asked().contains(&"/d/SHA256SUMS".to_owned()));
    let right = BoxRef::parse(&format!("{url}#sha256={}", hex(&bytes))).unwrap();
    let obtain = || store.obtain(&right, None, Form::Rootfs, &Quiet, &Cancel::default()).unwrap();
    assert_eq!(obtain().name, obtain().name);
    assert_eq!(site.asked(), ["/d/a.tar"]);
}

fn token() {
    let (world, site) = (World::new(), Site::default());
    publish(&world, &site, hex);
    site.0.lock().unwrap().token = Some("hunter2".to_owned());
    let base = site.start();
    let error = fetch(&store(&world, &base, Vec::new()), "team/web", None, None).unwrap_err();
    assert!(matches!(error, BoxError::Fetch(FetchError::Refused { .. })), "{error:?}");
    let known = |server: &str, secret: &str| posada_fetch::Token {
        server: server.parse().unwrap(),
        secret: secret.to_owned().into(),
    };
    let wrong = store(&world, &base, vec![known(&base, "hunter3")]);
    let error = fetch(&wrong, "team/web", None, None).unwrap_err();
    assert!(!format!("{error} {error:?} {wrong:?}").contains("hunter3"));
    fetch(&store(&world, &base, vec![known(&base, "hunter2")]), "team/web", None, None).unwrap();
}

/// Laid out as the public servers are: an index, a document of images, and files below dates.
fn image_server() {
    let world = World::new();
    let site = Site::default();
    let base = site.start();
    let tree = |name: &str| {
        let script = format!(
            "mkdir -p t/sbin t/etc && printf '#!/bin/sh\\n' >t/sbin/init && chmod 755 t/sbin/init && echo {name} >t/etc/motd && tar -C t -cJf - ."
        );
        let made = std::process::Command::new("sh")
            .arg("-c")
            .arg(script)
            .current_dir(world.dir.path())
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        made.stdout
    };
    let (old, new) = (tree("old"), tree("new"));
    let build = |day: &str, bytes: &[u8]| {
        site.put(&format!("/sub/images/{day}/rootfs.tar.xz"), bytes);
        format!(
            r#""{day}": {{"items": {{
                "lxd.tar.xz": {{"ftype": "lxd.tar.xz", "path": "images/{day}/lxd.tar.xz", "sha256": "{sum}"}},
                "root.squashfs": {{"ftype": "squashfs", "path": "images/{day}/rootfs.squashfs", "sha256": "{sum}"}},
                "root.tar.xz": {{"ftype": "root.tar.xz", "path": "images/{day}/rootfs.tar.xz", "sha256": "{sum}", "size": {size}}}}}}}"#,
            sum = hex(bytes),
            size = bytes.len(),
        )
    };
    let host = posada_box_catalog::host_architecture();
    let document = format!(
        r#"{{"content_id": "images", "datatype": "image-downloads", "format": "products:1.0", "products": {{
            "debian:bookworm:{host}:default": {{"aliases": "debian/bookworm/default,debian/12", "arch": "{host}", "os": "Debian",
                "release": "bookworm", "versions": {{{}, {}}}}},
            "debian:bookworm:sparc64:default": {{"aliases": "debian/12", "arch": "sparc64", "versions": {{{}}}}}}}}}"#,
        build("20261124_05:24", &old),
        build("20261125_05:24", &new),
        build("20261126_05:24", b"for another machine"),
    );
    // One that only comes as squashfs.
    let image = world.path("rootfs.squashfs");
    let made = std::process::Command::new("mksquashfs")
        .arg(world.path("t"))
        .arg(&image)
        .args(["-quiet", "-all-root"])
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let image = std::fs::read(image).unwrap();
    site.put("/sub/images/20261123/rootfs.squashfs", image.clone());
    let only = format!(
        r#""20261123": {{"items": {{"s": {{"ftype": "squashfs", "path": "images/20261123/rootfs.squashfs", "sha256": "{}"}}}}}},"#,
        hex(&image)
    );
    let document = document.replacen(r#""versions": {"#, &format!(r#""versions": {{{only}"#), 1);
    site.put("/sub/streams/v1/images.json", document);
    site.put(
        "/sub/streams/v1/index.json",
        r#"{"format": "index:1.0", "index": {"images": {"datatype": "image-downloads", "path": "streams/v1/images.json"}}}"#,
    );
    let store = store(&world, &base, Vec::new());
    let reference = format!("simplestreams:{base}/sub#debian/12");

    let newest = fetch(&store, &reference, None, None).unwrap();
    assert_eq!(
        (newest.version.to_string().as_str(), newest.digest.to_string()),
        ("20261125.0524", hex(&new))
    );
    let older = fetch(&store, &reference, Some("< 20261125"), Some("mine/old")).unwrap();
    assert_eq!((older.name.as_str(), older.digest.to_string()), ("mine/old", hex(&old)));

    let squashed = fetch(&store, &reference, Some("= 20261123"), Some("mine/squashed")).unwrap();
    assert_eq!(squashed.digest.to_string(), hex(&image));
    assert_eq!(std::fs::read(squashed.rootfs().unwrap().join("etc/motd")).unwrap(), b"new\n");

    // What is there is not asked for; what is not called so is told with what is.
    site.asked();
    let wanted = BoxRef::parse(&reference).unwrap();
    let obtained = store.obtain(&wanted, None, Form::Rootfs, &Quiet, &Cancel::default()).unwrap();
    assert_eq!((obtained.digest, site.asked().len()), (newest.digest, 0));
    let unknown = fetch(&store, &format!("simplestreams:{base}/sub#debian/99"), None, None);
    match unknown {
        Err(BoxError::NotOffered { have, .. }) => {
            assert!(have.contains(&"debian/bookworm/default".to_owned()), "{have:?}")
        }
        other => panic!("{other:?}"),
    }
    let none = store.obtain(&wanted, None, Form::Disk, &Quiet, &Cancel::default());
    assert!(matches!(none, Err(BoxError::MissingForm { .. } | BoxError::NotOffered { .. })), "{none:?}");

    // Another content under the same checksum, and documents that are none.
    site.put("/sub/images/20261125_05:24/rootfs.tar.xz", old.clone());
    let forged = fetch(&store, &reference, None, Some("mine/forged"));
    assert!(matches!(forged, Err(BoxError::Fetch(FetchError::Mismatch { .. }))), "{forged:?}");
    for (path, text) in [("/sub/streams/v1/images.json", "[]"), ("/sub/streams/v1/index.json", "<html>")] {
        site.put(path, text);
        assert!(matches!(fetch(&store, &reference, None, None), Err(BoxError::Repository { .. })), "{path}");
    }
}
