//! What a machine without cloud-init is told over SSH at each start: the same as a seed says, by the same scripts.

use posada_provider_api::Setting;

use super::{Addressing, SeedInput, commands, environment};

/// What a machine is to be told at each start, in order. Its users and keys, and the interface to the NAT, are the
/// box's own concern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The settings.
    pub settings: Vec<Setting>,
    /// Names of variables that `/etc/environment` cannot hold, and that logins therefore lack.
    pub left_out: Vec<String>,
}

/// The settings of a machine that has no cloud-init to read a [`Seed`](super::Seed).
#[must_use]
pub fn settings(input: &SeedInput) -> Settings {
    let (env, left_out) = environment::lines(&input.env);
    let setting = |what: &str, command| Setting { what: what.to_owned(), command };
    let mut settings = vec![setting("the host name", commands::hostname(input))];
    settings.extend(commands::hosts(input).map(|command| setting("/etc/hosts", command)));
    settings.push(setting("/etc/environment", commands::environment(env)));
    settings.extend(input.nics.iter().filter_map(|nic| match nic.addressing {
        Addressing::Static(ip, prefix) => {
            Some(setting(&format!("the address {ip}"), commands::address(&nic.mac_words(), ip, prefix)))
        }
        Addressing::Nat | Addressing::Dhcp => None,
    }));
    settings.extend(
        input
            .folders
            .iter()
            .map(|folder| setting(&format!("the folder {}", folder.target), commands::folder(input, folder))),
    );
    settings.extend(commands::changes(input).map(|command| setting("news of changes in folders", command)));
    Settings { settings, left_out }
}
