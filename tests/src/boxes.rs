//! The boxes that all tests run on: made once, shared read-only by every sandbox.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use crate::sandbox::Caller;

/// The box that tests run on, made of Debian's packages as a user makes it.
pub const DEBIAN: &str = "debian/12";

/// The store that holds [`DEBIAN`], of this caller; built by whoever comes first while the others wait.
///
/// # Panics
/// Where the box cannot be built.
#[must_use]
pub fn store(caller: &Caller) -> PathBuf {
    let home = caller.cache();
    let boxes = home.join("boxes");
    // A box by an older recipe is not the one that users get.
    let recipe = crate::place::workspace().join("boxes/debian.yaml");
    let recipe = fs::metadata(&recipe).and_then(|file| file.modified()).expect("the recipe is there");
    let built =
        |ready: &PathBuf| fs::metadata(ready).and_then(|file| file.modified()).is_ok_and(|at| at > recipe);
    let ready = home.join("ready");
    let lock = File::create(home.join("lock")).expect("the cache can be written");
    lock.lock().expect("the cache can be locked");
    if !built(&ready) {
        let command = caller.posada(&home, &home);
        crate::sandbox::run(command, &["box", "build", DEBIAN]).ok();
        fs::write(&ready, "").expect("the cache can be written");
    }
    boxes
}

/// A folder that everyone may enter.
pub(crate) fn open_folder(path: &std::path::Path) {
    fs::create_dir_all(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("its mode can be set");
}
