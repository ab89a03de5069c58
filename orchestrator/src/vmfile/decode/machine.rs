//! A machine's keys, as the top level and each entry of `machines` say them.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use posada_box_catalog::{BoxRef, VersionReq};
use posada_provider_api::{MachineName, Network, SyncedFolder};
use posada_provisioners::Step;

use super::health::SshLayer;
use super::{Decoder, Fields, Given, Located};
use crate::vmfile::config::{HealthCheck, ProviderChoice};
use crate::vmfile::node::{Value, shorten};
use crate::vmfile::shape::Shape;
use crate::vmfile::table;
use crate::vmfile::yaml::MAX_NODES;

/// What one layer of a Vmfile, its defaults or one machine, says of a machine.
#[derive(Debug, Clone, Default)]
pub(in crate::vmfile) struct Layer {
    /// Whether a box is named, be it well or badly.
    pub(in crate::vmfile) box_given: bool,
    pub(in crate::vmfile) box_ref: Option<BoxRef>,
    pub(in crate::vmfile) box_version: Option<VersionReq>,
    pub(in crate::vmfile) kernel: Option<BoxRef>,
    pub(in crate::vmfile) provider: Option<ProviderChoice>,
    pub(in crate::vmfile) cpus: Option<u32>,
    pub(in crate::vmfile) memory: Option<u64>,
    pub(in crate::vmfile) disk: Option<u64>,
    pub(in crate::vmfile) hostname: Option<Located<String>>,
    pub(in crate::vmfile) networks: Vec<Located<Network>>,
    pub(in crate::vmfile) synced_folders: Vec<Located<SyncedFolder>>,
    pub(in crate::vmfile) provision: Vec<Located<Step>>,
    pub(in crate::vmfile) ssh: SshLayer,
    pub(in crate::vmfile) env: BTreeMap<String, String>,
    pub(in crate::vmfile) depends_on: Vec<Located<String>>,
    pub(in crate::vmfile) healthcheck: Option<HealthCheck>,
    pub(in crate::vmfile) post_up_message: Option<String>,
    pub(in crate::vmfile) graceful_timeout: Option<Duration>,
}

impl Layer {
    /// How many entries its lists and maps have.
    fn entries(&self) -> usize {
        self.networks.len() + self.synced_folders.len() + self.provision.len() + self.env.len()
    }

    /// This layer over `defaults`: single values replace, maps are merged key by key, lists come after the
    /// defaults' lists.
    fn over(self, defaults: &Self) -> Self {
        fn after<T: Clone>(defaults: &[T], own: Vec<T>) -> Vec<T> {
            defaults.iter().cloned().chain(own).collect()
        }
        let base = defaults.clone();
        let mut env = base.env;
        env.extend(self.env);
        Self {
            box_given: self.box_given || base.box_given,
            box_ref: self.box_ref.or(base.box_ref),
            box_version: self.box_version.or(base.box_version),
            kernel: self.kernel.or(base.kernel),
            provider: self.provider.or(base.provider),
            cpus: self.cpus.or(base.cpus),
            memory: self.memory.or(base.memory),
            disk: self.disk.or(base.disk),
            hostname: self.hostname.or(base.hostname),
            networks: after(&base.networks, self.networks),
            synced_folders: after(&base.synced_folders, self.synced_folders),
            provision: after(&base.provision, self.provision),
            ssh: SshLayer {
                username: self.ssh.username.or(base.ssh.username),
                port: self.ssh.port.or(base.ssh.port),
                forward_agent: self.ssh.forward_agent.or(base.ssh.forward_agent),
                boot_timeout: self.ssh.boot_timeout.or(base.ssh.boot_timeout),
            },
            env,
            depends_on: self.depends_on,
            healthcheck: self.healthcheck.or(base.healthcheck),
            post_up_message: self.post_up_message.or(base.post_up_message),
            graceful_timeout: self.graceful_timeout.or(base.graceful_timeout),
        }
    }
}

/// The machines of a file, in file order, each with its place and the defaults merged in; and the names of those
/// whose name is faulty are left out.
pub(in crate::vmfile) fn machines(
    decoder: &mut Decoder<'_>,
    root: &Fields<'_>,
) -> Vec<(Located<MachineName>, Layer)> {
    let defaults = decoder.layer(root);
    let Some(given) = root.get("machines") else {
        let name = MachineName::new("default").ok();
        let span = first_key(root);
        return name.map(|value| (Located { value, span }, defaults)).into_iter().collect();
    };
    let Shape::Free(_, Shape::Nullable(shape)) = given.shape else { return Vec::new() };
    let entries = decoder.entries(given, shape);
    if entries.is_empty() && (given.node.is_null() || matches!(given.node.value, Value::Map(_))) {
        decoder
            .faults
            .push(&given.key.span, "`machines` names no machine")
            .hint("name one, such as `machines: { web: {} }`, or leave `machines` out for a single machine");
    }
    let written_out = defaults.entries().saturating_mul(entries.len());
    if written_out > MAX_NODES {
        let message = format!(
            "what the top level gives each of {} machines comes to {written_out} values, more than {MAX_NODES}",
            entries.len()
        );
        decoder.faults.push(&given.key.span, message).hint("put under each machine what is its own");
        return Vec::new();
    }
    let mut machines = Vec::new();
    for entry in entries {
        let Some(fields) = decoder.fields(entry, &table::MACHINE) else { continue };
        let layer = decoder.layer(&fields).over(&defaults);
        let span = entry.key.span.clone();
        match MachineName::new(entry.key.text.as_str()) {
            Ok(value) => machines.push((Located { value, span }, layer)),
            Err(_) => {
                decoder
                    .faults
                    .push(&span, format!("`{}` cannot name a machine", shorten(&entry.key.text)))
                    .hint(format!("use {}", table::MACHINE_NAME.what));
            }
        }
    }
    machines
}

/// Where the only machine of a file begins.
fn first_key(root: &Fields<'_>) -> Range<usize> {
    let spans = root.entries.iter().map(|given| &given.key.span);
    spans.min_by_key(|span| span.start).map_or_else(|| root.span.clone(), Clone::clone)
}

impl Decoder<'_> {
    fn layer(&mut self, fields: &Fields<'_>) -> Layer {
        let given = |name: &str| fields.get(name);
        Layer {
            box_given: given("box").is_some(),
            box_ref: given("box").and_then(|given| self.box_ref(&given)),
            box_version: given("box_version").and_then(|given| self.parsed(&given, VersionReq::parse)),
            kernel: given("kernel").and_then(|given| self.box_ref(&given)),
            provider: given("provider")
                .and_then(|given| self.choice(&given))
                .map(|index| [ProviderChoice::Auto, ProviderChoice::Kvm, ProviderChoice::Container][index]),
            cpus: given("cpus")
                .and_then(|given| self.whole(&given))
                .and_then(|cpus| u32::try_from(cpus).ok()),
            memory: given("memory").and_then(|given| self.size(&given)),
            disk: given("disk").and_then(|given| self.size(&given)),
            hostname: given("hostname").and_then(|given| {
                Some(Located { value: self.parsed(&given, hostname)?, span: given.node.span.clone() })
            }),
            networks: given("networks").map(|given| self.networks(given)).unwrap_or_default(),
            synced_folders: given("synced_folders").map(|given| self.folders(given)).unwrap_or_default(),
            provision: given("provision").map(|given| self.steps(given)).unwrap_or_default(),
            ssh: given("ssh").map(|given| self.ssh(given)).unwrap_or_default(),
            env: given("env").map(|given| self.env(given)).unwrap_or_default(),
            depends_on: given("depends_on").map(|given| self.depends_on(given)).unwrap_or_default(),
            healthcheck: given("healthcheck").and_then(|given| self.health(given)),
            post_up_message: given("post_up_message")
                .and_then(|given| self.text(&given))
                .map(|word| word.text.into_owned()),
            graceful_timeout: given("graceful_timeout").and_then(|given| self.span(&given)),
        }
    }

    fn box_ref(&mut self, given: &Given<'_>) -> Option<BoxRef> {
        match self.parsed(given, BoxRef::parse)? {
            BoxRef::File(path) => Some(BoxRef::File(self.host_path(given, &path.to_string_lossy())?)),
            BoxRef::Build(recipe) if posada_box_catalog::build::is_path(&recipe) => {
                Some(BoxRef::Build(self.host_path(given, &recipe)?.to_str()?.to_owned()))
            }
            elsewhere => Some(elsewhere),
        }
    }

    /// A list of names, or one name.
    fn depends_on(&mut self, given: Given<'_>) -> Vec<Located<String>> {
        let entries = match (&given.node.value, given.shape) {
            (Value::Scalar(scalar), _) if !scalar.is_null() => vec![given],
            (_, Shape::Either([Shape::List(entry), ..])) => self.list(given, entry),
            _ => Vec::new(),
        };
        entries
            .iter()
            .filter_map(|entry| {
                let value = self.text(entry)?.text.into_owned();
                Some(Located { value, span: entry.node.span.clone() })
            })
            .collect()
    }
}

/// A host name: labels of RFC 1123, section 2.1, together at most 253 characters.
fn hostname(text: &str) -> Result<String, String> {
    if text.len() <= 253 && text.split('.').all(|label| MachineName::new(label).is_ok()) {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "`{}` is no host name: use letters, digits and hyphens, and dots between its parts",
            shorten(text)
        ))
    }
}
