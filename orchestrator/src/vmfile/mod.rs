//! The Vmfile: what a user wants to have, in YAML.
//!
//! ```text
//! text ── yaml ──► nodes with spans ── decode ──► one layer a machine ── checks ──► Vmfile
//!                                        ▲
//!                                      table ──► schema
//! ```
//! Every stage notes what it finds wrong and goes on as far as it makes sense, so that all faults of a file are
//! told at once. What keys there are is said once, in `table`.

mod checks;
mod config;
mod decode;
mod fault;
mod interpolate;
mod node;
mod schema;
mod shape;
mod source;
mod suggest;
mod table;
mod units;
mod yaml;

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use posada_provider_api::{MachineName, Network};

pub use config::{
    BOOT_TIMEOUT, GRACEFUL_TIMEOUT, HealthCheck, HealthTest, MachineConfig, Param, ProviderChoice, SshConfig,
    Vmfile,
};
pub use fault::{Faults, MAX_FAULTS, Related, VmfileFault};
pub use schema::schema;
pub use source::Source;

use checks::Draft;
use decode::Decoder;
use fault::Collector;
use node::{Node, Value};

/// The largest Vmfile, bytes.
pub const MAX_SIZE: usize = 1 << 20;

/// What a Vmfile's text is completed with.
pub struct Inputs<'a> {
    /// Values of parameters, from `--param name=value`.
    pub params: BTreeMap<String, String>,
    /// Looks up a variable of the caller's environment.
    pub env: &'a dyn Fn(&str) -> Option<String>,
    /// The absolute folder that relative paths start from.
    pub project: PathBuf,
    /// What `~/` means; absolute.
    pub home: Option<PathBuf>,
}

impl std::fmt::Debug for Inputs<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inputs")
            .field("project", &self.project)
            .field("home", &self.home)
            .finish_non_exhaustive()
    }
}

impl Vmfile {
    /// Reads a Vmfile from its file, of which no more is read than a Vmfile may hold.
    ///
    /// # Errors
    /// The outer one where the file cannot be read; the inner one is everything that is wrong with it.
    pub fn load(file: &Path, inputs: &Inputs<'_>) -> std::io::Result<Result<Self, Faults>> {
        let mut bytes = Vec::new();
        fs_err::File::open(file)?.take(MAX_SIZE as u64 + 1).read_to_end(&mut bytes)?;
        Ok(Self::parse_bytes(&bytes, file, inputs))
    }

    /// Reads a Vmfile. Nothing of the host is looked at: whether paths exist is seen when they are used.
    ///
    /// # Errors
    /// [`Faults`]: everything that is wrong with it.
    pub fn parse(text: &str, file: &Path, inputs: &Inputs<'_>) -> Result<Self, Faults> {
        if text.len() > MAX_SIZE {
            return Err(too_large(file));
        }
        let mut faults = Collector::new(Source::new(file, text));
        let root = yaml::parse(&mut faults);
        let source = faults.source().clone();
        let mut decoder = Decoder::new(faults, inputs);
        let (mut params, mut machines) = (Vec::new(), Vec::new());
        match &root {
            Some(root) => (params, machines) = read(&mut decoder, root),
            None if decoder.faults.is_empty() => {
                decoder
                    .faults
                    .push(&(0..0), "the file is empty")
                    .hint("say at least what the machine is made of: `box: debian/12`");
            }
            None => {}
        }
        decoder.faults.finish()?;
        let machines = machines.into_iter().filter_map(|draft| finish(draft, &source)).collect();
        Ok(Self { file: file.to_owned(), machines, params })
    }

    /// Reads a Vmfile from the bytes of its file.
    ///
    /// # Errors
    /// [`Faults`]: everything that is wrong with it.
    pub fn parse_bytes(bytes: &[u8], file: &Path, inputs: &Inputs<'_>) -> Result<Self, Faults> {
        if bytes.len() > MAX_SIZE {
            return Err(too_large(file));
        }
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::parse(text, file, inputs),
            Err(error) => {
                let at = error.valid_up_to();
                let text = String::from_utf8_lossy(bytes);
                let mut faults = Collector::new(Source::new(file, &text));
                let message = if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
                    "the file is UTF-16".to_owned()
                } else {
                    format!("the byte 0x{:02x} is no UTF-8", bytes[at])
                };
                faults.push(&(at..at + '\u{fffd}'.len_utf8()), message).hint("save the file as UTF-8");
                Err(faults.into_faults())
            }
        }
    }
}

/// Reads the document; what comes of it counts only where no fault was noted.
fn read(decoder: &mut Decoder<'_>, root: &Node) -> (Vec<Param>, Vec<Draft>) {
    let Value::Map(_) = &root.value else {
        decoder
            .faults
            .push(&root.span, "a Vmfile is a map, and this is none")
            .hint("write keys and values, such as `box: debian/12`");
        return (Vec::new(), Vec::new());
    };
    let fields = decoder.table(root, &(0..0), &table::ROOT);
    if let Some(given) = fields.get("version") {
        decoder.choice(&given);
    }
    let params = decode::params(decoder, fields.get("params"));
    let machines = decode::machines(decoder, &fields);
    checks::check(&mut decoder.faults, &machines, fields.get("machines").is_none());
    (params, machines)
}

/// Fills in what the file leaves open.
fn finish((name, layer): Draft, source: &Source) -> Option<MachineConfig> {
    let mut networks: Vec<Network> = layer.networks.into_iter().map(|network| network.value).collect();
    networks.extend(layer.ssh.port.as_ref().map(|port| Network::Forward(checks::ssh_forward(port.value))));
    let mut depends_on: Vec<MachineName> = Vec::new();
    for on in layer.depends_on.into_iter().filter_map(|on| MachineName::new(on.value).ok()) {
        if !depends_on.contains(&on) {
            depends_on.push(on);
        }
    }
    Some(MachineConfig {
        place: source.place(name.span.start),
        // A machine without a box is a fault: there is none here.
        box_ref: layer.box_ref?,
        box_version: layer.box_version,
        kernel: layer.kernel,
        provider: layer.provider.unwrap_or_default(),
        cpus: layer.cpus,
        memory: layer.memory,
        disk: layer.disk,
        hostname: layer.hostname.map_or_else(|| name.value.to_string(), |hostname| hostname.value),
        networks,
        synced_folders: layer.synced_folders.into_iter().map(|folder| folder.value).collect(),
        provision: layer.provision.into_iter().map(|step| step.value).collect(),
        ssh: SshConfig {
            username: layer.ssh.username,
            port: layer.ssh.port.map(|port| port.value),
            forward_agent: layer.ssh.forward_agent.unwrap_or(false),
            boot_timeout: layer.ssh.boot_timeout.unwrap_or(BOOT_TIMEOUT),
        },
        env: layer.env,
        depends_on,
        healthcheck: layer.healthcheck,
        post_up_message: layer.post_up_message,
        graceful_timeout: layer.graceful_timeout.unwrap_or(GRACEFUL_TIMEOUT),
        name: name.value,
    })
}

fn too_large(file: &Path) -> Faults {
    let mut faults = Collector::new(Source::new(file, ""));
    faults
        .push(&(0..0), "the file is larger than 1 MiB, which is the most a Vmfile may be")
        .hint("put long scripts into files of their own and name them by `path`");
    faults.into_faults()
}
