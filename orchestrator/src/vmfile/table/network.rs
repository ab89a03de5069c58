//! Networks.

use super::text::{ADDRESS, ADDRESS_PREFIX, FORWARD_SPEC, HOST_ADDRESS, INTERFACE, NETWORK_NAME, TEXT};
use crate::vmfile::shape::{Field, Shape, Table};

pub(super) static NETWORK_SHAPE: Shape = Shape::Either(&[
    Shape::Map(&FORWARD_SHORT),
    Shape::Map(&FORWARD),
    Shape::Map(&PRIVATE),
    Shape::Map(&BRIDGED),
]);

/// `forward: "8080:80"`.
pub(in crate::vmfile) static FORWARD_SHORT: Table = Table {
    what: "a forward in its short form",
    groups: &[FORWARD_SHORT_FIELDS, FORWARD_SHARED],
    one_of: &[],
    extensible: false,
};
/// `type: forward`.
pub(in crate::vmfile) static FORWARD: Table =
    Table { what: "a forward", groups: &[FORWARD_FIELDS, FORWARD_SHARED], one_of: &[], extensible: false };
/// `type: private`.
pub(in crate::vmfile) static PRIVATE: Table =
    Table { what: "a private network", groups: &[PRIVATE_FIELDS], one_of: &[], extensible: false };
/// `type: bridged`.
pub(in crate::vmfile) static BRIDGED: Table =
    Table { what: "a bridged network", groups: &[BRIDGED_FIELDS], one_of: &[], extensible: false };

const FORWARD_SHORT_FIELDS: &[Field] = &[Field::new(
    "forward",
    Shape::Text(&FORWARD_SPEC),
    "A forward in short: `host port:machine port`, with an address of the host before it and `/udp` behind it \
     where needed. Without a host port, a free one is chosen.",
    "\"8080:80\"",
)
.required()];
const FORWARD_FIELDS: &[Field] = &[
    Field::new(
        "type",
        Shape::Kind("forward", "A port of the host that leads to a port of the machine."),
        "The kind of network.",
        "forward",
    )
    .required(),
    Field::new("guest", Shape::Port, "The port in the machine.", "80").required(),
    Field::new("host", Shape::HostPort, "The port on the host; `auto` chooses a free one.", "8080")
        .default("auto"),
    Field::new(
        "host_ip",
        Shape::Text(&HOST_ADDRESS),
        "The address on the host that is listened on; `0.0.0.0` is all of them.",
        "127.0.0.1",
    )
    .default("127.0.0.1"),
    Field::new("protocol", Shape::Choice(&[("tcp", "TCP."), ("udp", "UDP.")]), "The protocol.", "tcp")
        .default("tcp"),
];
const FORWARD_SHARED: &[Field] = &[
    Field::new(
        "auto_correct",
        Shape::Bool,
        "Whether a host port that is taken is replaced by a free one.",
        "true",
    )
    .default("false"),
    Field::new("name", Shape::Text(&TEXT), "A name for people, shown by `posada port`.", "web"),
];
const PRIVATE_FIELDS: &[Field] = &[
    Field::new(
        "type",
        Shape::Kind("private", "A network between machines of this host."),
        "The kind of network.",
        "private",
    )
    .required(),
    Field::new(
        "name",
        Shape::Text(&NETWORK_NAME),
        "The network's name; machines that name the same one see each other.",
        "backend",
    )
    .default("private"),
    Field::new(
        "ip",
        Shape::Text(&ADDRESS),
        "The machine's address, with the network's prefix length (24 where it is not given); one is chosen where it is not given.",
        "192.168.56.10/24",
    ),
];
const BRIDGED_FIELDS: &[Field] = &[
    Field::new(
        "type",
        Shape::Kind("bridged", "A place on the host's own network."),
        "The kind of network.",
        "bridged",
    )
    .required(),
    Field::new(
        "interface",
        Shape::Text(&INTERFACE),
        "The host's interface or bridge; the one with the default route where it is not given.",
        "eth0",
    ),
    Field::new(
        "ip",
        Shape::Text(&ADDRESS_PREFIX),
        "A fixed address with its prefix length; the network's DHCP server is asked where it is not given.",
        "192.168.1.50/24",
    ),
];
