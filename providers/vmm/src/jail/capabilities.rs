//! Capabilities (capabilities(7)): all that are not handed over are given up, in every set.

use caps::{CapSet, Capability, CapsHashSet};

use super::JailError;

pub(super) fn keep_only(names: &[String]) -> Result<(), JailError> {
    let failed = |error: caps::errors::CapsError| JailError::Capabilities(error.to_string());
    let mut wanted = CapsHashSet::new();
    for name in names {
        wanted.insert(name.parse::<Capability>().map_err(failed)?);
    }
    let has = caps::read(None, CapSet::Permitted).map_err(failed)?;
    let kept: CapsHashSet = wanted.intersection(&has).copied().collect();
    let bounding = caps::read(None, CapSet::Bounding).map_err(failed)?;
    if has.contains(&Capability::CAP_SETPCAP) {
        for dropped in bounding.difference(&kept) {
            caps::drop(None, CapSet::Bounding, *dropped).map_err(failed)?;
        }
    }
    // Ambient ones go with the inheritable.
    caps::clear(None, CapSet::Inheritable).map_err(failed)?;
    caps::set(None, CapSet::Effective, &kept).map_err(failed)?;
    caps::set(None, CapSet::Permitted, &kept).map_err(failed)
}
