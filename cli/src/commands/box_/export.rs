use std::path::PathBuf;

use clap::ValueEnum;
use posada_box_catalog::{BoxRef, Export, Form, ImageFormat, VersionReq};

use super::progress::Shown;
use super::{BoxEvent, work};
use crate::commands::operation;
use crate::context::Context;
use crate::exit::ExitStatus;
use crate::failure::Result;

/// Write a box's disk for another hypervisor
///
/// The file appears once all of it is written; what the disk does not use takes no place where the format allows it.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The box
    #[arg(value_name = "NAME")]
    name: String,

    /// Which version: `12.4`, `~> 12`; without it, the newest
    #[arg(long = "version", value_name = "VERSION", value_parser = requirement)]
    version: Option<VersionReq>,

    /// What it is written as
    #[arg(long, value_name = "FORMAT")]
    format: Format,

    /// Where it is written to
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,

    /// Pack a VMDK as a stream, for import elsewhere; machines cannot run from it
    #[arg(long)]
    stream_optimized: bool,

    /// Take the place of a file that is there
    #[arg(long, short)]
    force: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    /// QEMU, KVM
    Qcow2,
    /// VMware
    Vmdk,
    /// VirtualBox
    Vdi,
    /// Hyper-V
    Vhdx,
    /// The bytes as they are, with holes
    Raw,
    /// A machine for VirtualBox and VMware, with its description
    Ova,
}

impl From<Format> for ImageFormat {
    fn from(format: Format) -> Self {
        match format {
            Format::Qcow2 => Self::Qcow2,
            Format::Vmdk => Self::Vmdk,
            Format::Vdi => Self::Vdi,
            Format::Vhdx => Self::Vhdx,
            Format::Raw => Self::Raw,
            Format::Ova => Self::Ova,
        }
    }
}

fn requirement(text: &str) -> std::result::Result<VersionReq, String> {
    VersionReq::parse(text).map_err(|error| error.to_string())
}

pub fn run(args: Args, context: &Context) -> Result<ExitStatus> {
    let (orchestrator, _) = operation::orchestrator(context)?;
    let shown = Shown::new(&context.printer, &args.name);
    let export = Export {
        format: args.format.into(),
        stream_optimized: args.stream_optimized,
        output: args.output,
        replace: args.force,
    };
    let wanted = BoxRef::Named(args.name);
    let stored = work(context, |cancel| {
        let stored =
            orchestrator.store().obtain(&wanted, args.version.as_ref(), Form::Disk, &shown, cancel)?;
        stored.export(&export, &shown, cancel)?;
        Ok(stored)
    })?;
    shown.finish();
    let palette = context.printer.err_palette();
    context.printer.note(&format!(
        "{} {} {} is in {}",
        palette.tick(),
        stored.name,
        stored.version,
        palette.strong(&export.output.display().to_string())
    ));
    context.printer.json(&BoxEvent { event: "box_exported", stored: &stored });
    Ok(ExitStatus::OK)
}
