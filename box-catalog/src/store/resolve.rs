//! Finding a box.

use super::fingerprint::Fingerprint;
use super::record::Record;
use super::{Store, StoredBox};
use crate::build::Recipe;
use crate::{BoxError, BoxRef, Form, VersionReq};

/// How like two names must be to be taken for each other; 1 is equal.
const NEAR: f64 = 0.7;

impl Store {
    /// The newest version of a box that fulfils `requirement`, among those that hold `form`.
    ///
    /// # Errors
    /// [`BoxError::Missing`], [`BoxError::MissingForm`], [`BoxError::MissingVersion`], [`BoxError::FileNotAdded`], [`BoxError::Damaged`],
    /// [`BoxError::Io`]; of a recipe [`BoxError::NoRecipe`], [`BoxError::Recipe`].
    pub fn resolve(
        &self,
        wanted: &BoxRef,
        requirement: Option<&VersionReq>,
        form: Form,
    ) -> Result<StoredBox, BoxError> {
        match wanted {
            BoxRef::Named(name) => self.named(name, requirement, form),
            BoxRef::File(path) => {
                let fingerprint = Fingerprint::of(path)?;
                let fits = |record: &Record| record.metadata.provides.contains(&form);
                self.records()?
                    .iter()
                    .flat_map(|record| record.names.iter().map(move |name| (record, name)))
                    .filter(|(_, name)| !name.replaced && name.file.as_ref() == Some(&fingerprint))
                    .max_by_key(|(record, name)| (fits(record), name.added))
                    .map(|(record, name)| record.under(name, &self.layout))
                    .ok_or_else(|| BoxError::FileNotAdded(path.clone()))
                    .and_then(|stored| stored.layer(form).map(|_| stored))
            }
            BoxRef::Build(recipe) => self.built_by(&crate::build::recipe(recipe)?, form),
            elsewhere => self.named(&crate::source::stored_name(elsewhere), requirement, form),
        }
    }

    /// The newest box that was built by this very recipe.
    fn built_by(&self, recipe: &Recipe, form: Form) -> Result<StoredBox, BoxError> {
        let digest = recipe.digest_for(form);
        let fits = |stored: &StoredBox| {
            stored.metadata.recipe == Some(digest) && stored.metadata.provides.contains(&form)
        };
        let newest = self.list()?.into_iter().filter(fits).max_by_key(|stored| stored.added);
        newest.ok_or_else(|| BoxError::Missing {
            name: recipe.name().to_owned(),
            near: Vec::new(),
            buildable: true,
        })
    }

    fn named(&self, name: &str, requirement: Option<&VersionReq>, form: Form) -> Result<StoredBox, BoxError> {
        let all = self.list()?;
        let mut versions = all.iter().filter(|stored| stored.name == name).peekable();
        if versions.peek().is_none() {
            return Err(missing(name, &all));
        }
        let mut versions = versions.filter(|stored| stored.metadata.provides.contains(&form)).peekable();
        if versions.peek().is_none() {
            return Err(missing_form(name, form));
        }
        let fulfils = |stored: &&StoredBox| requirement.is_none_or(|wanted| wanted.matches(&stored.version));
        // What was made of an older version does not stand for the newest, of which it can be made, too.
        let newer = |than: &StoredBox| {
            all.iter().any(|stored| stored.name == name && fulfils(&stored) && stored.version > than.version)
        };
        match (versions.clone().find(fulfils), requirement) {
            (Some(newest), _) if newest.derived && newer(newest) => Err(missing_form(name, form)),
            (Some(newest), _) => Ok(newest.clone()),
            (None, Some(wanted)) => Err(BoxError::MissingVersion {
                name: name.to_owned(),
                wanted: wanted.clone(),
                have: versions.map(|stored| stored.version.clone()).collect(),
            }),
            (None, None) => Err(missing(name, &all)),
        }
    }
}

/// The error that says that a box is there without what is needed.
pub(super) fn missing_form(name: &str, needed: Form) -> BoxError {
    BoxError::MissingForm { name: name.to_owned(), needed, buildable: is_recipe(name) }
}

fn is_recipe(name: &str) -> bool {
    Recipe::names().any(|recipe| recipe == name)
}

/// The error that says that there is no box `name`, and what is like it.
pub(super) fn missing(name: &str, all: &[StoredBox]) -> BoxError {
    let buildable = is_recipe(name);
    let stored = all.iter().map(|stored| stored.name.as_str());
    let known = stored.chain(Recipe::names().map(|recipe: &str| recipe));
    let mut near: Vec<(f64, &str)> = known
        .map(|known| (strsim::jaro_winkler(known, name), known))
        .filter(|(likeness, _)| *likeness >= NEAR)
        .collect();
    near.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(b.1)));
    near.dedup_by(|a, b| a.1 == b.1);
    let near = near.into_iter().take(3).map(|(_, known)| known.to_owned()).collect();
    BoxError::Missing { name: name.to_owned(), near, buildable }
}
