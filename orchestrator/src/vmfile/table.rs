//! The keys of a Vmfile. One table, from which the decoder takes what is allowed, the messages take what would
//! be right, and the JSON Schema takes everything.

use super::shape::{Field, Shape, Table, Text};

const MIB: u64 = 1 << 20;
const TIB: u64 = 1 << 40;

pub(super) const NAME_PATTERN: &str = r"^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$";
const VARIABLE_PATTERN: &str = r"^[A-Za-z_][A-Za-z0-9_]*$";

pub(super) static MACHINE_NAME: Text =
    Text::new("a name of letters, digits and inner hyphens, at most 63").pattern(NAME_PATTERN);
static HOSTNAME: Text = Text::new("a host name").pattern(
    r"^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*$",
);
pub(super) static VARIABLE: Text = Text::new("a name of letters, digits and `_` that begins with no digit")
    .pattern(VARIABLE_PATTERN)
    .words();
pub(super) static PARAM_NAME: Text =
    Text::new("a name of letters, digits, `_` and `-` that begins with a letter")
        .pattern(r"^[A-Za-z_][A-Za-z0-9_-]*$");
static BOX: Text =
    Text::new("a box such as `debian/12`, or a path that begins with `/`, `./`, `../` or `~/`")
        .pattern(r"^(/|\./|\.\./|~/)|^[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)?$");
static VERSIONS: Text = Text::new("a version, or a requirement such as `>= 12.1, < 13`").words();
static TEXT: Text = Text::new("text");
static WORD: Text = Text::new("text").words().empty();
static SCRIPT: Text = Text::new("a script as text");
static HOST_PATH: Text = Text::new("a path on the host");
static TARGET: Text = Text::new("an absolute path in the machine").pattern("^/.");
static DESTINATION: Text =
    Text::new("a path in the machine that begins with `/` or `~/`").pattern("^(/|~/).");
static FOLDER: Text = Text::new("`source:target`, `source:target:ro`").pattern("^[^:]+:/[^:]+(:(ro|rw))?$");
static USER: Text = Text::new("a login name").pattern(r"^[a-z_][a-z0-9_-]{0,31}$");
static INTERFACE: Text = Text::new("a network interface of the host").pattern(r"^[^/:\s]{1,15}$");
static NETWORK_NAME: Text =
    Text::new("a name of letters, digits and inner hyphens, at most 63").pattern(NAME_PATTERN);
static ADDRESS: Text = Text::new("an IPv4 address such as `192.168.56.10/24`")
    .pattern(r"^[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}(/[0-9]{1,2})?$");
static ADDRESS_PREFIX: Text = Text::new("an IPv4 address with its prefix length, such as `192.168.1.50/24`")
    .pattern(r"^[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}/[0-9]{1,2}$");
static HOST_ADDRESS: Text = Text::new("an IP address of the host").pattern("^[0-9A-Fa-f.:]+$");
static FORWARD_SPEC: Text = Text::new("`[address:][host port:]machine port[/tcp|/udp]`")
    .pattern(r"^((\[[0-9A-Fa-f:.]+\]|[0-9.]+):)?(([0-9]{1,5}|auto)?:)?[0-9]{1,5}(/(tcp|udp))?$")
    .words();
static URL_PATH: Text = Text::new("a path that begins with `/`").pattern(r"^/\S*$");
static COMMAND: Text = Text::new("a command");

/// The whole file.
pub(super) static ROOT: Table =
    Table { what: "a Vmfile", groups: &[FILE, MACHINE_DEFAULTS], one_of: &[], extensible: true };
/// An entry of `machines`.
pub(super) static MACHINE: Table =
    Table { what: "a machine", groups: &[MACHINE_DEFAULTS, MACHINE_ONLY], one_of: &[], extensible: false };

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
static WORD_SHAPE: Shape = Shape::Text(&WORD);
static WORDS_SHAPES: [Shape; 2] = [Shape::List(&WORD_SHAPE), Shape::Text(&WORD)];
static NAME_SHAPE: Shape = Shape::Text(&MACHINE_NAME);
static NAMES_SHAPES: [Shape; 2] = [Shape::List(&NAME_SHAPE), Shape::Text(&MACHINE_NAME)];
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

const MACHINE_DEFAULTS: &[Field] = &[
    Field::new(
        "box",
        Shape::Text(&BOX),
        "The box the machine is made of: a name such as `debian/12`, or the path of a file that begins with `/`, \
         `./`, `../` or `~/`. A relative path starts from the project's folder.",
        "debian/12",
    ),
    Field::new(
        "box_version",
        Shape::Text(&VERSIONS),
        "Which versions of the box will do. The newest of them is taken.",
        "\">= 12.1, < 13\"",
    ),
    Field::new(
        "provider",
        Shape::Choice(&[
            ("auto", "KVM where a stock guest kernel can run, else a container."),
            ("kvm", "A virtual machine."),
            ("container", "A Linux system container."),
        ]),
        "What the machine runs on.",
        "container",
    )
    .default("auto"),
    Field::new("cpus", Shape::Whole(1, 512), "How many CPUs the machine has.", "2"),
    Field::new(
        "memory",
        Shape::Size(64 * MIB, 64 * TIB),
        "How much memory the machine has. Units are K, M, G and T, of 1024 each.",
        "2G",
    ),
    Field::new(
        "disk",
        Shape::Size(64 * MIB, 1024 * TIB),
        "How large the root disk is; the box's size where it is not given. Units are K, M, G and T, of 1024 each.",
        "20G",
    ),
    Field::new(
        "hostname",
        Shape::Text(&HOSTNAME),
        "The host name the machine gives itself; its name in this file where it is not given.",
        "web.example.test",
    ),
    Field::new(
        "networks",
        Shape::List(&NETWORK_SHAPE),
        "Networks besides the one that is always there, by which the machine reaches the outside.",
        "[{ forward: \"8080:80\" }]",
    ),
    Field::new(
        "synced_folders",
        Shape::List(&FOLDER_SHAPE),
        "Folders of the host that are seen in the machine.",
        "[\"./src:/srv/app\"]",
    ),
    Field::new(
        "provision",
        Shape::List(&STEP_SHAPE),
        "What is done in the machine once it is up, in this order. A text is a script.",
        "[apt-get install -y nginx]",
    ),
    Field::new("ssh", Shape::Map(&SSH), "How the machine is logged into.", "{ forward_agent: true }"),
    Field::new(
        "env",
        Shape::Free(&VARIABLE, &WORD_SHAPE),
        "Environment of login sessions and provisioning steps.",
        "{ APP_ENV: dev }",
    ),
    Field::new(
        "healthcheck",
        Shape::Map(&HEALTH),
        "How to tell that the machine does its work. Machines that depend on it wait for that.",
        "{ tcp: 5432 }",
    ),
    Field::new(
        "post_up_message",
        Shape::Text(&TEXT),
        "What to say when the machine is up.",
        "\"open http://localhost:8080\"",
    ),
    Field::new(
        "graceful_timeout",
        Shape::Span(3600),
        "How long the machine may take to shut down before it is forced.",
        "10s",
    )
    .default("10s"),
];

const MACHINE_ONLY: &[Field] = &[Field::new(
    "depends_on",
    Shape::Either(&NAMES_SHAPES),
    "The machines that must be up and healthy before this one starts.",
    "[db]",
)];

static NETWORK_SHAPE: Shape = Shape::Either(&[
    Shape::Map(&FORWARD_SHORT),
    Shape::Map(&FORWARD),
    Shape::Map(&PRIVATE),
    Shape::Map(&BRIDGED),
]);

/// `forward: "8080:80"`.
pub(super) static FORWARD_SHORT: Table = Table {
    what: "a forward in its short form",
    groups: &[FORWARD_SHORT_FIELDS, FORWARD_SHARED],
    one_of: &[],
    extensible: false,
};
/// `type: forward`.
pub(super) static FORWARD: Table =
    Table { what: "a forward", groups: &[FORWARD_FIELDS, FORWARD_SHARED], one_of: &[], extensible: false };
/// `type: private`.
pub(super) static PRIVATE: Table =
    Table { what: "a private network", groups: &[PRIVATE_FIELDS], one_of: &[], extensible: false };
/// `type: bridged`.
pub(super) static BRIDGED: Table =
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

static FOLDER_SHAPE: Shape = Shape::Either(&[Shape::Text(&FOLDER), Shape::Map(&SYNCED_FOLDER)]);
/// An entry of `synced_folders`.
pub(super) static SYNCED_FOLDER: Table =
    Table { what: "a synced folder", groups: &[FOLDER_FIELDS], one_of: &[], extensible: false };
const FOLDER_FIELDS: &[Field] = &[
    Field::new(
        "source",
        Shape::Text(&HOST_PATH),
        "The folder on the host: absolute, from `~/`, or from the project's folder.",
        "./src",
    )
    .required(),
    Field::new("target", Shape::Text(&TARGET), "Where it is seen in the machine.", "/srv/app").required(),
    Field::new("read_only", Shape::Bool, "Whether the machine may only read.", "true").default("false"),
    Field::new("create", Shape::Bool, "Whether the folder is made on the host where there is none.", "true")
        .default("false"),
];

static STEP_SHAPE: Shape = Shape::Either(&[Shape::Text(&SCRIPT), Shape::Map(&SHELL), Shape::Map(&FILE_COPY)]);
/// `type: shell`.
pub(super) static SHELL: Table = Table {
    what: "a shell step",
    groups: &[SHELL_FIELDS, STEP_FIELDS],
    one_of: &["inline", "path"],
    extensible: false,
};
/// `type: file`.
pub(super) static FILE_COPY: Table =
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

/// `ssh`.
pub(super) static SSH: Table = Table { what: "`ssh`", groups: &[SSH_FIELDS], one_of: &[], extensible: false };
const SSH_FIELDS: &[Field] = &[
    Field::new(
        "username",
        Shape::Text(&USER),
        "The login user; the box's own where it is not given.",
        "admin",
    ),
    Field::new(
        "port",
        Shape::Port,
        "A fixed port on 127.0.0.1 that leads to the machine's sshd. Posada itself does not need one.",
        "2222",
    ),
    Field::new("forward_agent", Shape::Bool, "Whether `posada ssh` passes your SSH agent on.", "true")
        .default("false"),
    Field::new(
        "boot_timeout",
        Shape::Span(3600),
        "How long SSH may take to come after the machine was started.",
        "2m",
    )
    .default("60s"),
];

/// `healthcheck`.
pub(super) static HEALTH: Table = Table {
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
pub(super) static HTTP: Table =
    Table { what: "`http`", groups: &[HTTP_FIELDS], one_of: &[], extensible: false };
const HTTP_FIELDS: &[Field] = &[
    Field::new("port", Shape::Port, "The port in the machine.", "80").default("80"),
    Field::new("path", Shape::Text(&URL_PATH), "The path, with its query.", "/health").default("/"),
];
