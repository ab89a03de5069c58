//! A box that is built here: `build:debian/12`, `build:./recipe.yaml`.

use super::{Brought, Errand, Offer, Source};
use crate::build::{self, BuildOptions, Recipe};
use crate::{BoxError, Version};

/// A recipe. It is its own only version: the box that was built by it, or is now.
pub(super) struct Built(pub Recipe);

impl Source for Built {
    fn offers(&self, _: &Errand<'_>) -> Result<Vec<Offer>, BoxError> {
        Ok(vec![Offer {
            name: self.0.name().to_owned(),
            version: Version::parse("0").map_err(|error| BoxError::Name(error.to_string()))?,
            provider: None,
            architecture: None,
            default_architecture: true,
            location: String::new(),
            checksum: None,
            signature: None,
            manifest: None,
        }])
    }

    fn bring(&self, _: &Offer, errand: &Errand<'_>) -> Result<Brought, BoxError> {
        let options = BuildOptions { form: errand.form, ..BuildOptions::default() };
        let built = build::build(errand.store, &self.0, &options, errand.progress, errand.cancel)?;
        Ok(Brought::Stored(Box::new(built.stored().clone())))
    }
}
