//! What a virtual machine is told at its boots: its name, its network, its keys, its mounts.
//!
//! The words are [`posada_templates::render_seed`]'s, where it is also said how often what is done. Here they are put
//! together from the machine's spec, and onto the small disk on which cloud-init looks for them.

mod describe;
mod volume;

pub use describe::folder_tag;
use posada_provider_api::{Fault, FaultKind, MachineSpec, Settings};
use posada_templates::{Seed, TemplateError, render_seed};

/// A seed that could not be made.
#[derive(Debug, thiserror::Error)]
pub enum SeedError {
    /// A synced folder's place in the machine is no text, and the seed is.
    #[error("the synced folder's target `{0}` is not UTF-8")]
    Target(String),
    /// A template of ours is wrong.
    #[error("the machine's seed cannot be written")]
    Template(#[from] TemplateError),
    /// The volume could not be put together.
    #[error("the seed's volume cannot be made")]
    Volume(#[source] std::io::Error),
}

impl Fault for SeedError {
    fn kind(&self) -> FaultKind {
        match self {
            Self::Target(_) => FaultKind::Config,
            Self::Template(_) | Self::Volume(_) => FaultKind::Internal,
        }
    }

    fn hint(&self) -> Option<String> {
        matches!(self, Self::Target(_)).then(|| "give it a `target` in UTF-8 in the Vmfile".to_owned())
    }
}

/// The disk a machine is told things by.
#[derive(Clone, PartialEq, Eq)]
pub struct SeedVolume {
    /// The disk's content, a FAT file system labelled `CIDATA`; a multiple of 512 bytes. It holds the machine's
    /// private host key: where it is kept in a file, only the owner may read that. The machine only reads it.
    pub image: Vec<u8>,
    /// What could not be told as asked, a sentence each.
    pub warnings: Vec<String>,
}

impl std::fmt::Debug for SeedVolume {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SeedVolume").field("warnings", &self.warnings).finish_non_exhaustive()
    }
}

/// What a machine is told at its next boot. The same spec gives the same words.
///
/// # Errors
/// [`SeedError`]: a folder's target that is no text, or a fault of ours.
pub fn seed(spec: &MachineSpec) -> Result<Seed, SeedError> {
    Ok(render_seed(&describe::describe(spec)?)?)
}

/// Makes the volume for a machine's next boot, in the instance's given attempt. The same gives the same bytes.
///
/// # Errors
/// [`SeedError`], a fault of ours.
pub fn volume(seed: &Seed, attempt: u32) -> Result<SeedVolume, SeedError> {
    let image = volume::image(&[
        ("meta-data", seed.meta_data(attempt)?.as_bytes()),
        ("user-data", seed.user_data.as_bytes()),
        ("network-config", seed.network_config.as_bytes()),
    ])
    .map_err(SeedError::Volume)?;
    let warnings = seed.left_out.iter().map(|name| left_out(name)).collect();
    Ok(SeedVolume { image, warnings })
}

/// What a machine whose box has no cloud-init is told over SSH at each start.
///
/// # Errors
/// [`SeedError::Target`].
pub fn settings(spec: &MachineSpec) -> Result<Settings, SeedError> {
    let told = posada_templates::settings(&describe::describe(spec)?);
    let warnings = told.left_out.iter().map(|name| left_out(name)).collect();
    Ok(Settings { settings: told.settings, warnings })
}

fn left_out(name: &str) -> String {
    format!(
        "`{name}` is not in the environment of logins: /etc/environment holds no line breaks, quotes or `#`"
    )
}
