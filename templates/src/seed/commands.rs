//! What is done at every boot. Each command is a fixed script of ours and its arguments, so that no value of a Vmfile is
//! ever read as shell; the arguments are quoted by cloud-init, which takes a list as an argument vector.

use std::net::Ipv4Addr;

use posada_provider_api::network::management;

use super::{Changes, SeedFolder, SeedInput};

const HOSTS: &str = "/etc/hosts";

const USER: &str = include_str!("../../assets/seed/user.sh");
const KEYS: &str = include_str!("../../assets/seed/keys.sh");
const BLOCK: &str = include_str!("../../assets/seed/block.sh");
const LOCALHOST: &str = include_str!("../../assets/seed/localhost.sh");
const NOLOGIN: &str = include_str!("../../assets/seed/nologin.sh");
const FOLDER: &str = include_str!("../../assets/seed/folder.sh");
const CHANGES: &str = include_str!("../../assets/seed/changes.sh");
const RAISE: &str = include_str!("../../assets/seed/raise.sh");
const HOSTNAME: &str = include_str!("../../assets/seed/hostname.sh");
const ADDRESS: &str = include_str!("../../assets/seed/address.sh");

/// Where the folders are mounted a second time, for [`RAISE`].
const WAYS: &str = "/run/posada/folders";

/// The commands, in their order. `env` are lines of `/etc/environment`.
pub(super) fn every_boot(input: &SeedInput, env: Vec<String>) -> Vec<Vec<String>> {
    let user = input.access.user.as_str();
    // Named after the machine: a box made from another machine has that one's mark.
    let mark = format!("posada-keys-{}", input.machine);
    let mut keys = vec!["cloud-init-per".to_owned(), "once".to_owned(), mark];
    keys.extend(script(KEYS, [user.to_owned()]));
    let mut commands = vec![script(USER, [user.to_owned()]), keys, script(NOLOGIN, [])];
    commands.extend(hosts(input));
    commands.push(environment(env));
    commands.extend(input.folders.iter().map(|each| folder(input, each)));
    commands.extend(changes(input));
    commands
}

/// Hosts that the machine knows without asking: itself, and its gateway.
pub(super) fn hosts(input: &SeedInput) -> [Vec<String>; 2] {
    let hostname = input.hostname.as_str();
    let short = hostname.split('.').next().unwrap_or(hostname);
    let own = if short == hostname { hostname.to_owned() } else { format!("{hostname} {short}") };
    let lines = [format!("127.0.1.1 {own}"), format!("{} {}", management::GATEWAY, management::HOST_NAME)];
    let file = || HOSTS.to_owned();
    [script(LOCALHOST, [file()]), script(BLOCK, [file()].into_iter().chain(lines))]
}

/// The environment of logins, lines of `/etc/environment`.
pub(super) fn environment(lines: Vec<String>) -> Vec<String> {
    script(BLOCK, ["/etc/environment".to_owned()].into_iter().chain(lines))
}

/// Mounts a synced folder.
pub(super) fn folder(input: &SeedInput, folder: &SeedFolder) -> Vec<String> {
    let options = if folder.read_only { "nosuid,nodev,ro" } else { "nosuid,nodev" };
    let user = input.access.user.as_str();
    script(FOLDER, [folder.tag.as_str(), folder.target.as_str(), options, user, WAYS].map(str::to_owned))
}

/// Listens for what the host changes in the folders, where that is told.
pub(super) fn changes(input: &SeedInput) -> Option<Vec<String>> {
    let Changes { port, raising } = input.changes.as_ref()?;
    let (port, raising) = (format!("/dev/virtio-ports/{port}"), raising.to_string());
    Some(script(CHANGES, [RAISE.to_owned(), port, raising, WAYS.to_owned()]))
}

/// Sets the host name, which cloud-init does by itself.
pub(super) fn hostname(input: &SeedInput) -> Vec<String> {
    script(
        HOSTNAME,
        [input.hostname.as_str(), "/etc/hostname", "/proc/sys/kernel/hostname"].map(str::to_owned),
    )
}

/// Gives an interface its address, as cloud-init does by `network-config`.
pub(super) fn address(mac: &str, ip: Ipv4Addr, prefix: u8) -> Vec<String> {
    let address = format!("{ip}/{prefix}");
    script(ADDRESS, [mac, &address, "/sys/class/net", "/run/systemd/network"].map(str::to_owned))
}

fn script(text: &str, arguments: impl IntoIterator<Item = String>) -> Vec<String> {
    ["sh", "-c", text, "posada"].map(str::to_owned).into_iter().chain(arguments).collect()
}
