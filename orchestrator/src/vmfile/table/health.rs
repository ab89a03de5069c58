//! Health checks.

use super::text::{COMMAND, URL_PATH};
use crate::vmfile::shape::{Field, Shape, Table};

/// `healthcheck`.
pub(in crate::vmfile) static HEALTH: Table = Table {
    what: "`healthcheck`",
    groups: &[HEALTH_FIELDS],
    one_of: &["command", "tcp", "http"],
    extensible: false,
};
const HEALTH_FIELDS: &[Field] = &[
    Field::new(
        "command",
        Shape::Text(&COMMAND),
        "A command that is run in the machine by the login user; healthy when it exits with 0.",
        "systemctl is-active nginx",
    ),
    Field::new(
        "tcp",
        Shape::Port,
        "A TCP port of the machine; healthy when it accepts a connection.",
        "5432",
    ),
    Field::new(
        "http",
        Shape::Map(&HTTP),
        "An HTTP request to the machine; healthy when it is answered with 200 to 399.",
        "{ port: 80, path: /health }",
    ),
    Field::new("interval", Shape::Span(3600), "The pause after a probe that failed.", "2s").default("1s"),
    Field::new("timeout", Shape::Span(3600), "How long one probe may take.", "3s").default("5s"),
    Field::new(
        "start_timeout",
        Shape::Span(86400),
        "How long the first success may take once SSH has come.",
        "2m",
    )
    .default("60s"),
];
/// `healthcheck.http`.
pub(in crate::vmfile) static HTTP: Table =
    Table { what: "`http`", groups: &[HTTP_FIELDS], one_of: &[], extensible: false };
const HTTP_FIELDS: &[Field] = &[
    Field::new("port", Shape::Port, "The port in the machine.", "80").default("80"),
    Field::new("path", Shape::Text(&URL_PATH), "The path, with its query.", "/health").default("/"),
];
