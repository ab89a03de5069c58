use posada_box_catalog::source::form_of;
use posada_box_catalog::{Form, StoredBox};

use crate::failure::{CliError, Result};

/// Which boxes of a name are meant, by whom they are for.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct KindArgs {
    /// Only those for this provider: `kvm`, `container`, or as Vagrant calls it
    #[arg(long, short, value_name = "PROVIDER")]
    provider: Option<String>,

    /// Only those for this architecture
    #[arg(long, value_name = "ARCHITECTURE")]
    architecture: Option<String>,
}

/// The same, understood.
pub struct Kind {
    form: Option<Form>,
    architecture: Option<String>,
}

impl KindArgs {
    /// What they say.
    ///
    /// # Errors
    /// [`CliError::Usage`] for a provider that nobody knows.
    pub fn kind(self) -> Result<Kind> {
        let known = |provider: String| {
            let unknown = format!("no provider `{provider}` is known");
            let hint = "name `kvm`, `container`, or one of Vagrant's such as `libvirt` or `lxc`";
            form_of(&provider).ok_or_else(|| CliError::usage(unknown, hint))
        };
        let form = self.provider.map(known).transpose()?;
        Ok(Kind { form, architecture: self.architecture })
    }
}

impl Kind {
    /// Whether a box is of it.
    pub fn fits(&self, stored: &StoredBox) -> bool {
        let metadata = &stored.metadata;
        self.form.is_none_or(|form| metadata.provides.contains(&form))
            && (self.architecture.is_none() || metadata.architecture == self.architecture)
    }
}
