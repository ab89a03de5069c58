//! A machine, its login and its folders.

use super::health::HEALTH;
use super::network::NETWORK_SHAPE;
use super::provision::STEP_SHAPE;
use super::text::{
    BOX, FOLDER, HOST_PATH, HOSTNAME, MACHINE_NAME, TARGET, TEXT, USER, VARIABLE, VERSIONS, WORD,
};
use crate::vmfile::shape::{Field, Shape, Table};

const MIB: u64 = 1 << 20;
const TIB: u64 = 1 << 40;

/// An entry of `machines`.
pub(in crate::vmfile) static MACHINE: Table =
    Table { what: "a machine", groups: &[DEFAULTS, MACHINE_ONLY], one_of: &[], extensible: false };

/// What can be said of a machine, and at the top level of all of them.
pub(super) const DEFAULTS: &[Field] = &[
    Field::new(
        "box",
        Shape::Text(&BOX),
        "The box the machine is made of: a name such as `debian/12`, the path of a file that begins with `/`, \
         `./`, `../` or `~/`, or a URL, with `#sha256=…` after it where its content is to be checked (all forms: \
         `docs/boxes.md`). A relative path starts from the project's folder.",
        "debian/12",
    ),
    Field::new(
        "box_version",
        Shape::Text(&VERSIONS),
        "Which versions of the box will do. The newest of them is taken.",
        "\">= 12.1, < 13\"",
    ),
    Field::new(
        "kernel",
        Shape::Text(&BOX),
        "The box whose kernel, with its modules, a virtual machine boots where its own box has none, as images of \
         containers have none. It is named as `box` is, and has to hold a disk image. Containers do without.",
        "debian/12",
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

static NAME_SHAPE: Shape = Shape::Text(&MACHINE_NAME);
static NAMES_SHAPES: [Shape; 2] = [Shape::List(&NAME_SHAPE), Shape::Text(&MACHINE_NAME)];
pub(super) static WORD_SHAPE: Shape = Shape::Text(&WORD);

/// `ssh`.
pub(in crate::vmfile) static SSH: Table =
    Table { what: "`ssh`", groups: &[SSH_FIELDS], one_of: &[], extensible: false };
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

static FOLDER_SHAPE: Shape = Shape::Either(&[Shape::Text(&FOLDER), Shape::Map(&SYNCED_FOLDER)]);
/// An entry of `synced_folders`.
pub(in crate::vmfile) static SYNCED_FOLDER: Table =
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
