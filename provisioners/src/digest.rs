//! Digests of what a step runs: equal on every machine and every host as long as nothing was edited.

use std::fmt;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::shell::Program;
use crate::{Action, Shell};

/// SHA-256 over a step's action: for a script its text, arguments, environment and rights; for a copy its
/// destination and, of every file under the source, name, kind, mode and content. Not a step's name, place or
/// `run`, and of a `path` script only the content, not where it lies.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of what `action` runs now.
    ///
    /// # Errors
    /// Where a file of it cannot be read.
    pub fn of(action: &Action) -> io::Result<Self> {
        match action {
            Action::Shell(shell) => Ok(Self::of_shell(shell, &Program::read(&shell.script)?)),
            Action::File(copy) => {
                let mut hash = Fields::new("file");
                hash.text(&copy.destination);
                // The name takes part where the destination leaves it to the source.
                hash.bytes(copy.source.file_name().unwrap_or_default().as_bytes());
                hash.tree(&copy.source)?;
                Ok(hash.finish())
            }
        }
    }

    /// The digest of a script that was read before.
    pub(crate) fn of_shell(shell: &Shell, program: &Program) -> Self {
        let mut hash = Fields::new("shell");
        hash.bytes(program.bytes());
        hash.number(shell.args.len() as u64);
        shell.args.iter().for_each(|arg| hash.text(arg));
        hash.number(shell.env.len() as u64);
        for (name, value) in &shell.env {
            hash.text(name);
            hash.text(value);
        }
        hash.number(u64::from(shell.privileged));
        hash.finish()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

impl TryFrom<String> for Digest {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not a SHA-256 digest in hexadecimal");
        if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
            return Err(wrong());
        }
        let mut bytes = [0; 32];
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).map_err(|_| wrong())?;
        }
        Ok(Self(bytes))
    }
}

/// A hash over fields that cannot run into each other: each carries its length.
struct Fields(Sha256);

impl Fields {
    fn new(kind: &str) -> Self {
        let mut fields = Self(Sha256::new());
        fields.text("posada step 1");
        fields.text(kind);
        fields
    }

    fn number(&mut self, number: u64) {
        self.0.update(number.to_be_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.0.update(bytes);
    }

    fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    fn tree(&mut self, root: &Path) -> io::Result<()> {
        for entry in walkdir::WalkDir::new(root).sort_by_file_name() {
            let entry = entry?;
            let path = entry.path();
            // The source itself may be a link: then what it leads to is copied.
            let meta = if entry.depth() == 0 { fs_err::metadata(path)? } else { entry.metadata()? };
            self.bytes(path.strip_prefix(root).map_err(io::Error::other)?.as_os_str().as_bytes());
            if meta.is_symlink() {
                self.text("link");
                self.bytes(fs_err::read_link(path)?.as_os_str().as_bytes());
                continue;
            }
            self.text(if meta.is_dir() { "directory" } else { "file" });
            self.number(u64::from(meta.permissions().mode() & 0o7777));
            if meta.is_file() {
                self.bytes(&hash_file(path)?);
            }
        }
        Ok(())
    }

    fn finish(self) -> Digest {
        Digest(self.0.finalize().into())
    }
}

fn hash_file(path: &Path) -> io::Result<[u8; 32]> {
    let mut file = fs_err::File::open(path)?;
    let mut hash = Sha256::new();
    let mut piece = vec![0; 256 * 1024];
    loop {
        match file.read(&mut piece) {
            Ok(0) => return Ok(hash.finalize().into()),
            Ok(got) => hash.update(&piece[..got]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;

    use super::*;
    use crate::{FileCopy, Script};
    use proptest::prelude::*;

    fn shell(text: &str, args: &[String], env: &BTreeMap<String, String>, privileged: bool) -> Action {
        Action::Shell(Shell {
            script: Script::Inline(text.to_owned()),
            args: args.to_vec(),
            env: env.clone(),
            privileged,
        })
    }

    fn copy(source: &Path) -> Digest {
        let destination = "/srv".to_owned();
        Digest::of(&Action::File(FileCopy { source: source.to_owned(), destination })).unwrap()
    }

    #[test]
    fn it_never_changes_between_releases() {
        let digest = Digest::of(&shell("true\n", &["a".into()], &BTreeMap::new(), false)).unwrap();
        let by_hand = {
            let mut hash = Sha256::new();
            for field in ["posada step 1", "shell", "true\n"] {
                hash.update((field.len() as u64).to_be_bytes());
                hash.update(field);
            }
            hash.update(1_u64.to_be_bytes());
            hash.update(1_u64.to_be_bytes());
            hash.update("a");
            hash.update(0_u64.to_be_bytes());
            hash.update(0_u64.to_be_bytes());
            Digest(hash.finalize().into())
        };
        assert_eq!(digest, by_hand);
    }

    #[test]
    fn a_script_counts_by_content_not_by_where_it_lies() {
        let dir = tempfile::tempdir().unwrap();
        let digest = |name: &str| {
            let path = dir.path().join(name);
            fs::write(&path, "echo hi\n").unwrap();
            let script = Script::Path(path);
            let (args, env) = (Vec::new(), BTreeMap::new());
            Digest::of(&Action::Shell(Shell { script, args, env, privileged: true })).unwrap()
        };
        assert_eq!(digest("a.sh"), digest("b.sh"));
        assert_eq!(digest("a.sh"), Digest::of(&shell("echo hi\n", &[], &BTreeMap::new(), true)).unwrap());
    }

    #[test]
    fn a_tree_counts_by_names_modes_and_content_not_by_the_order_it_was_made_in() {
        let make = |names: &[&str]| {
            let root = tempfile::tempdir().unwrap();
            let tree = root.path().join("tree");
            fs::create_dir_all(tree.join("sub")).unwrap();
            for name in names {
                fs::write(tree.join(name), name).unwrap();
                fs::set_permissions(tree.join(name), fs::Permissions::from_mode(0o640)).unwrap();
            }
            std::os::unix::fs::symlink("b", tree.join("link")).unwrap();
            (root, tree)
        };
        let (_a, one) = make(&["a", "b", "sub/c"]);
        let (_b, two) = make(&["sub/c", "b", "a"]);
        let first = copy(&one);
        assert_eq!(first, copy(&two));

        fs::set_permissions(two.join("b"), fs::Permissions::from_mode(0o750)).unwrap();
        assert_ne!(first, copy(&two), "mode");
        fs::set_permissions(two.join("b"), fs::Permissions::from_mode(0o640)).unwrap();
        assert_eq!(first, copy(&two));
        fs::rename(two.join("b"), two.join("z")).unwrap();
        assert_ne!(first, copy(&two), "name");
        fs::rename(two.join("z"), two.join("b")).unwrap();
        fs::remove_file(two.join("link")).unwrap();
        std::os::unix::fs::symlink("a", two.join("link")).unwrap();
        assert_ne!(first, copy(&two), "link target");
    }

    proptest! {
        #[test]
        fn different_steps_differ_and_equal_ones_agree(
            one in (".{0,20}", prop::collection::vec(".{0,5}", 0..4),
                    prop::collection::btree_map("[A-Z]{1,3}", ".{0,5}", 0..3), any::<bool>()),
            two in (".{0,20}", prop::collection::vec(".{0,5}", 0..4),
                    prop::collection::btree_map("[A-Z]{1,3}", ".{0,5}", 0..3), any::<bool>()),
        ) {
            let digest = |s: &(String, Vec<String>, BTreeMap<String, String>, bool)| {
                Digest::of(&shell(&s.0, &s.1, &s.2, s.3)).unwrap()
            };
            prop_assert_eq!(digest(&one), digest(&one.clone()));
            prop_assert_eq!(digest(&one) == digest(&two), one == two);
        }

        #[test]
        fn text_form_round_trips(bytes: [u8; 32]) {
            prop_assert_eq!(Digest::try_from(Digest(bytes).to_string()), Ok(Digest(bytes)));
        }

        #[test]
        fn args_do_not_run_into_each_other(a in "[a-z]{1,6}", b in "[a-z]{1,6}") {
            let env = BTreeMap::new();
            let joined = Digest::of(&shell("", &[format!("{a}{b}")], &env, false)).unwrap();
            let apart = Digest::of(&shell("", &[a, b], &env, false)).unwrap();
            prop_assert_ne!(joined, apart);
        }
    }
}
