//! What a source has, and which of it is taken.

use posada_fetch::Checksum;

use super::provider;
use crate::{BoxError, Form, Version, VersionReq};

/// One file of a box that a source has: of one version, for one provider and one architecture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// The name of the box.
    pub name: String,
    /// Its version.
    pub version: Version,
    /// Whom it is made for, as Vagrant names it (`libvirt`, `lxc`); `None` where the source does not say.
    pub provider: Option<String>,
    /// What machines it is for (`amd64`); `None` where the source does not say.
    pub architecture: Option<String>,
    /// Whether it is the one for those who ask for no architecture.
    pub default_architecture: bool,
    /// Where its repository says which chunks it is made of, where it does.
    pub manifest: Option<String>,
    /// Where it is, in the source's own words; not shown.
    pub location: String,
    /// What its content has to come to.
    pub checksum: Option<Checksum>,
    /// Who says that it is that box (minisign), where the source says.
    pub signature: Option<String>,
}

/// Which offer is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// What its version has to fulfil; of several the newest is taken.
    pub requirement: Option<VersionReq>,
    /// Whom it has to be made for: `kvm`, `container`, or a provider of Vagrant's. `None` takes what holds `form`.
    pub provider: Option<String>,
    /// What machines it has to be for. `None` takes this host's, or what is marked as the default.
    pub architecture: Option<String>,
    /// The form that is needed; `None` takes either, a disk image first.
    pub form: Option<Form>,
}

impl Wanted {
    /// The newest version of a box that holds `form`, for this host.
    #[must_use]
    pub fn newest(form: Form) -> Self {
        Self { requirement: None, provider: None, architecture: None, form: Some(form) }
    }

    /// Chooses among the `offers` of the box `name`; `host` is this host's architecture.
    ///
    /// # Errors
    /// [`BoxError::NotOffered`], with what there is.
    pub(crate) fn choose(&self, name: &str, offers: Vec<Offer>, host: &str) -> Result<Offer, BoxError> {
        // The newest version that has what is wanted is taken, as Vagrant does, not the newest one or nothing.
        let fits = |offer: &&Offer| self.version_fits(offer) && self.provider_fits(offer);
        let best = offers
            .iter()
            .filter(fits)
            .filter_map(|offer| Some((offer, self.architecture_rank(offer, host)?)))
            .max_by(|(one, one_rank), (other, other_rank)| {
                let rank = |offer: &Offer| offer.provider.as_deref().map_or(0, provider::rank);
                one.version
                    .cmp(&other.version)
                    .then_with(|| other_rank.cmp(one_rank))
                    .then_with(|| rank(other).cmp(&rank(one)))
            })
            .map(|(offer, _)| offer.clone());
        best.ok_or_else(|| {
            let all = |matches: &dyn Fn(&&Offer) -> bool, text: &dyn Fn(&Offer) -> String| {
                let mut texts: Vec<String> = Vec::new();
                for offer in offers.iter().filter(matches) {
                    let text = text(offer);
                    if !texts.contains(&text) {
                        texts.push(text);
                    }
                }
                texts.truncate(20);
                texts
            };
            let any_version = !offers.iter().any(|offer| self.version_fits(offer));
            let (what, have) = if any_version {
                let mut versions: Vec<&Version> = offers.iter().map(|offer| &offer.version).collect();
                versions.sort();
                versions.reverse();
                versions.dedup();
                let have = versions.iter().take(20).map(ToString::to_string).collect();
                (
                    self.requirement
                        .as_ref()
                        .map_or("any version".to_owned(), |req| format!("version `{req}`")),
                    have,
                )
            } else if !offers.iter().any(|offer| fits(&offer)) {
                let provider = |offer: &Offer| offer.provider.clone().unwrap_or_else(|| "unknown".to_owned());
                let what = match (&self.provider, self.form) {
                    (Some(provider), _) => format!("provider `{provider}`"),
                    (None, Some(form)) => format!("a provider whose boxes hold a {form}"),
                    (None, None) => "a provider that Posada knows".to_owned(),
                };
                (what, all(&|offer| self.version_fits(offer), &provider))
            } else {
                let architecture =
                    |offer: &Offer| offer.architecture.clone().unwrap_or_else(|| "unknown".to_owned());
                let what = format!("architecture `{}`", self.architecture.as_deref().unwrap_or(host));
                (what, all(&fits, &architecture))
            };
            BoxError::NotOffered { name: name.to_owned(), what, have }
        })
    }

    fn version_fits(&self, offer: &Offer) -> bool {
        self.requirement.as_ref().is_none_or(|wanted| wanted.matches(&offer.version))
    }

    fn provider_fits(&self, offer: &Offer) -> bool {
        let Some(offered) = offer.provider.as_deref() else { return true };
        match &self.provider {
            Some(wanted) => provider::stands_for(wanted, offered),
            None => {
                provider::form_of(offered).is_some_and(|form| self.form.is_none_or(|wanted| wanted == form))
            }
        }
    }

    /// How well its architecture fits, the less the better; `None` where it does not.
    fn architecture_rank(&self, offer: &Offer, host: &str) -> Option<u8> {
        let offered = offer.architecture.as_deref().filter(|name| *name != "unknown").map(canonical);
        match (self.architecture.as_deref().map(canonical), offered) {
            (Some(wanted), Some(offered)) if wanted == offered => Some(0),
            (Some("unknown"), None) => Some(0),
            (Some(_), Some(_)) => None,
            (None, Some(offered)) if offered == canonical(host) => Some(0),
            (None, Some(_)) => None,
            // A catalog that does not say is older than architectures in catalogs.
            (_, None) => Some(if offer.default_architecture { 1 } else { 2 }),
        }
    }
}

/// One name for the architectures that are called by several.
fn canonical(name: &str) -> &str {
    match name {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "i686" | "386" => "i386",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(version: &str, provider: &str, architecture: &str) -> Offer {
        let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Offer {
            name: "team/web".to_owned(),
            version: Version::parse(version).unwrap(),
            provider: text(provider),
            architecture: text(architecture),
            default_architecture: false,
            location: format!("{version} {provider} {architecture}"),
            checksum: None,
            signature: None,
            manifest: None,
        }
    }

    fn offers() -> Vec<Offer> {
        vec![
            offer("1.9", "virtualbox", "amd64"),
            offer("1.10", "virtualbox", "amd64"),
            offer("1.10", "libvirt", "amd64"),
            offer("1.10", "libvirt", "arm64"),
            offer("1.10", "lxc", ""),
            offer("2.0", "aws", "amd64"),
            offer("1.11", "libvirt", "s390x"),
        ]
    }

    #[test]
    fn the_newest_version_that_has_what_is_wanted_is_taken() {
        let chosen =
            |wanted: Wanted| wanted.choose("team/web", offers(), "amd64").map(|offer| offer.location);
        let newest = Wanted::newest(Form::Disk);
        assert_eq!(chosen(newest.clone()).unwrap(), "1.10 libvirt amd64");
        assert_eq!(chosen(Wanted { form: None, ..newest.clone() }).unwrap(), "1.10 libvirt amd64");
        assert_eq!(chosen(Wanted::newest(Form::Rootfs)).unwrap(), "1.10 lxc ");
        let requirement = Some(VersionReq::parse("< 1.10").unwrap());
        assert_eq!(chosen(Wanted { requirement, ..newest.clone() }).unwrap(), "1.9 virtualbox amd64");
        let architecture = Some("aarch64".to_owned());
        assert_eq!(chosen(Wanted { architecture, ..newest.clone() }).unwrap(), "1.10 libvirt arm64");
        let provider = Some("virtualbox".to_owned());
        assert_eq!(chosen(Wanted { provider, ..newest }).unwrap(), "1.10 virtualbox amd64");
    }

    #[test]
    fn what_is_not_offered_is_told_with_what_is() {
        let refused = |wanted: Wanted| match wanted.choose("team/web", offers(), "amd64") {
            Err(BoxError::NotOffered { what, have, .. }) => (what, have),
            other => panic!("{other:?}"),
        };
        let newest = Wanted::newest(Form::Disk);
        let requirement = Some(VersionReq::parse("> 3").unwrap());
        let (what, have) = refused(Wanted { requirement, ..newest.clone() });
        assert_eq!((what.as_str(), have[0].as_str()), ("version `> 3`", "2.0"));
        let (what, have) = refused(Wanted { provider: Some("hyperv".to_owned()), ..newest.clone() });
        assert_eq!(what, "provider `hyperv`");
        assert_eq!(have, ["virtualbox", "libvirt", "lxc", "aws"]);
        let (what, have) = refused(Wanted { architecture: Some("riscv64".to_owned()), ..newest });
        assert_eq!(what, "architecture `riscv64`");
        assert_eq!(have, ["amd64", "arm64", "s390x"]);
    }
}
