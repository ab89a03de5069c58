//! Where things are.

use std::path::{Path, PathBuf};

use nix::unistd::Uid;

/// The binary under test: `POSADA_BIN`, or the debug binary of this workspace.
///
/// # Panics
/// Where it has not been built.
#[must_use]
pub fn binary() -> PathBuf {
    let path =
        std::env::var_os("POSADA_BIN").map_or_else(|| workspace().join("target/debug/posada"), PathBuf::from);
    assert!(path.is_file(), "{} is not there: run `make build` first, or set POSADA_BIN", path.display());
    path
}

/// The root of the workspace.
///
/// # Panics
/// Never: the crate lies one folder below it.
#[must_use]
pub fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace").to_owned()
}

/// Where what all tests share is kept: `POSADA_TEST_CACHE`, or `/var/tmp/posada-test-<uid>`.
/// Everyone may enter it, as some tests run as another user; what is private below it is mode 0700.
#[must_use]
pub fn cache() -> PathBuf {
    std::env::var_os("POSADA_TEST_CACHE")
        .filter(|value| !value.is_empty())
        .map_or_else(|| PathBuf::from(format!("/var/tmp/posada-test-{}", Uid::current())), PathBuf::from)
}

/// Ends a test that needs root with a sentence that says so; the test then counts as failed, not as passed.
///
/// # Panics
/// Where the caller is not root.
pub fn needs_root() {
    assert!(
        Uid::effective().is_root(),
        "this test needs root: run `make test` as root, or with sudo at hand"
    );
}
