//! What the tests share: stores, root file systems, archives.

use std::ffi::OsString;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use libtest_mimic::Trial;
use posada_box_catalog::{BoxError, Cancel, NewBox, Quiet, Refusal, Store, StoredBox, Version, Which};
use tempfile::TempDir;

/// The word by which this binary becomes [`child`].
pub const CHILD: &str = "__add-in-child";
/// The word by which this binary becomes [`remove`].
pub const REMOVE: &str = "__remove-in-child";
/// The word by which this binary becomes [`gc`].
pub const GC: &str = "__gc-in-child";
/// The word by which this binary becomes [`build`].
pub const BUILD: &str = "__build";

pub fn trial(name: &'static str, test: impl FnOnce() + Send + 'static) -> Trial {
    Trial::test(name, move || {
        test();
        Ok(())
    })
}

/// A store of its own, and room for files beside it.
pub struct World {
    pub dir: TempDir,
    pub store: Store,
}

/// Stands for the monitor's unpacker of kernels: those that carry a mark are packed.
pub fn unpacked(kernel: &[u8]) -> Option<Vec<u8>> {
    kernel.ends_with(PACKED).then(|| [b"unpacked", kernel].concat())
}

/// The mark.
pub const PACKED: &[u8] = b"packed";

pub fn exe() -> PathBuf {
    PathBuf::from("/proc/self/exe")
}

impl World {
    pub fn new() -> Self {
        Self::within(tempfile::tempdir().unwrap())
    }

    pub fn within(dir: TempDir) -> Self {
        let store = Store::open(dir.path().join("boxes"), exe()).unwrap();
        Self { dir, store }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A small root file system under `name` in which `text` makes the difference.
    pub fn rootfs(&self, name: &str, text: &str) -> PathBuf {
        let root = self.path(name);
        for directory in ["sbin", "etc", "usr/bin", "usr/lib", "tmp", "home/dev"] {
            std::fs::create_dir_all(root.join(directory)).unwrap();
        }
        std::fs::copy("/bin/true", root.join("sbin/init")).unwrap();
        write(&root.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\ndev:x:1000:1000::/home/dev:/bin/sh\n");
        write(&root.join("etc/os-release"), "ID=debian\nVERSION_ID=\"12\"\nPRETTY_NAME=\"Debian 12\"\n");
        write(&root.join("etc/text"), text);
        root
    }

    /// A tar archive of such a root file system, by the system's tar with `options`.
    pub fn archive(&self, name: &str, text: &str, options: &[&str]) -> PathBuf {
        let root = self.rootfs(&format!("{name}.d"), text);
        let archive = self.path(name);
        run(Command::new("tar").args(options).arg("-cf").arg(&archive).arg("-C").arg(root).arg("."));
        archive
    }

    pub fn add(&self, archive: &Path, name: &str, version: &str) -> Result<StoredBox, BoxError> {
        self.store.add(archive, &new_box(name, version), &Quiet, &Cancel::default())
    }

    /// Adds an archive that must be refused, and sees that nothing is left of it.
    pub fn refused(&self, archive: &Path) -> Refusal {
        let before = self.store.list().unwrap();
        let refusal = match self.add(archive, "bad", "1") {
            Err(BoxError::NotABox { refusal, .. }) => refusal,
            other => panic!("{} was not refused: {other:?}", archive.display()),
        };
        assert_eq!(self.store.list().unwrap(), before);
        self.assert_clean();
        refusal
    }

    /// Nothing is half done or half deleted.
    pub fn assert_clean(&self) {
        for directory in ["incoming", "trash"] {
            assert_eq!(entries(&self.path("boxes").join(directory)), Vec::<String>::new(), "{directory}");
        }
    }
}

pub fn new_box(name: &str, version: &str) -> NewBox {
    NewBox { name: name.to_owned(), version: Version::parse(version).unwrap(), user: None, replace: false }
}

pub fn write(path: &Path, text: impl AsRef<[u8]>) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

pub fn mode(path: &Path) -> u32 {
    std::fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

pub fn entries(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(directory)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

pub fn run(command: &mut Command) -> Vec<u8> {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// Adds an archive to a store from a process of its own: `ROOT ARCHIVE NAME VERSION`.
pub fn child(args: &[OsString]) -> ExitCode {
    let args: Vec<String> = args.iter().map(|arg| arg.clone().into_string().unwrap()).collect();
    let [root, archive, name, version] = &args[..] else { return ExitCode::from(2) };
    let store = Store::open(root.into(), exe()).unwrap();
    match store.add(Path::new(archive), &new_box(name, version), &Quiet, &Cancel::default()) {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => failure(&error),
    }
}

/// Removes all versions of a box from a process of its own: `ROOT NAME`.
pub fn remove(args: &[OsString]) -> ExitCode {
    let args: Vec<String> = args.iter().map(|arg| arg.clone().into_string().unwrap()).collect();
    let [root, name] = &args[..] else { return ExitCode::from(2) };
    let store = Store::open(root.into(), exe()).unwrap();
    match store.remove(name, &Which::All, false, &|_| Vec::new()) {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => failure(&error),
    }
}

/// Collects what nobody needs from a process of its own: `ROOT`.
pub fn gc(args: &[OsString]) -> ExitCode {
    let [root] = args else { return ExitCode::from(2) };
    let store = Store::open(root.into(), exe()).unwrap();
    match store.gc(false, &|_| Vec::new(), &Quiet, &Cancel::default()) {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => failure(&error),
    }
}

fn failure(error: &BoxError) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "{error}");
    ExitCode::FAILURE
}

/// Builds a box: `ROOT RECIPE [PHASE]`; prints its tree. Cancels itself when it comes to PHASE.
pub fn build(args: &[OsString]) -> ExitCode {
    struct Shown(std::time::Instant, Option<String>, Cancel);
    impl posada_box_catalog::Progress for Shown {
        fn phase(&self, text: &str, _: Option<u64>) {
            let _ = writeln!(std::io::stderr(), "{:6.2} {text}", self.0.elapsed().as_secs_f64());
            if self.1.as_deref() == Some(text) {
                self.2.cancel();
            }
        }
        fn advance(&self, _: u64) {}
        fn warn(&self, text: &str) {
            let _ = writeln!(std::io::stderr(), "warning: {text}");
        }
    }
    let args: Vec<String> = args.iter().map(|arg| arg.clone().into_string().unwrap()).collect();
    let [root, name, rest @ ..] = &args[..] else { return ExitCode::from(2) };
    let cancel = Cancel::default();
    let store = Store::open(root.into(), exe()).unwrap();
    let recipe = posada_box_catalog::build::recipe(name).unwrap();
    let options = posada_box_catalog::build::BuildOptions::default();
    let shown = Shown(std::time::Instant::now(), rest.first().cloned(), cancel.clone());
    match posada_box_catalog::build::build(&store, &recipe, &options, &shown, &cancel) {
        Ok(built) => {
            let _ = writeln!(std::io::stdout(), "{}", built.stored().rootfs().unwrap().display());
            ExitCode::SUCCESS
        }
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}
