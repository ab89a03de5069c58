//! Provisioning steps.

use super::machine::WORD_SHAPE;
use super::text::{DESTINATION, HOST_PATH, SCRIPT, TEXT, VARIABLE, WORD};
use crate::vmfile::shape::{Field, Shape, Table};

pub(super) static STEP_SHAPE: Shape =
    Shape::Either(&[Shape::Text(&SCRIPT), Shape::Map(&SHELL), Shape::Map(&FILE_COPY)]);
/// `type: shell`.
pub(in crate::vmfile) static SHELL: Table = Table {
    what: "a shell step",
    groups: &[SHELL_FIELDS, STEP_FIELDS],
    one_of: &["inline", "path"],
    extensible: false,
};
/// `type: file`.
pub(in crate::vmfile) static FILE_COPY: Table =
    Table { what: "a file step", groups: &[FILE_FIELDS, STEP_FIELDS], one_of: &[], extensible: false };
const SHELL_FIELDS: &[Field] = &[
    Field::new("type", Shape::Kind("shell", "Runs a script."), "The kind of step.", "shell").required(),
    Field::new(
        "inline",
        Shape::Text(&SCRIPT),
        "The script itself. Without `#!` it is run by bash, or sh where there is none.",
        "apt-get install -y nginx",
    ),
    Field::new(
        "path",
        Shape::Text(&HOST_PATH),
        "The script's file on the host: absolute, from `~/`, or from the project's folder.",
        "./setup.sh",
    ),
    Field::new(
        "args",
        Shape::Either(&WORDS_SHAPES),
        "The script's arguments. A text is split at blanks; quotes keep together what belongs together.",
        "[--fast, \"two words\"]",
    ),
    Field::new(
        "env",
        Shape::Free(&VARIABLE, &WORD_SHAPE),
        "The script's environment, besides that of the machine.",
        "{ APP_ENV: dev }",
    ),
    Field::new("privileged", Shape::Bool, "Whether it runs as root.", "false").default("true"),
    Field::new(
        "sensitive",
        Shape::Bool,
        "Whether its text, arguments and environment stay out of output and logs.",
        "true",
    )
    .default("false"),
];
const FILE_FIELDS: &[Field] = &[
    Field::new(
        "type",
        Shape::Kind("file", "Copies a file or a folder into the machine."),
        "The kind of step.",
        "file",
    )
    .required(),
    Field::new(
        "source",
        Shape::Text(&HOST_PATH),
        "The file or folder on the host: absolute, from `~/`, or from the project's folder.",
        "./nginx.conf",
    )
    .required(),
    Field::new(
        "destination",
        Shape::Text(&DESTINATION),
        "Where it goes in the machine; `~/` is the login user's home.",
        "~/nginx.conf",
    )
    .required(),
];
const STEP_FIELDS: &[Field] = &[
    Field::new(
        "name",
        Shape::Text(&TEXT),
        "A name, for output and for `posada provision --provision-with`.",
        "packages",
    ),
    Field::new(
        "run",
        Shape::Choice(&[
            ("once", "Until it has succeeded; again when it was edited."),
            ("always", "At every `up` and `provision`."),
            ("never", "Only when named by `--provision-with`."),
        ]),
        "When it runs.",
        "always",
    )
    .default("once"),
];

static WORDS_SHAPES: [Shape; 2] = [Shape::List(&WORD_SHAPE), Shape::Text(&WORD)];
