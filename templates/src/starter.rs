//! The Vmfile that `posada init` writes.

use serde::Serialize;

use crate::renderer::{TemplateError, render};

/// How much a starter shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// One machine and nothing else.
    Minimal,
    /// One machine with a forwarded port, a synced folder and a provisioning step.
    Web,
    /// Two machines, one of which depends on the other.
    Several,
}

/// What goes into a starter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StarterInput {
    /// The box: `debian/12`.
    #[serde(rename = "box")]
    pub box_ref: String,
}

/// A Vmfile to begin with.
///
/// # Errors
/// [`TemplateError`], a fault of ours.
pub fn render_starter(shape: Shape, input: &StarterInput) -> Result<String, TemplateError> {
    match shape {
        Shape::Minimal => render("minimal", include_str!("../assets/vmfile-minimal.tera"), input),
        Shape::Web => render("web", include_str!("../assets/vmfile-web.tera"), input),
        Shape::Several => render("several", include_str!("../assets/vmfile-several.tera"), input),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shape_names_its_box() {
        for shape in [Shape::Minimal, Shape::Web, Shape::Several] {
            let text = render_starter(shape, &StarterInput { box_ref: "debian/12".into() }).unwrap();
            assert!(text.contains("box: debian/12\n"), "{text}");
            assert!(text.ends_with('\n') && !text.contains("{{"), "{text}");
        }
    }
}
