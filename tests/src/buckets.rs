//! A server of buckets that speaks S3, of its own for each test: `s3s-fs`, which `scripts/cargo-tools.sh` installs.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Who may use it.
const KEY: &str = "POSADATESTS";
const SECRET: &str = "hunter2hunter2";

/// A server on the loopback that keeps its buckets in a directory.
pub struct Buckets {
    daemon: Child,
    root: PathBuf,
    url: String,
    closed: bool,
}

impl Buckets {
    /// One that wants to know who asks, with one bucket, `boxes`.
    #[must_use]
    pub fn start(root: &Path) -> Self {
        Self::with(root, &["--access-key", KEY, "--secret-key", SECRET])
    }

    /// One that lets everybody do everything.
    #[must_use]
    pub fn open(root: &Path) -> Self {
        Self::with(root, &[])
    }

    fn with(root: &Path, args: &[&str]) -> Self {
        std::fs::create_dir_all(root.join("boxes")).unwrap();
        let mut command = Command::new("s3s-fs");
        command.arg(root).args(["--host", "127.0.0.1", "--port", "0"]).args(args).env("RUST_LOG", "info");
        command.env("NO_COLOR", "1").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut daemon = command.spawn().expect("`scripts/cargo-tools.sh s3s-fs` installs it");
        let mut log = BufReader::new(daemon.stdout.take().unwrap());
        let mut line = String::new();
        let url = loop {
            line.clear();
            assert!(log.read_line(&mut line).unwrap() > 0, "the server of buckets ended before it listened");
            if let Some((_, url)) = line.split_once("server is running at ") {
                break url.trim().to_owned();
            }
        };
        // Whatever it has to say: a full pipe would stop it.
        std::thread::spawn(move || log.read_to_end(&mut Vec::new()));
        Self { daemon, root: root.to_owned(), url, closed: !args.is_empty() }
    }

    /// How it is reached, as variables of the environment.
    #[must_use]
    pub fn variables(&self) -> Vec<(String, String)> {
        let mut variables = vec![("AWS_ENDPOINT", self.url.as_str()), ("AWS_REGION", "us-east-1")];
        match self.closed {
            true => variables.extend([("AWS_ACCESS_KEY_ID", KEY), ("AWS_SECRET_ACCESS_KEY", SECRET)]),
            false => variables.push(("AWS_SKIP_SIGNATURE", "true")),
        }
        variables.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    /// The same, with names in lower case.
    #[must_use]
    pub fn options(&self) -> Vec<(String, String)> {
        self.variables().into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value)).collect()
    }

    /// Where an object of the bucket `boxes` lies on this host.
    #[must_use]
    pub fn object(&self, key: &str) -> PathBuf {
        self.root.join("boxes").join(key)
    }

    /// Puts an object there, as somebody else's tools would.
    pub fn put(&self, key: &str, bytes: &[u8]) {
        let path = self.object(key);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
}

impl Drop for Buckets {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}
