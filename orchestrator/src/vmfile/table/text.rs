//! Rules for texts.

use crate::vmfile::shape::Text;

pub(in crate::vmfile) const NAME_PATTERN: &str = r"^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$";
pub(super) const VARIABLE_PATTERN: &str = r"^[A-Za-z_][A-Za-z0-9_]*$";

pub(in crate::vmfile) static MACHINE_NAME: Text =
    Text::new("a name of letters, digits and inner hyphens, at most 63").pattern(NAME_PATTERN);
pub(super) static HOSTNAME: Text = Text::new("a host name").pattern(
    r"^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*$",
);
pub(in crate::vmfile) static VARIABLE: Text =
    Text::new("a name of letters, digits and `_` that begins with no digit")
        .pattern(VARIABLE_PATTERN)
        .words();
pub(in crate::vmfile) static PARAM_NAME: Text =
    Text::new("a name of letters, digits, `_` and `-` that begins with a letter")
        .pattern(r"^[A-Za-z_][A-Za-z0-9_-]*$");
pub(super) static BOX: Text =
    Text::new("a box such as `debian/12`, a path that begins with `/`, `./`, `../` or `~/`, or a URL")
        .pattern(r"^(/|\./|\.\./|~/)|^(https?|s3|gs|az|azure|file)://.|^(oci|simplestreams|build):.|^[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)?$");
pub(super) static VERSIONS: Text = Text::new("a version, or a requirement such as `>= 12.1, < 13`").words();
pub(super) static TEXT: Text = Text::new("text");
pub(super) static WORD: Text = Text::new("text").words().empty();
pub(super) static SCRIPT: Text = Text::new("a script as text");
pub(super) static HOST_PATH: Text = Text::new("a path on the host");
pub(super) static TARGET: Text = Text::new("an absolute path in the machine").pattern("^/.");
pub(super) static DESTINATION: Text =
    Text::new("a path in the machine that begins with `/` or `~/`").pattern("^(/|~/).");
pub(super) static FOLDER: Text =
    Text::new("`source:target` or `source:target:ro`").pattern("^[^:]+:/[^:]+(:(ro|rw))?$");
pub(super) static USER: Text = Text::new("a login name").pattern(r"^[a-z_][a-z0-9_-]{0,31}$");
pub(super) static INTERFACE: Text = Text::new("a network interface of the host").pattern(r"^[^/:\s]{1,15}$");
pub(super) static NETWORK_NAME: Text =
    Text::new("a name of letters, digits and inner hyphens, at most 63").pattern(NAME_PATTERN);
pub(super) static ADDRESS: Text = Text::new("an IPv4 address such as `192.168.56.10/24`")
    .pattern(r"^[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}(/[0-9]{1,2})?$");
pub(super) static ADDRESS_PREFIX: Text =
    Text::new("an IPv4 address with its prefix length, such as `192.168.1.50/24`")
        .pattern(r"^[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}/[0-9]{1,2}$");
pub(super) static HOST_ADDRESS: Text = Text::new("an IP address of the host").pattern("^[0-9A-Fa-f.:]+$");
pub(super) static FORWARD_SPEC: Text = Text::new("`[address:][host port:]machine port[/tcp|/udp]`")
    .pattern(r"^((\[[0-9A-Fa-f:.]+\]|[0-9.]+):)?(([0-9]{1,5}|auto)?:)?[0-9]{1,5}(/(tcp|udp))?$")
    .words();
pub(super) static URL_PATH: Text = Text::new("a path that begins with `/`").pattern(r"^/\S*$");
pub(super) static COMMAND: Text = Text::new("a command");
