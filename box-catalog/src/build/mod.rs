//! Boxes made from Debian's packages, by mmdebstrap and a recipe.

mod apt;
mod mmdebstrap;
mod overlay;
mod recipe;
mod stamp;

use std::path::{Path, PathBuf};
use std::time::SystemTime;

pub use recipe::{Recipe, RecipeFile};

use crate::store::{NewBox, Store, StoredBox};
use crate::{BoxError, Cancel, Form, Progress};
use mmdebstrap::Bootstrap;

/// How a box is built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildOptions {
    /// Whether to build though the store has a box of this very recipe.
    pub force: bool,
    /// What is made: a root file system for containers, or a disk image for virtual machines.
    pub form: Form,
    /// Seconds since 1970 that stand for the time of the build, in files and in the version: the same recipe,
    /// packages and time give the same digest. `None` is now.
    pub source_date_epoch: Option<u64>,
    /// The host's `/etc`, whose apt sources say where Debian's packages come from.
    pub etc: PathBuf,
}

impl Default for BuildOptions {
    fn default() -> Self {
        Self { force: false, form: Form::Rootfs, source_date_epoch: None, etc: PathBuf::from("/etc") }
    }
}

/// What came of a build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Built {
    /// A new box.
    New(StoredBox),
    /// The store had a box of this very recipe.
    Already(StoredBox),
}

impl Built {
    /// The box.
    #[must_use]
    pub fn stored(&self) -> &StoredBox {
        let (Self::New(stored) | Self::Already(stored)) = self;
        stored
    }
}

/// Builds a box by `recipe` and stores it; its version is the time of the build, `YYYYMMDD.HHMMSS`.
///
/// # Errors
/// [`BoxError::ToolMissing`], [`BoxError::Build`], [`BoxError::Cancelled`], and those of [`Store::add`].
pub fn build(
    store: &Store,
    recipe: &Recipe,
    options: &BuildOptions,
    progress: &dyn Progress,
    cancel: &Cancel,
) -> Result<Built, BoxError> {
    let for_disk;
    let recipe = match options.form {
        Form::Rootfs => recipe,
        Form::Disk => {
            for_disk = recipe.for_disk();
            &for_disk
        }
    };
    let digest = recipe.digest();
    let time = options.source_date_epoch.unwrap_or_else(now);
    let version = stamp::version(time);
    let same_time = |stored: &StoredBox| options.source_date_epoch.is_none() || stored.version == version;
    let already = store.list()?.into_iter().find(|stored| {
        stored.name == recipe.name() && stored.metadata.recipe == Some(digest) && same_time(stored)
    });
    if let (Some(already), false) = (already, options.force) {
        return Ok(Built::Already(already));
    }
    let new = NewBox {
        name: recipe.name().to_owned(),
        version,
        user: Some(recipe.user().to_owned()),
        replace: options.force,
    };
    let sources = apt::sources(&options.etc, recipe);
    let bootstrap = Bootstrap { recipe, sources, time };
    bootstrap.run(store, &new, progress, cancel).map(Built::New)
}

fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Whether a recipe is named by the path of its file.
#[must_use]
pub fn is_path(wanted: &str) -> bool {
    ["/", "./", "../", "~/"].iter().any(|start| wanted.starts_with(start))
        || [".yaml", ".yml"].iter().any(|end| wanted.ends_with(end))
}

/// Reads the recipe that `wanted` names: one that is built in, or a file's path.
///
/// # Errors
/// [`BoxError::NoRecipe`], [`BoxError::Recipe`], [`BoxError::Io`].
pub fn recipe(wanted: &str) -> Result<Recipe, BoxError> {
    if is_path(wanted) {
        return Recipe::load(Path::new(wanted));
    }
    Recipe::builtin(wanted)?.ok_or_else(|| BoxError::NoRecipe {
        name: wanted.to_owned(),
        known: Recipe::names().map(str::to_owned).collect(),
    })
}
