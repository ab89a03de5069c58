//! Images from a registry: Debian's, filled by umoci and skopeo; and from one that misbehaves.

use std::path::{Path, PathBuf};
use std::process::Command;

use libtest_mimic::Trial;
use posada_box_catalog::source::Wanted;
use posada_box_catalog::{
    BoxError, BoxRef, Cancel, FetchOptions, Form, LoginPlaces, Place, Published, Quiet, Refusal, Remotes,
    Store, StoredBox, Trust, Version, push_file,
};
use posada_fetch::{Client, FetchError, Settings};

use crate::registry::{Piece, Registry, digest, layer, layout};
use crate::remote::Site;
use crate::support::{World, entries, run, trial};

pub fn trials() -> Vec<Trial> {
    vec![
        trial("an_image_is_what_umoci_unpacks_however_it_is_compressed", image),
        trial("layers_that_are_not_compressed_and_come_twice_are_taken", plain),
        trial("an_index_has_an_image_for_each_architecture", index),
        trial("an_image_without_an_init_is_told_from_a_system", initless),
        trial("a_registry_that_wants_to_know_who_asks_is_told", closed),
        trial("a_registry_that_sends_something_else_fills_no_store", forged),
        trial("a_token_is_asked_for_where_the_registry_says", token),
        trial("a_layer_that_leads_out_of_the_box_is_refused", hostile),
        trial("a_box_that_is_pushed_comes_back_and_travels_once", pushed),
        trial("a_box_in_a_registry_is_the_file_that_was_put_there", artifact),
    ]
}

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

fn store(world: &World, logins: &[PathBuf]) -> Store {
    let settings = Settings { proxies: false, ..Settings::default() };
    world.store.clone().with_remotes(Remotes { settings, logins: places(logins), ..Remotes::default() })
}

fn places(files: &[PathBuf]) -> LoginPlaces {
    LoginPlaces { files: files.to_vec(), helpers: Vec::new() }
}

fn fetch(store: &Store, reference: &str, architecture: Option<&str>) -> Result<StoredBox, BoxError> {
    let architecture = architecture.map(str::to_owned);
    let wanted = Wanted { requirement: None, form: None, provider: None, architecture };
    let reference = BoxRef::parse(reference).unwrap();
    store.fetch(&reference, &wanted, &FetchOptions::default(), &Quiet, &Cancel::default())
}

/// The lowest layer: a small system, by the system's tar.
fn system(world: &World) -> PathBuf {
    let root = world.rootfs("system", "lowest");
    for path in ["data/old/deep/x", "data/old/y", "data/keep", "var/lib/a", "var/lib/b/c", "opt/thing/part"] {
        crate::support::write(&root.join(path), path);
    }
    std::fs::hard_link(root.join("data/keep"), root.join("data/link")).unwrap();
    std::os::unix::fs::symlink("keep", root.join("data/symlink")).unwrap();
    let archive = world.path("system.tar");
    let mut tar = Command::new("tar");
    tar.args(["--owner=0", "--group=0", "--numeric-owner", "-cf"]).arg(&archive).arg("-C").arg(root).arg(".");
    run(&mut tar);
    archive
}

fn changes() -> [Vec<u8>; 2] {
    [
        layer(&[
            Piece::Directory("data"),
            // What the layer has itself stays, whatever comes first.
            Piece::Directory("data/old"),
            Piece::File("data/old/new", "of the second layer"),
            Piece::File("data/old/.wh..wh..opq", ""),
            Piece::File("data/.wh.link", ""),
            Piece::File("var/lib/.wh.b", ""),
            Piece::File("var/lib/.wh.never-was", ""),
            // A directory becomes a file, and a link a directory.
            Piece::File("opt/thing", "a file now"),
            Piece::Directory("data/symlink"),
            Piece::File("data/symlink/inside", "x"),
            Piece::File("etc/text", "second"),
        ]),
        layer(&[
            Piece::File("etc/text", "third"),
            Piece::Hardlink("etc/again", "etc/text"),
            Piece::Symlink("etc/deep", "../data/old"),
            Piece::File(".wh.home", ""),
        ]),
    ]
}

/// An image of three layers in a layout.
fn three_layers(world: &World) -> PathBuf {
    let mut layers = vec![system(world)];
    for (number, bytes) in changes().into_iter().enumerate() {
        let path = world.path(&format!("layer{number}.tar"));
        std::fs::write(&path, bytes).unwrap();
        layers.push(path);
    }
    layout(world, "layout", &layers)
}

/// All that is in a tree, but for times of directories, which are nobody's.
fn listed(root: &Path) -> String {
    let mut find = Command::new("find");
    find.arg(root).args(["-mindepth", "1", "-type", "d", "-printf", "%P %y %m\n", "-o"]);
    find.args(["-printf", "%P %y %m %n %s %T@ %l\n"]);
    let mut lines: Vec<String> =
        String::from_utf8(run(&mut find)).unwrap().lines().map(str::to_owned).collect();
    lines.sort();
    lines.join("\n")
}

fn image() {
    let world = World::new();
    let registry = Registry::start(&world);
    let layout = three_layers(&world);
    let bundle = world.path("bundle");
    let mut umoci = Command::new("umoci");
    umoci.args(["unpack", "--image", &format!("{}:image", layout.display())]);
    if !rustix::process::geteuid().is_root() {
        umoci.arg("--rootless");
    }
    run(umoci.arg(&bundle));
    // Compressed anew on its way from where it is not.
    let plain = world.path("plain");
    let mut skopeo = Command::new("skopeo");
    skopeo.args([
        "copy",
        "--quiet",
        "--insecure-policy",
        "--dest-decompress",
        "--dest-oci-accept-uncompressed-layers",
    ]);
    run(skopeo.arg(format!("oci:{}:image", layout.display())).arg(format!("oci:{}:image", plain.display())));
    registry.copy(&plain, "team/web:zstd", &["--dest-compress", "--dest-compress-format", "zstd"]);
    assert!(registry.read("team/web", "zstd").contains("tar+zstd"), "{}", registry.read("team/web", "zstd"));
    registry.copy(&layout, "team/web:gzip", &[]);
    registry.copy(&layout, "team/web:docker", &["--format", "v2s2"]);
    let store = store(&world, &[]);
    for tag in ["gzip", "zstd", "docker"] {
        let stored = fetch(&store, &format!("oci:{}/team/web:{tag}", registry.host), None).unwrap();
        assert_eq!(listed(&stored.rootfs().unwrap()), listed(&bundle.join("rootfs")), "{tag}");
        assert_eq!(stored.metadata.os.id, "debian");
        assert!(
            stored.name.starts_with("oci/") && stored.name.ends_with(&format!("-web{tag}")),
            "{}",
            stored.name
        );
    }
    let text = std::fs::read_to_string(store.list().unwrap()[0].rootfs().unwrap().join("etc/again"));
    assert_eq!(text.unwrap(), "third");
    assert_eq!(entries(&world.path("boxes/downloads")), Vec::<String>::new());
    world.assert_clean();
    // The same layers are the same box, in whatever store; and what is hidden is not counted.
    let other = World::new();
    let again =
        fetch(&self::store(&other, &[]), &format!("oci:{}/team/web:gzip", registry.host), None).unwrap();
    let first = store.list().unwrap().into_iter().find(|one| one.name == again.name).unwrap();
    assert_eq!((first.digest, first.size), (again.digest, again.size));
    let mut find = Command::new("find");
    let sizes = run(find.arg(bundle.join("rootfs")).args(["-type", "f", "-printf", "%n %s %i\n"]));
    let mut sizes: Vec<&str> = str::from_utf8(&sizes).unwrap().lines().collect();
    sizes.sort_unstable();
    sizes.dedup();
    let sum: u64 = sizes.iter().map(|line| line.split(' ').nth(1).unwrap().parse::<u64>().unwrap()).sum();
    assert_eq!(again.size, sum);
    // `up` finds it by its reference.
    let reference = BoxRef::parse(&format!("oci:{}/team/web:gzip", registry.host)).unwrap();
    let error = fetch(&store, &format!("oci:{}/team/web:none", registry.host), None).unwrap_err();
    assert!(error.to_string().contains("has no image or box `none`"), "{error}");
    drop(registry);
    store.obtain(&reference, None, Form::Rootfs, &Quiet, &Cancel::default()).unwrap();
}

/// A manifest of layers that are in the registry: their digests and sizes.
fn manifest(config: &[u8], layers: &[(String, usize)]) -> String {
    let one = |kind: &str, digest: &str, size: usize| {
        format!(r#"{{"mediaType": "{kind}", "digest": "{digest}", "size": {size}}}"#)
    };
    let layers: Vec<String> = layers.iter().map(|(digest, size)| one(LAYER, digest, *size)).collect();
    format!(
        r#"{{"schemaVersion": 2, "mediaType": "{MANIFEST}", "config": {}, "layers": [{}]}}"#,
        one(CONFIG, &digest(config), config.len()),
        layers.join(", ")
    )
}

fn config(architecture: &str) -> Vec<u8> {
    format!(r#"{{"architecture": "{architecture}", "os": "linux"}}"#).into_bytes()
}

/// An image of one architecture, put there by hand; its manifest.
fn put(
    registry: &Registry,
    repository: &str,
    reference: &str,
    architecture: &str,
    layers: &[&[u8]],
) -> String {
    let config = config(architecture);
    registry.blob(repository, &config);
    let layers: Vec<_> = layers.iter().map(|layer| (registry.blob(repository, layer), layer.len())).collect();
    let manifest = manifest(&config, &layers);
    let reference = if reference.is_empty() { digest(manifest.as_bytes()) } else { reference.to_owned() };
    registry.manifest(repository, &reference, MANIFEST, &manifest);
    manifest
}

/// What this host is, as Go calls it.
fn host() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn plain() {
    let world = World::new();
    let registry = Registry::start(&world);
    let system = std::fs::read(system(&world)).unwrap();
    let [second, _] = changes();
    let empty = vec![0; 1024];
    put(&registry, "a", "1", host(), &[&system, &empty, &second, &empty]);
    let stored = fetch(&store(&world, &[]), &format!("oci:{}/a:1", registry.host), None).unwrap();
    let text = std::fs::read_to_string(stored.rootfs().unwrap().join("etc/text")).unwrap();
    assert_eq!(text, "second");
    assert!(!stored.rootfs().unwrap().join("var/lib/b").exists());
}

fn index() {
    let world = World::new();
    let registry = Registry::start(&world);
    let system = std::fs::read(system(&world)).unwrap();
    let mine = put(&registry, "a", "", host(), &[&system]);
    let marked = layer(&[Piece::File("etc/text", "of another architecture")]);
    let other = put(&registry, "a", "", "s390x", &[&system, &marked]);
    let entry = |text: &str, architecture: &str, os: &str| {
        format!(
            r#"{{"mediaType": "{MANIFEST}", "digest": "{}", "size": {}, "platform": {{"architecture": "{architecture}", "os": "{os}"}}}}"#,
            digest(text.as_bytes()),
            text.len()
        )
    };
    let all =
        [entry(&other, "s390x", "linux"), entry(&mine, host(), "linux"), entry(&other, "unknown", "unknown")];
    let text =
        format!(r#"{{"schemaVersion": 2, "mediaType": "{INDEX}", "manifests": [{}]}}"#, all.join(", "));
    registry.manifest("a", "1", INDEX, &text);

    let store = store(&world, &[]);
    let reference = format!("oci:{}/a:1", registry.host);
    let read =
        |stored: StoredBox| std::fs::read_to_string(stored.rootfs().unwrap().join("etc/text")).unwrap();
    assert_eq!(read(fetch(&store, &reference, None).unwrap()), "lowest");
    let pinned = format!("oci:{}/a@{}", registry.host, digest(other.as_bytes()));
    assert_eq!(read(fetch(&store, &pinned, Some("s390x")).unwrap()), "of another architecture");
    let error = fetch(&store, &reference, Some("riscv64")).unwrap_err();
    let BoxError::NotOffered { what, have, .. } = &error else { panic!("{error:?}") };
    assert!(what.contains("riscv64") && have.contains(&"s390x".to_owned()) && have.len() == 2, "{error:?}");
    // A digest that is not there.
    let none = format!("oci:{}/a@sha256:{}", registry.host, "00".repeat(32));
    assert!(matches!(fetch(&store, &none, None), Err(BoxError::Repository { .. })));
    // Nothing comes from there where boxes have to be signed.
    let trust = Trust { require_signed: true, ..Trust::default() };
    let settings = Settings { proxies: false, ..Settings::default() };
    let careful = World::new();
    let strict = careful.store.clone().with_remotes(Remotes { settings, trust, ..Remotes::default() });
    assert!(matches!(fetch(&strict, &reference, None), Err(BoxError::Signature { .. })));
    assert_eq!(strict.list().unwrap(), []);
    // A virtual machine needs a disk, which no image of a container has.
    let wanted = Wanted::newest(Form::Disk);
    let error = store.offered(&BoxRef::parse(&reference).unwrap(), &wanted, &Quiet, &Cancel::default());
    assert!(matches!(error, Err(BoxError::NotOffered { .. })), "{error:?}");
}

fn initless() {
    let world = World::new();
    let registry = Registry::start(&world);
    let program = layer(&[Piece::Directory("bin"), Piece::File("bin/program", "x")]);
    put(&registry, "a", "1", host(), &[&program]);
    let error = fetch(&store(&world, &[]), &format!("oci:{}/a:1", registry.host), None).unwrap_err();
    let BoxError::NotABox { what, refusal: Refusal::NoInit(_) } = &error else { panic!("{error:?}") };
    assert_eq!(*what, format!("oci:{}/a:1", registry.host));
    world.assert_clean();
    assert_eq!(entries(&world.path("boxes/downloads")), Vec::<String>::new());
}

fn closed() {
    let world = World::new();
    let layout = three_layers(&world);
    let registry = Registry::closed(&world);
    registry.copy(&layout, "team/web:1", &["--dest-creds", "ci:hunter2"]);
    let reference = format!("oci:{}/team/web:1", registry.host);
    let error = fetch(&store(&world, &[world.path("none.json")]), &reference, None).unwrap_err();
    let hint = posada_provider_api::Fault::hint(&error).unwrap();
    assert!(error.to_string().contains("401") && hint.contains("podman login"), "{error} {hint}");
    // What podman and skopeo keep.
    let kept = world.path("auth.json");
    let mut skopeo = Command::new("skopeo");
    skopeo.args(["login", "--tls-verify=false", "--username", "ci", "--password", "hunter2", "--authfile"]);
    run(skopeo.arg(&kept).arg(&registry.host));
    let stored = fetch(&store(&world, &[kept]), &reference, None).unwrap();
    assert_eq!(stored.metadata.os.id, "debian");
    let wrong = world.path("wrong.json");
    std::fs::write(&wrong, format!(r#"{{"auths": {{"{}": {{"auth": "Y2k6d3Jvbmc="}}}}}}"#, registry.host))
        .unwrap();
    let error = fetch(&store(&world, &[wrong]), &reference, None).unwrap_err();
    assert!(!format!("{error:?}").contains("Y2k6d3Jvbmc"), "{error:?}");
    assert!(matches!(error, BoxError::Repository { .. }), "{error:?}");
}

/// An image of one layer on a site of our own: its manifest and its layer.
fn published(world: &World, site: &Site) -> (String, Vec<u8>) {
    let system = std::fs::read(system(world)).unwrap();
    let config = config(host());
    let manifest = manifest(&config, &[(digest(&system), system.len())]);
    site.put(&format!("/v2/a/blobs/{}", digest(&config)), config);
    site.put(&format!("/v2/a/blobs/{}", digest(&system)), system.clone());
    site.put("/v2/a/manifests/1", manifest.clone());
    site.put(&format!("/v2/a/manifests/{}", digest(manifest.as_bytes())), manifest.clone());
    (manifest, system)
}

fn forged() {
    let (world, site) = (World::new(), Site::default());
    let base = site.start();
    let host = base.strip_prefix("http://").unwrap();
    let (manifest, system) = published(&world, &site);
    let store = store(&world, &[]);
    let reference = format!("oci:{host}/a:1");
    let blob = format!("/v2/a/blobs/{}", digest(&system));
    let fails = |reference: &str| {
        let error = fetch(&store, reference, None).unwrap_err();
        assert_eq!(store.list().unwrap(), []);
        world.assert_clean();
        error
    };
    // Content that is another one, of the same length and shorter.
    let mut other = system.clone();
    other[600] ^= 1;
    site.put(&blob, other);
    assert!(matches!(fails(&reference), BoxError::Fetch(FetchError::Mismatch { .. })));
    site.put(&blob, &system[..system.len() - 512]);
    assert!(matches!(fails(&reference), BoxError::Fetch(FetchError::Mismatch { .. })));
    site.put(&blob, [&system[..], b"more"].concat());
    assert!(matches!(fails(&reference), BoxError::Fetch(FetchError::TooLarge { .. })));
    site.put(&blob, system);
    // A manifest that is not the one that was asked for.
    let pinned = format!("oci:{host}/a@{}", digest(manifest.as_bytes()));
    site.put(&format!("/v2/a/manifests/{}", digest(manifest.as_bytes())), format!("{manifest} "));
    assert!(matches!(fails(&pinned), BoxError::Fetch(FetchError::Mismatch { .. })));
    assert!(matches!(fails(&reference), BoxError::Fetch(FetchError::Mismatch { .. })));
    site.put("/v2/a/manifests/1", "<html>");
    assert!(fails(&reference).to_string().contains("manifest that cannot be read"));
    // As it is to be, after all that.
    site.put("/v2/a/manifests/1", manifest.clone());
    site.put(&format!("/v2/a/manifests/{}", digest(manifest.as_bytes())), manifest);
    fetch(&store, &reference, None).unwrap();
}

fn token() {
    let (world, site) = (World::new(), Site::default());
    let base = site.start();
    let host = base.strip_prefix("http://").unwrap();
    published(&world, &site);
    site.want_token("t0ken", &format!("Bearer realm=\"{base}/token\",service=\"here\""));
    let asked = "/token?service=here&scope=repository%3Aa%3Apull";
    site.put(asked, r#"{"token": "t0ken", "expires_in": 60}"#);
    let stored = fetch(&store(&world, &[]), &format!("oci:{host}/a:1"), None).unwrap();
    assert_eq!(stored.metadata.os.id, "debian");
    assert!(site.asked().contains(&asked.to_owned()));
}

fn hostile() {
    let world = World::new();
    let registry = Registry::start(&world);
    let system = std::fs::read(system(&world)).unwrap();
    let outside = world.path("outside");
    crate::support::write(&outside.join("file"), "mine");
    let target = outside.to_str().unwrap();
    // A link that leads out, and whiteouts and files through it.
    let link = layer(&[Piece::Symlink("out", target)]);
    let through = layer(&[Piece::File("out/.wh.file", ""), Piece::File("out/.wh..wh..opq", "")]);
    put(&registry, "a", "1", host(), &[&system, &link, &through]);
    // In the box, the link leads to nothing: so there is nothing to hide.
    fetch(&store(&world, &[]), &format!("oci:{}/a:1", registry.host), None).unwrap();
    let written = layer(&[Piece::Directory("out/dir"), Piece::File("out/file", "theirs")]);
    put(&registry, "a", "2", host(), &[&system, &link, &written]);
    let _ = fetch(&store(&world, &[]), &format!("oci:{}/a:2", registry.host), None);
    assert_eq!(std::fs::read_to_string(outside.join("file")).unwrap(), "mine");
    assert_eq!(entries(&outside), ["file"]);
    let mut up = layer(&[Piece::File("aa/bb", "x")]);
    up[..5].copy_from_slice(b"../bb");
    let sum: u32 = up[..512]
        .iter()
        .enumerate()
        .map(|(at, b)| if (148..156).contains(&at) { 32 } else { u32::from(*b) })
        .sum();
    up[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    put(&registry, "a", "3", host(), &[&system, &up]);
    let error = fetch(&store(&world, &[]), &format!("oci:{}/a:3", registry.host), None).unwrap_err();
    assert!(matches!(&error, BoxError::NotABox { refusal: Refusal::LeadsOut(_), .. }), "{error:?}");
    world.assert_clean();
}

/// Boxes as artifacts: one file, and what is known of it in annotations.
fn artifact() {
    let world = World::new();
    let registry = Registry::start(&world);
    let file = std::fs::read(system(&world)).unwrap();
    let (config, layer) = (registry.blob("team/web", b"{}"), registry.blob("team/web", &file));
    let manifest = |more: &str, layers: &str| {
        format!(
            r#"{{"schemaVersion": 2, "mediaType": "{MANIFEST}", {more}
                "config": {{"mediaType": "application/vnd.posada.box.v1", "digest": "{config}", "size": 2}}, "layers": [{layers}],
                "annotations": {{"org.opencontainers.image.version": "1.2.0", "vnd.posada.box.provider": "lxc",
                                 "vnd.posada.box.architecture": "{}"}}}}"#,
            posada_box_catalog::host_architecture(),
        )
    };
    let one = format!(
        r#"{{"mediaType": "application/octet-stream", "digest": "{layer}", "size": {}}}"#,
        file.len()
    );
    registry.manifest("team/web", "1.2.0", MANIFEST, &manifest("", &one));
    let store = store(&world, &[]);
    let reference = format!("oci:{}/team/web:1.2.0", registry.host);
    let stored = fetch(&store, &reference, None).unwrap();
    assert_eq!((stored.version.to_string().as_str(), format!("sha256:{}", stored.digest)), ("1.2.0", layer));
    assert!(stored.metadata.provides.contains(&Form::Rootfs));
    assert_eq!(fetch(&store, &reference, None).unwrap().digest, stored.digest, "once more changes nothing");
    let elsewhere = fetch(&store, &reference, Some("sparc64"));
    assert!(matches!(elsewhere, Err(BoxError::NotOffered { .. })), "{elsewhere:?}");

    registry.manifest("team/web", "two", MANIFEST, &manifest("", &format!("{one}, {one}")));
    let two = fetch(&store, &format!("oci:{}/team/web:two", registry.host), None).unwrap_err().to_string();
    assert!(two.contains("2 files"), "{two}");
}

fn pushed() {
    let world = World::new();
    let registry = Registry::start(&world);
    // More than one piece.
    let archive = system(&world);
    let mut bytes = std::fs::read(&archive).unwrap();
    bytes.resize(20 << 20, 0);
    std::fs::write(&archive, &bytes).unwrap();
    let client = Client::new(Settings { proxies: false, ..Settings::default() }).unwrap();
    let push = |registry: &Registry, version: &str, logins: &[PathBuf]| {
        let reference = BoxRef::parse(&format!("oci:{}/team/web:{version}", registry.host)).unwrap();
        let BoxRef::Oci(image) = reference else { panic!("{reference}") };
        let to = Published {
            place: Place::Registry(image, places(logins)),
            name: "team/web".to_owned(),
            version: Version::parse(version).unwrap(),
            provider: "lxc".to_owned(),
            architecture: posada_box_catalog::host_architecture().to_owned(),
            release: true,
        };
        push_file(&client, &archive, &to, None, &Quiet, &Cancel::default())
    };
    let first = push(&registry, "1.0", &[]).unwrap();
    assert_eq!((first.size, first.sent), (bytes.len() as u64, bytes.len() as u64));
    assert_eq!(push(&registry, "1.1", &[]).unwrap().sent, 0, "what is there does not travel again");
    let store = store(&world, &[]);
    let stored = fetch(&store, &format!("oci:{}/team/web:1.1", registry.host), None).unwrap();
    assert_eq!(
        (stored.version.to_string().as_str(), format!("sha256:{}", stored.digest)),
        ("1.1", digest(&bytes))
    );

    // Who may not push is told.
    let closed = Registry::closed(&world);
    let refused = push(&closed, "1.0", &[]).unwrap_err();
    assert!(
        matches!(&refused, BoxError::Repository { hint: Some(hint), .. } if hint.contains("podman login")),
        "{refused:?}"
    );
}
