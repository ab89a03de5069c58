use std::path::PathBuf;

use posada_box_catalog::{NewBox, Version};

use super::progress::Shown;
use super::{BoxEvent, work};
use crate::commands::operation;
use crate::context::Context;
use crate::exit::ExitStatus;
use crate::failure::Result;

/// Add a box from a file
///
/// The file is a tar archive of a root file system, for containers; a disk image (raw, qcow2, VMDK, VDI, VHD, VHDX, Parallels
/// HDD) or a machine (OVA, XVA), for virtual machines; or a Vagrant box. Archives and images may be compressed with
/// gzip, xz or zstd. A name may stand for both, a root file system and a disk image: each provider takes what it needs.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The archive or disk image
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// What the box is to be called: `debian/12`
    #[arg(long, value_name = "NAME")]
    name: String,

    /// Its version
    #[arg(long = "version", value_name = "VERSION", default_value = "0", value_parser = version)]
    version: Version,

    /// The user one logs in as; without it, the one the box names, or its user 1000
    #[arg(long, value_name = "USER")]
    user: Option<String>,

    /// Take the place of other content of this name and version
    #[arg(long, short)]
    force: bool,
}

/// Takes a version.
pub fn version(text: &str) -> std::result::Result<Version, String> {
    Version::parse(text).map_err(|error| error.to_string())
}

pub fn run(args: Args, context: &Context) -> Result<ExitStatus> {
    let (orchestrator, _) = operation::orchestrator(context)?;
    let shown = Shown::new(&context.printer, &args.name);
    let new = NewBox { name: args.name.clone(), version: args.version, user: args.user, replace: args.force };
    let stored = work(context, |cancel| orchestrator.store().add(&args.file, &new, &shown, cancel))?;
    shown.finish();
    let palette = context.printer.err_palette();
    context.printer.note(&format!(
        "{} {}",
        palette.tick(),
        palette.strong(&format!("{} {} is in the store", stored.name, stored.version))
    ));
    context.printer.json(&BoxEvent { event: "box_added", stored: &stored });
    Ok(ExitStatus::OK)
}
