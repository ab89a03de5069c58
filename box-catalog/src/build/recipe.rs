//! Recipes: what goes into a box, as a YAML file says it. The format is told in `boxes/README.md`.

use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{BoxError, BoxRef, Digest, Form};

/// What a change of ours to how boxes are built changes in the digest of every recipe.
const GENERATION: u32 = 1;
/// Longest chain of `extends`.
const MAX_CHAIN: usize = 8;
/// Largest recipe that is read, bytes.
const MAX_SIZE: u64 = 1024 * 1024;

/// The recipes in the binary, by the name `extends` knows them by. Those without a slash are only extended.
const BUILTIN: [(&str, &str); 3] = [
    ("debian", include_str!("../../../boxes/debian.yaml")),
    ("debian/12", include_str!("../../../boxes/debian-12.yaml")),
    ("debian/13", include_str!("../../../boxes/debian-13.yaml")),
];

/// A recipe, complete.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Recipe {
    name: String,
    suite: String,
    variant: String,
    components: Vec<String>,
    user: String,
    packages: Vec<String>,
    files: Vec<RecipeFile>,
    commands: Vec<String>,
    /// What is made. Left out of the digest where it is a root file system, as it was before there were others.
    #[serde(skip_serializing_if = "is_rootfs")]
    form: Form,
    /// What a disk image holds besides; part of the digest once it is put in.
    #[serde(skip)]
    disk: DiskPart,
}

/// What a disk image holds besides.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct DiskPart {
    packages: Vec<String>,
    files: Vec<RecipeFile>,
    commands: Vec<String>,
}

fn is_rootfs(form: &Form) -> bool {
    *form == Form::Rootfs
}

/// A file that a recipe puts into a box, over what packages brought.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RecipeFile {
    /// Absolute path.
    pub path: String,
    /// What it is.
    pub body: Body,
}

/// What a recipe's file is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Body {
    /// A regular file of root's.
    Content {
        /// What is in it.
        text: String,
        /// Permission bits.
        mode: u32,
    },
    /// A symbolic link.
    Link(String),
}

/// A recipe file as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    name: Option<String>,
    extends: Option<String>,
    suite: Option<String>,
    variant: Option<String>,
    components: Option<Vec<String>>,
    user: Option<String>,
    #[serde(default)]
    packages: Vec<String>,
    #[serde(default)]
    files: Vec<WrittenFile>,
    #[serde(default)]
    commands: Vec<String>,
    #[serde(default)]
    disk: WrittenDisk,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenDisk {
    #[serde(default)]
    packages: Vec<String>,
    #[serde(default)]
    files: Vec<WrittenFile>,
    #[serde(default)]
    commands: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenFile {
    path: String,
    content: Option<String>,
    mode: Option<String>,
    link: Option<String>,
}

impl Recipe {
    /// Names of the recipes that are built in and can be built.
    pub fn names() -> impl Iterator<Item = &'static str> {
        BUILTIN.into_iter().map(|(name, _)| name).filter(|name| name.contains('/'))
    }

    /// The recipe that is built in under `name`.
    ///
    /// # Errors
    /// [`BoxError::Recipe`], which would be a fault of ours.
    pub fn builtin(name: &str) -> Result<Option<Self>, BoxError> {
        let text =
            BUILTIN.into_iter().find(|(known, _)| *known == name && name.contains('/')).map(|(_, text)| text);
        text.map(|text| Self::parse(text, name)).transpose()
    }

    /// Reads a recipe file.
    ///
    /// # Errors
    /// [`BoxError::Recipe`], [`BoxError::Io`].
    pub fn load(path: &Path) -> Result<Self, BoxError> {
        let failed = |error| BoxError::io("read", path, error);
        let shown = path.display().to_string();
        if std::fs::metadata(path).map_err(failed)?.len() > MAX_SIZE {
            return Err(fault(&shown, format!("it is larger than {MAX_SIZE} bytes")));
        }
        Self::parse(&std::fs::read_to_string(path).map_err(failed)?, &shown)
    }

    /// Reads a recipe; `shown` is what errors call it.
    ///
    /// # Errors
    /// [`BoxError::Recipe`].
    pub fn parse(text: &str, shown: &str) -> Result<Self, BoxError> {
        let mut whole = read(text, shown)?;
        for _ in 0..MAX_CHAIN {
            let Some(base) = whole.extends.take() else { return whole.finish(shown) };
            let Some((_, text)) = BUILTIN.into_iter().find(|(known, _)| *known == base) else {
                let known: Vec<&str> = BUILTIN.into_iter().map(|(known, _)| known).collect();
                return Err(fault(shown, format!("`extends: {base}` names none of {}", known.join(", "))));
            };
            whole = whole.over(read(text, &base)?);
        }
        Err(fault(shown, "its `extends` never end"))
    }

    /// Name of the box.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Debian's name of the release: `bookworm`.
    #[must_use]
    pub fn suite(&self) -> &str {
        &self.suite
    }

    /// mmdebstrap's variant.
    #[must_use]
    pub fn variant(&self) -> &str {
        &self.variant
    }

    /// Parts of the archive: `main`.
    #[must_use]
    pub fn components(&self) -> &[String] {
        &self.components
    }

    /// Who logs in.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.user
    }

    /// Packages beyond those of the variant.
    #[must_use]
    pub fn packages(&self) -> &[String] {
        &self.packages
    }

    /// Files, in the order they are put there.
    #[must_use]
    pub fn files(&self) -> &[RecipeFile] {
        &self.files
    }

    /// Shell commands that root runs inside, after packages and files.
    #[must_use]
    pub fn commands(&self) -> &[String] {
        &self.commands
    }

    /// What is made.
    #[must_use]
    pub fn form(&self) -> Form {
        self.form
    }

    /// The recipe of a disk image of the same system: with a kernel, and with what it says of disks.
    #[must_use]
    pub fn for_disk(&self) -> Self {
        let mut recipe = self.clone();
        let more = std::mem::take(&mut recipe.disk);
        recipe.packages.push(format!("linux-image-cloud-{}", crate::host_architecture()));
        recipe.packages.extend(more.packages);
        recipe.files.extend(more.files);
        recipe.commands.extend(more.commands);
        recipe.form = Form::Disk;
        recipe
    }

    /// The digest of what it makes in that form.
    #[must_use]
    pub fn digest_for(&self, form: Form) -> Digest {
        match form {
            Form::Disk => self.for_disk().digest(),
            Form::Rootfs => self.digest(),
        }
    }

    /// What tells this recipe from others.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let text = serde_json::to_vec(&(GENERATION, crate::host_architecture(), self)).unwrap_or_default();
        Digest::from_bytes(Sha256::digest(text).into())
    }
}

impl Written {
    /// This recipe over the one it extends: single values replace, lists go on.
    fn over(self, base: Self) -> Self {
        fn join<T>(mut base: Vec<T>, more: Vec<T>) -> Vec<T> {
            base.extend(more);
            base
        }
        Self {
            name: self.name.or(base.name),
            extends: base.extends,
            suite: self.suite.or(base.suite),
            variant: self.variant.or(base.variant),
            components: self.components.or(base.components),
            user: self.user.or(base.user),
            packages: join(base.packages, self.packages),
            files: join(base.files, self.files),
            commands: join(base.commands, self.commands),
            disk: WrittenDisk {
                packages: join(base.disk.packages, self.disk.packages),
                files: join(base.disk.files, self.disk.files),
                commands: join(base.disk.commands, self.disk.commands),
            },
        }
    }

    fn finish(self, shown: &str) -> Result<Recipe, BoxError> {
        let lacks = |key: &str| fault(shown, format!("it lacks `{key}`"));
        let recipe = Recipe {
            name: self.name.ok_or_else(|| lacks("name"))?,
            suite: self.suite.ok_or_else(|| lacks("suite"))?,
            variant: self.variant.unwrap_or_else(|| "minbase".to_owned()),
            components: self.components.unwrap_or_else(|| vec!["main".to_owned()]),
            user: self.user.unwrap_or_else(|| "root".to_owned()),
            packages: self.packages,
            files: self.files.into_iter().map(|file| file.finish(shown)).collect::<Result<_, _>>()?,
            commands: self.commands,
            form: Form::Rootfs,
            disk: DiskPart {
                packages: self.disk.packages,
                files: self
                    .disk
                    .files
                    .into_iter()
                    .map(|file| file.finish(shown))
                    .collect::<Result<_, _>>()?,
                commands: self.disk.commands,
            },
        };
        if !matches!(BoxRef::parse(&recipe.name), Ok(BoxRef::Named(_))) {
            return Err(fault(shown, format!("`name: {}` is no name for a box", recipe.name)));
        }
        // They become arguments, where a leading hyphen or a comma would mean something else.
        let words = [&recipe.suite, &recipe.variant, &recipe.user];
        let words =
            words.into_iter().chain(&recipe.components).chain(&recipe.packages).chain(&recipe.disk.packages);
        let plain = |word: &str| {
            word.starts_with(|c: char| c.is_ascii_alphanumeric())
                && word.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-._:~/=".contains(&b))
        };
        if let Some(word) = words.into_iter().find(|word| !plain(word)) {
            return Err(fault(shown, format!("`{word}` is no name of a suite, package or user")));
        }
        Ok(recipe)
    }
}

impl WrittenFile {
    fn finish(self, shown: &str) -> Result<RecipeFile, BoxError> {
        let path = self.path;
        let faulty = |what: &str| fault(shown, format!("the file `{path}` {what}"));
        let inner = path.strip_prefix('/').ok_or_else(|| faulty("has no absolute path"))?;
        if inner.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(faulty("has a path that is not plain"));
        }
        let body = match (self.content, self.link, self.mode) {
            (Some(text), None, mode) => {
                let mode = mode.as_deref().unwrap_or("0644");
                let mode = u32::from_str_radix(mode, 8).ok().filter(|mode| *mode <= 0o7777);
                Body::Content { text, mode: mode.ok_or_else(|| faulty("has a mode that is not octal"))? }
            }
            (None, Some(link), None) => Body::Link(link),
            _ => return Err(faulty("needs either `content`, with a `mode` if you like, or `link`")),
        };
        Ok(RecipeFile { path, body })
    }
}

fn read(text: &str, shown: &str) -> Result<Written, BoxError> {
    serde_yaml::from_str(text).map_err(|error| fault(shown, error.to_string()))
}

fn fault(recipe: &str, what: impl Into<String>) -> BoxError {
    BoxError::Recipe { recipe: recipe.to_owned(), what: what.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_recipe_can_be_used() {
        let names: Vec<_> = Recipe::names().collect();
        assert_eq!(names, ["debian/12", "debian/13"]);
        for name in names {
            let recipe = Recipe::builtin(name).unwrap().unwrap();
            assert_eq!(recipe.name(), name);
            assert_eq!(recipe.user(), "posada");
            for package in ["systemd-sysv", "openssh-server", "sudo"] {
                assert!(recipe.packages().iter().any(|there| there == package), "{name} lacks {package}");
            }
        }
        assert!(Recipe::builtin("debian").unwrap().is_none(), "a base is not built");
    }

    #[test]
    fn the_example_in_the_readme_can_be_used() {
        let readme = include_str!("../../../boxes/README.md");
        let (_, rest) = readme.split_once("```yaml\n").unwrap();
        let (example, _) = rest.split_once("```").unwrap();
        let recipe = Recipe::parse(example, "README.md").unwrap();
        assert_eq!((recipe.name(), recipe.suite(), recipe.user()), ("team/web", "bookworm", "posada"));
        assert!(recipe.packages().ends_with(&["nginx".to_owned(), "git".to_owned()]));
    }

    #[test]
    fn extending_adds_to_lists_and_replaces_values() {
        let text = "name: team/web\nextends: debian/13\nuser: app\npackages: [nginx]\ncommands: [\"true\"]\n";
        let recipe = Recipe::parse(text, "web.yaml").unwrap();
        let base = Recipe::builtin("debian/13").unwrap().unwrap();
        assert_eq!((recipe.name(), recipe.suite(), recipe.user()), ("team/web", "trixie", "app"));
        assert_eq!(recipe.packages().last().unwrap(), "nginx");
        assert_eq!(recipe.packages().len(), base.packages().len() + 1);
        assert_eq!(recipe.commands().last().unwrap(), "true");
        assert_ne!(recipe.digest(), base.digest());
    }

    #[test]
    fn faults_are_told_with_what_they_are_about() {
        for (text, word) in [
            ("suite: bookworm\n", "`name`"),
            ("name: a\n", "`suite`"),
            ("name: a b\nsuite: x\n", "`name: a b`"),
            ("name: a\nextends: nope\n", "`extends: nope`"),
            ("name: a\nsuite: x\npackage: [b]\n", "package"),
            ("name: a\nsuite: x\npackages: ['--help']\n", "`--help`"),
            ("name: a\nsuite: x\npackages: ['a,b']\n", "`a,b`"),
            ("name: a\nsuite: x\nfiles: [{path: etc/x, content: y}]\n", "`etc/x`"),
            ("name: a\nsuite: x\nfiles: [{path: /etc/../x, content: y}]\n", "`/etc/../x`"),
            ("name: a\nsuite: x\nfiles: [{path: /x}]\n", "`/x`"),
            ("name: a\nsuite: x\nfiles: [{path: /x, content: y, mode: '9'}]\n", "`/x`"),
            ("name: a\nsuite: x\nname: b\n", "name"),
            ("[", ""),
        ] {
            let error = Recipe::parse(text, "mine.yaml").unwrap_err();
            assert!(matches!(error, BoxError::Recipe { .. }), "{error}");
            let message = error.to_string();
            assert!(message.contains("`mine.yaml`") && message.contains(word), "{message}");
        }
    }
}
