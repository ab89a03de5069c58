//! The renderer: tera, with our templates compiled into the binary.

use posada_provider_api::{Fault, FaultKind};
use serde::Serialize;
use tera::{Context, Tera};

/// A template that could not be rendered: a fault of ours.
#[derive(Debug, thiserror::Error)]
#[error("the template `{name}` cannot be rendered")]
pub struct TemplateError {
    name: &'static str,
    source: tera::Error,
}

impl Fault for TemplateError {
    fn kind(&self) -> FaultKind {
        FaultKind::Internal
    }
}

/// Renders the template `text`, called `name` in errors, from the fields of `input`.
pub(crate) fn render<T: Serialize>(
    name: &'static str,
    text: &str,
    input: &T,
) -> Result<String, TemplateError> {
    let failed = |source| TemplateError { name, source };
    let mut tera = Tera::default();
    // None of our outputs is HTML.
    tera.autoescape_on(Vec::<&str>::new());
    tera.register_filter("ssh_quoted", crate::ssh_config::quoted_filter);
    tera.register_filter("yaml", crate::seed::yaml_filter);
    tera.add_raw_template(name, text).map_err(failed)?;
    tera.render(name, &Context::from_serialize(input).map_err(failed)?).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_variable_is_an_error() {
        #[derive(Serialize)]
        struct Nothing {}
        assert!(render("t", "{{ there_is_none }}", &Nothing {}).is_err());
    }
}
