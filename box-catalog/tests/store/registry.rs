//! A registry that runs for one test, Debian's `docker-registry`, and what it is filled with.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use sha2::Digest as _;

use crate::support::{World, run};

/// `ci` and `hunter2`, as bcrypt has them.
const USERS: &str = "ci:$2b$04$abcdefghijklmnopqrstuuV3duMsC0HpUex6N9qapiuOHHWkwRXVm\n";

/// A registry on the loopback.
pub struct Registry {
    daemon: Child,
    /// Its host and port.
    pub host: String,
}

impl Registry {
    pub fn start(world: &World) -> Self {
        Self::with(world, "")
    }

    /// One that only `ci` may use.
    pub fn closed(world: &World) -> Self {
        let users = world.path("htpasswd");
        std::fs::write(&users, USERS).unwrap();
        Self::with(world, &format!("auth: {{htpasswd: {{realm: here, path: {}}}}}\n", users.display()))
    }

    fn with(world: &World, more: &str) -> Self {
        let config = world.path("registry.yml");
        let data = world.path("registry");
        let text = format!(
            "version: 0.1\nlog: {{level: info}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\n\
             http: {{addr: '127.0.0.1:0', secret: s}}\n{more}",
            data.display()
        );
        std::fs::write(&config, text).unwrap();
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(&config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut daemon = command.spawn().expect("Debian's docker-registry is installed");
        let mut log = BufReader::new(daemon.stderr.take().unwrap());
        let mut line = String::new();
        let host = loop {
            line.clear();
            assert!(log.read_line(&mut line).unwrap() > 0, "the registry ended before it listened");
            if let Some((_, rest)) = line.split_once("listening on ") {
                break rest.split('"').next().unwrap().to_owned();
            }
        };
        // Whatever it has to say: a full pipe would stop it.
        std::thread::spawn(move || log.read_to_end(&mut Vec::new()));
        Self { daemon, host }
    }

    /// Copies an image of a layout into it.
    pub fn copy(&self, layout: &Path, repository: &str, options: &[&str]) {
        let to = format!("docker://{}/{repository}", self.host);
        let mut command = Command::new("skopeo");
        command.args(["copy", "--quiet", "--insecure-policy", "--dest-tls-verify=false"]).args(options);
        run(command.arg(format!("oci:{}:image", layout.display())).arg(to));
    }

    /// Puts content there by hand; its digest.
    pub fn blob(&self, repository: &str, bytes: &[u8]) -> String {
        let place = format!("http://{}/v2/{repository}/blobs/uploads/", self.host);
        let head = curl(&["--request", "POST", "--head", &place], b"");
        let location = head.lines().find_map(|line| line.strip_prefix("Location: ")).expect(&head);
        let digest = digest(bytes);
        let url = format!("{location}&digest={digest}");
        curl(
            &[
                "--request",
                "PUT",
                "--header",
                "content-type: application/octet-stream",
                "--data-binary",
                "@-",
                &url,
            ],
            bytes,
        );
        digest
    }

    /// Puts a manifest there by hand.
    pub fn manifest(&self, repository: &str, reference: &str, kind: &str, text: &str) {
        let url = format!("http://{}/v2/{repository}/manifests/{reference}", self.host);
        let kind = format!("content-type: {kind}");
        curl(&["--request", "PUT", "--header", &kind, "--data-binary", "@-", &url], text.as_bytes());
    }

    /// The bytes of a manifest that is there.
    pub fn read(&self, repository: &str, reference: &str) -> String {
        let url = format!("http://{}/v2/{repository}/manifests/{reference}", self.host);
        let accept =
            "accept: application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json";
        curl(&["--header", accept, &url], b"")
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

pub fn digest(bytes: &[u8]) -> String {
    let hex: String = sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

fn curl(args: &[&str], input: &[u8]) -> String {
    use std::io::Write as _;

    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--fail", "--noproxy", "*"]).args(args);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{command:?}");
    String::from_utf8(output.stdout).unwrap().replace("\r\n", "\n")
}

/// What a layer of an image is made of by hand, in its order.
pub enum Piece<'a> {
    File(&'a str, &'a str),
    Directory(&'a str),
    Symlink(&'a str, &'a str),
    Hardlink(&'a str, &'a str),
}

/// A layer.
pub fn layer(pieces: &[Piece<'_>]) -> Vec<u8> {
    use tar::EntryType;

    let mut builder = tar::Builder::new(Vec::new());
    for piece in pieces {
        let mut header = tar::Header::new_gnu();
        header.set_mtime(1_700_000_000);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(0);
        header.set_mode(0o644);
        match piece {
            Piece::File(path, content) => {
                header.set_size(content.len() as u64);
                builder.append_data(&mut header, path, content.as_bytes()).unwrap();
            }
            Piece::Directory(path) => {
                header.set_entry_type(EntryType::Directory);
                header.set_mode(0o755);
                builder.append_data(&mut header, path, &b""[..]).unwrap();
            }
            Piece::Symlink(path, target) => {
                header.set_entry_type(EntryType::Symlink);
                builder.append_link(&mut header, path, target).unwrap();
            }
            Piece::Hardlink(path, target) => {
                header.set_entry_type(EntryType::Link);
                builder.append_link(&mut header, path, target).unwrap();
            }
        }
    }
    builder.into_inner().unwrap()
}

/// A layout that umoci has made of layers, the lowest first: tar archives that are not compressed.
pub fn layout(world: &World, name: &str, layers: &[PathBuf]) -> PathBuf {
    let layout = world.path(name);
    run(Command::new("umoci").args(["init", "--layout"]).arg(&layout));
    let image = format!("{}:image", layout.display());
    run(Command::new("umoci").args(["new", "--image", &image]));
    for layer in layers {
        run(Command::new("umoci").args(["raw", "add-layer", "--image", &image]).arg(layer));
    }
    layout
}
