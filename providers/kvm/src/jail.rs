//! What the process that runs a virtual machine keeps: its machine's files, and nothing else of the host.

use std::path::{Path, PathBuf};

use posada_provider_api::{MachineDir, MachineSpec, ProviderError};
use posada_supervisor::owner::log;
use posada_vmm::jail::{self, Access, Place, Rules};

use crate::assemble::RESOLV_CONF;
use crate::bottom::Bottom;

/// By which files of another owner are served as that owner would find them.
const ACT_AS_OWNER: [&str; 2] = ["CAP_SETUID", "CAP_SETGID"];

/// Confines this process, for good, to what the machine in `dir` needs. What the kernel has no means to take from it is
/// told in its log.
///
/// # Errors
/// [`ProviderError::Host`] where it cannot be confined: it then must not run the machine.
pub(crate) fn enter(dir: &MachineDir, spec: &MachineSpec) -> Result<(), ProviderError> {
    let capabilities = ACT_AS_OWNER.map(str::to_owned).to_vec();
    let rules = Rules { places: places(dir, spec)?, capabilities };
    let gaps = jail::enter(&rules).map_err(|error| ProviderError::Host {
        what: format!("the machine's process cannot be confined: {error}"),
        remedy: "see `posada doctor`; a kernel of Linux 5.19 or newer has what it takes".to_owned(),
    })?;
    for gap in gaps.0 {
        log(&gap);
    }
    Ok(())
}

fn places(dir: &MachineDir, spec: &MachineSpec) -> Result<Vec<Place>, ProviderError> {
    let mut places = Vec::new();
    let mut may = |access: Access, path: &Path| places.push(Place { path: path.to_owned(), access });
    may(Access::Device, Path::new(posada_vmm::machine::KVM));
    may(Access::Write, dir.path());
    if spec.private_networks().next().is_some() {
        // A place can be kept only if it is there.
        fs_err::create_dir_all(dir.networks()).map_err(|error| ProviderError::Host {
            what: error.to_string(),
            remedy: "make room and rights for it in POSADA_HOME".to_owned(),
        })?;
        may(Access::Write, &dir.networks());
    }
    for folder in &spec.folders {
        may(if folder.read_only { Access::Read } else { Access::Write }, &folder.source);
    }
    let bottom = Bottom::of(spec)?;
    bottom.images().for_each(|image| may(Access::Read, image));
    for file in bottom.boot.iter().flat_map(|boot| boot.initrd.iter().chain([&boot.kernel])) {
        may(Access::Read, file);
    }
    // The name servers' file is replaced as a whole when they change, so that its directory counts.
    let resolv_conf = Path::new(RESOLV_CONF);
    let real = fs_err::canonicalize(resolv_conf).unwrap_or_else(|_| PathBuf::from(resolv_conf));
    for file in [resolv_conf, &real] {
        may(Access::Read, file.parent().unwrap_or(file));
    }
    // Other processes' directories there are closed to a confined process by the kernel itself.
    may(Access::Read, Path::new("/proc"));
    may(Access::Read, Path::new("/sys/devices/system/cpu"));
    Ok(places)
}
