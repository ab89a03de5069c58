use super::add;
use crate::context::Context;
use crate::exit::ExitStatus;
use crate::failure::Result;

/// Import a disk or machine of another hypervisor
///
/// Takes what `box add` takes, which is told by its content: a disk image (raw, qcow2, VMDK, VDI, VHD, VHDX, Parallels
/// HDD), a machine (OVA, XVA), a Vagrant box (virtualbox, vmware_desktop, hyperv, parallels, libvirt, lxc), or an archive
/// of a root file system; also compressed with gzip, xz or zstd.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub struct Args {
    #[command(flatten)]
    add: add::Args,
}

pub fn run(args: Args, context: &Context) -> Result<ExitStatus> {
    add::run(args.add, context)
}
