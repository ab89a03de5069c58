//! The keys of a Vmfile. Said once here: the decoder takes from it what is allowed, messages what would be
//! right, and the JSON Schema everything.

mod health;
mod machine;
mod network;
mod provision;
#[cfg(test)]
mod tests;
mod text;

use super::shape::{Field, Shape, Table};
pub(super) use health::{HEALTH, HTTP};
pub(super) use machine::{MACHINE, SSH, SYNCED_FOLDER};
pub(super) use network::{BRIDGED, FORWARD, FORWARD_SHORT, PRIVATE};
pub(super) use provision::{FILE_COPY, SHELL};
pub(super) use text::{MACHINE_NAME, PARAM_NAME};
use text::{TEXT, WORD};

/// The whole file.
pub(super) static ROOT: Table =
    Table { what: "a Vmfile", groups: &[FILE, machine::DEFAULTS], one_of: &[], extensible: true };

const FILE: &[Field] = &[
    Field::new(
        "version",
        Shape::Choice(&[("1", "The only one so far.")]),
        "The version of this format.",
        "1",
    )
    .default("1"),
    Field::new(
        "params",
        Shape::Free(&PARAM_NAME, &PARAM_VALUE),
        "Parameters: a name and its default, or a map with `default` and `description`. They are put in where \
         `${param:name}` stands, and set by `--param name=value`.",
        "{ php: \"8.2\" }",
    ),
    Field::new(
        "machines",
        Shape::Free(&MACHINE_NAME, &MACHINE_VALUE),
        "The machines, by name. What stands beside it at the top level are the defaults of them all. Without it \
         the file describes one machine, called `default`.",
        "{ web: { cpus: 2 }, db: {} }",
    ),
];

static MACHINE_VALUE: Shape = Shape::Nullable(&MACHINE_SHAPE);
static MACHINE_SHAPE: Shape = Shape::Map(&MACHINE);
static PARAM_VALUE: Shape = Shape::Nullable(&PARAM_SHAPE);
static PARAM_SHAPE: Shape = Shape::Either(&[Shape::Text(&WORD), Shape::Map(&PARAM)]);

/// An entry of `params`.
pub(super) static PARAM: Table =
    Table { what: "a parameter", groups: &[PARAM_FIELDS], one_of: &[], extensible: false };
const PARAM_FIELDS: &[Field] = &[
    Field::new(
        "default",
        Shape::Text(&WORD),
        "Its value where `--param` gives none. Without it, it must be given.",
        "\"8.2\"",
    ),
    Field::new("description", Shape::Text(&TEXT), "What it is for.", "\"which PHP to install\""),
];
