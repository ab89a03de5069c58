//! What is done at every boot. Each command is a fixed script of ours and its arguments, so that no value of a Vmfile is
//! ever read as shell; the arguments are quoted by cloud-init, which takes a list as an argument vector.

use posada_provider_api::network::management;

use super::{Changes, SeedInput};

const USER: &str = include_str!("../../assets/seed/user.sh");
const KEYS: &str = include_str!("../../assets/seed/keys.sh");
const BLOCK: &str = include_str!("../../assets/seed/block.sh");
const LOCALHOST: &str = include_str!("../../assets/seed/localhost.sh");
const NOLOGIN: &str = include_str!("../../assets/seed/nologin.sh");
const FOLDER: &str = include_str!("../../assets/seed/folder.sh");
const CHANGES: &str = include_str!("../../assets/seed/changes.sh");
const RAISE: &str = include_str!("../../assets/seed/raise.sh");

/// Where the folders are mounted a second time, for [`RAISE`].
const WAYS: &str = "/run/posada/folders";

/// The commands, in their order. `env` are lines of `/etc/environment`.
pub(super) fn every_boot(input: &SeedInput, env: Vec<String>) -> Vec<Vec<String>> {
    let user = input.access.user.as_str();
    // Named after the machine: a box made from another machine has that one's mark.
    let mark = format!("posada-keys-{}", input.machine);
    let mut keys = vec!["cloud-init-per".to_owned(), "once".to_owned(), mark];
    keys.extend(script(KEYS, [user.to_owned()]));
    let mut commands = vec![
        script(USER, [user.to_owned()]),
        keys,
        script(NOLOGIN, []),
        script(LOCALHOST, ["/etc/hosts".to_owned()]),
        script(BLOCK, ["/etc/hosts".to_owned()].into_iter().chain(hosts(input))),
        script(BLOCK, ["/etc/environment".to_owned()].into_iter().chain(env)),
    ];
    commands.extend(input.folders.iter().map(|folder| {
        let options = if folder.read_only { "nosuid,nodev,ro" } else { "nosuid,nodev" };
        script(FOLDER, [folder.tag.as_str(), folder.target.as_str(), options, user, WAYS].map(str::to_owned))
    }));
    if let Some(Changes { port, raising }) = &input.changes {
        let (port, raising) = (format!("/dev/virtio-ports/{port}"), raising.to_string());
        commands.push(script(CHANGES, [RAISE.to_owned(), port, raising, WAYS.to_owned()]));
    }
    commands
}

fn hosts(input: &SeedInput) -> [String; 2] {
    let hostname = input.hostname.as_str();
    let short = hostname.split('.').next().unwrap_or(hostname);
    let own = if short == hostname { hostname.to_owned() } else { format!("{hostname} {short}") };
    [format!("127.0.1.1 {own}"), format!("{} {}", management::GATEWAY, management::HOST_NAME)]
}

fn script(text: &str, arguments: impl IntoIterator<Item = String>) -> Vec<String> {
    ["sh", "-c", text, "posada"].map(str::to_owned).into_iter().chain(arguments).collect()
}
