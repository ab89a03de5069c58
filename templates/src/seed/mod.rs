//! What a virtual machine is told at its boots, as the three files of cloud-init's NoCloud data source.
//!
//! # How often what is done
//!
//! A Vmfile changes between boots, and cloud-init does most things once per *instance*. Therefore:
//!
//! - **The instance id is the machine's id and a digest of the seed.** The same seed is the same instance, and a
//!   boot with it does nothing twice. A seed that differs in anything (a host name, a network, a key) is another
//!   instance: network configuration, users, keys and files are done again. What must not change then does not, as
//!   the host key is in the seed. So is each further attempt at an instance that was cut off before it was on the disk.
//! - **`bootcmd` is done at every boot**, from the seed of that boot, and before sshd answers: the login user, the
//!   blocks in `/etc/hosts` and `/etc/environment` (the same as in a container), and synced folders. Folders are
//!   not in fstab(5), where those that are gone from the Vmfile would stay, `nofail` would let sshd answer before
//!   they are mounted, and its absence would keep a machine from booting for a missing folder. A folder that
//!   cannot be mounted is told on the console and nothing else. What the host changes in them is raised by a service
//!   that is made in `/run`, so that it too is that boot's.
//!
//! The login user is made by the first command of all rather than by `users`, which comes later: a folder may lie
//! in its home, and useradd(8) does not fill a home that is there already. Its authorized keys from the box are
//! removed once in the machine's life, before `users` writes Posada's; what people add later stays.
//!
//! # For who boots the machine
//!
//! The seed says `dsmode: local`: all of the above is done before the network is configured, by cloud-init's first
//! service, so that neither sshd nor anything else waits for both. `ds=nocloud` implies the same.
//!
//! The files lie on a FAT or ISO 9660 volume labelled `CIDATA`. With `ds=nocloud` on the kernel's command line no
//! other data source is looked for. The instance id must not be given there (`ds=nocloud;i=…`): cloud-init would
//! believe its copy of the last boot and not read the volume.
//!
//! <https://docs.cloud-init.io/en/latest/reference/datasources/nocloud.html>

mod commands;
mod environment;
mod input;
mod settings;
#[cfg(test)]
mod tests;
mod yaml;

pub use input::{Addressing, Changes, Nic, SeedFolder, SeedInput};
use posada_provider_api::GuestAccess;
use serde::Serialize;
pub use settings::{Settings, settings};
use sha2::{Digest, Sha256};
pub(crate) use yaml::yaml_filter;

use crate::renderer::{TemplateError, render};

/// The files of a seed.
#[derive(Clone, PartialEq, Eq)]
pub struct Seed {
    /// `user-data`: cloud-config. It holds the machine's private host key.
    pub user_data: String,
    /// The instance id of a first attempt.
    pub instance_id: String,
    hostname: String,
    /// `network-config`, version 2.
    pub network_config: String,
    /// Names of variables that `/etc/environment` cannot hold, and that logins therefore lack.
    pub left_out: Vec<String>,
}

impl std::fmt::Debug for Seed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Seed").field("instance_id", &self.instance_id).finish_non_exhaustive()
    }
}

#[derive(Serialize)]
struct UserData<'a> {
    hostname: &'a str,
    access: &'a GuestAccess,
    authorized_key: &'a str,
    host_key: String,
    host_key_public: String,
    disable_root: bool,
    files: [File; 2],
    commands: Vec<Vec<String>>,
}

#[derive(Serialize)]
struct File {
    path: &'static str,
    content: &'static str,
}

/// The host key is the only one that sshd offers. The second file is the one cloud-init writes for `ssh_pwauth`: as it
/// finds there what it wants, it does not restart sshd under the first login.
const FILES: [File; 2] = [
    File {
        path: "/etc/ssh/sshd_config.d/00-posada.conf",
        content: "HostKey /etc/ssh/ssh_host_ed25519_key\n",
    },
    File { path: "/etc/ssh/sshd_config.d/50-cloud-init.conf", content: "PasswordAuthentication no\n" },
];

#[derive(Serialize)]
struct MetaData<'a> {
    instance_id: String,
    hostname: &'a str,
}

#[derive(Serialize)]
struct NetworkConfig {
    nics: Vec<input::NicWords>,
}

/// Renders a machine's seed. The same input gives the same text.
///
/// # Errors
/// [`TemplateError`], a fault of ours.
pub fn render_seed(input: &SeedInput) -> Result<Seed, TemplateError> {
    let (env, left_out) = environment::lines(&input.env);
    let access = &input.access;
    let hostname = input.hostname.as_str();
    let user_data = UserData {
        hostname,
        access,
        authorized_key: access.authorized_key.trim(),
        host_key: ending_in_newline(&access.host_key),
        host_key_public: ending_in_newline(&access.host_key_public),
        disable_root: access.user != "root",
        files: FILES,
        commands: commands::every_boot(input, env),
    };
    let user_data = render("user-data", include_str!("../../assets/seed/user-data.tera"), &user_data)?;
    let network = NetworkConfig { nics: input.nics.iter().map(input::NicWords::from).collect() };
    let network_config =
        render("network-config", include_str!("../../assets/seed/network-config.tera"), &network)?;
    let instance_id = format!("{}-{}", input.machine, revision(&user_data, &network_config));
    Ok(Seed { user_data, instance_id, hostname: input.hostname.clone(), network_config, left_out })
}

impl Seed {
    /// `meta-data`: instance id and host name. An attempt after the first (number 0) is another instance, for which
    /// everything is done again.
    ///
    /// # Errors
    /// [`TemplateError`], a fault of ours.
    pub fn meta_data(&self, attempt: u32) -> Result<String, TemplateError> {
        let instance_id = match attempt {
            0 => self.instance_id.clone(),
            again => format!("{}-{again}", self.instance_id),
        };
        let words = MetaData { instance_id, hostname: &self.hostname };
        render("meta-data", include_str!("../../assets/seed/meta-data.tera"), &words)
    }
}

fn ending_in_newline(text: &str) -> String {
    format!("{}\n", text.trim_end())
}

/// Twelve hexadecimal digits that stand for what a seed says; the host name is part of the user data.
fn revision(user_data: &str, network_config: &str) -> String {
    let digest =
        Sha256::new().chain_update(user_data).chain_update([0]).chain_update(network_config).finalize();
    digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}
