use std::path::PathBuf;

use posada_box_catalog::source::form_of;
use posada_box_catalog::{BoxRef, Form, Place, Published, Version, VersionReq, host_architecture, push_file};
use serde_json::json;

use super::progress::Shown;
use super::{add, work};
use crate::buckets::options;
use crate::commands::common::can_ask;
use crate::commands::operation;
use crate::context::Context;
use crate::exit::ExitStatus;
use crate::failure::{CliError, Result};
use crate::printer::style::bytes;
use crate::servers::{ClientArgs, client, registry_logins, server};
use crate::trust::signing_key;

/// Bring a box to a repository
///
/// Only those parts of it travel that the repository does not have, and a push that was broken off goes on where it was. The version is
/// seen by all once all of it is there, and does not change any more then. Without FILE, it is the box of that name in the store:
/// a disk, packed as Vagrant's boxes for libvirt are, or a root file system, as an archive. Not compressed, so that versions share what they
/// have in common.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The box: `team/web`
    #[arg(value_name = "NAME")]
    name: String,

    /// What is pushed: a `.box` file, a disk image, an archive of a root file system
    #[arg(value_name = "FILE", requires = "version", requires = "provider")]
    file: Option<PathBuf>,

    /// Its version; without FILE, the newest in the store
    #[arg(long = "version", value_name = "VERSION", value_parser = add::version)]
    version: Option<Version>,

    /// For which provider it is, as Vagrant calls it: `libvirt` for disks, `lxc` for root file systems; without FILE, it may be left out where
    /// the box in the store holds one of both
    #[arg(long, value_name = "PROVIDER")]
    provider: Option<String>,

    /// For which architecture; without it, the box's own, or this host's
    #[arg(long, value_name = "ARCHITECTURE")]
    architecture: Option<String>,

    /// The repository, where it is not the one that boxes come from; or a tag in a registry: `oci:registry.example.org/team/web:1.0`;
    /// or a bucket: `s3://bucket/team/web`
    #[arg(long, value_name = "URL", value_parser = place)]
    to: Option<Box<Place>>,

    /// Sign it with the key in this file, one of `posada box keygen` or minisign
    #[arg(long, value_name = "FILE")]
    sign: Option<PathBuf>,

    /// Leave the version unseen: files for other providers are to follow
    #[arg(long)]
    no_release: bool,

    #[command(flatten)]
    client: ClientArgs,
}

/// Takes where boxes are brought.
fn place(text: &str) -> std::result::Result<Box<Place>, String> {
    if !["oci:", "s3:", "gs:", "az:"].iter().any(|kind| text.starts_with(kind)) {
        return server(text).map(|url| Box::new(Place::Repository(url)));
    }
    match BoxRef::parse(text).map_err(|error| error.to_string())? {
        BoxRef::Bucket(at) if at.checksum().is_none() => Ok(Box::new(Place::Bucket(at, options()))),
        BoxRef::Bucket(_) => Err("a box is brought below a prefix, which has no checksum".to_owned()),
        BoxRef::Oci(image) if image.digest().is_none() => {
            Ok(Box::new(Place::Registry(image, registry_logins())))
        }
        _ => Err("a box is brought under a tag, not under a digest".to_owned()),
    }
}

pub fn run(args: Args, context: &Context) -> Result<ExitStatus> {
    let (client, servers) = client(context, &args.client)?;
    let place = match args.to.map(|place| *place) {
        Some(place @ Place::Registry(..)) if args.sign.is_some() || args.no_release => {
            let hint = "leave `--sign` and `--no-release` out";
            return Err(
                CliError::usage(format!("{place} keeps no signatures, and shows what it has"), hint).into()
            );
        }
        Some(place @ Place::Bucket(..)) if args.no_release => {
            let hint = "leave `--no-release` out";
            return Err(CliError::usage(format!("{place} shows what it has"), hint).into());
        }
        Some(place) => place,
        None => Place::Repository(servers.or_default(None)?),
    };
    let (printer, release) = (&context.printer, !args.no_release);
    let key = args.sign.as_deref().map(|path| signing_key(path, can_ask(printer))).transpose()?;
    let key = key.as_ref();
    let shown = Shown::new(printer, &args.name);
    let (published, pushed) = match (args.file, args.version, args.provider) {
        (Some(file), Some(version), Some(provider)) => {
            let architecture = args.architecture.unwrap_or_else(|| host_architecture().to_owned());
            let to = Published { place, name: args.name, version, provider, architecture, release };
            let pushed = work(context, |cancel| push_file(&client, &file, &to, key, &shown, cancel))?;
            (to, pushed)
        }
        (_, version, provider) => {
            let (orchestrator, _) = operation::orchestrator(context)?;
            let exactly = version.map(|version| VersionReq::parse(&format!("= {version}"))).transpose();
            let exactly = exactly
                .map_err(|error| CliError::usage(error.to_string(), "give the version as it is listed"))?;
            let wanted = BoxRef::Named(args.name.clone());
            let resolve = |form| orchestrator.store().resolve(&wanted, exactly.as_ref(), form);
            let (form, stored) = match provider.as_deref() {
                Some(provider) => {
                    let form = form_of(provider).ok_or_else(|| {
                        let hint = "name `libvirt` for its disk, or `lxc` for its root file system";
                        CliError::usage(format!("no provider `{provider}` is known"), hint)
                    })?;
                    (form, resolve(form)?)
                }
                None => match (resolve(Form::Disk), resolve(Form::Rootfs)) {
                    (Ok(_), Ok(_)) => {
                        let hint = "push one with `--provider libvirt`, the other with `--provider lxc`";
                        let what = format!("the box `{}` holds a disk and a root file system", args.name);
                        return Err(CliError::usage(what, hint).into());
                    }
                    (Err(_), Ok(stored)) => (Form::Rootfs, stored),
                    (disk, _) => (Form::Disk, disk?),
                },
            };
            let own = stored.metadata.architecture.clone();
            let architecture = args.architecture.or(own).unwrap_or_else(|| host_architecture().to_owned());
            let usual = if form == Form::Rootfs { "lxc" } else { "libvirt" };
            let (version, provider) = (stored.version.clone(), provider.unwrap_or_else(|| usual.to_owned()));
            let to = Published { place, name: args.name, version, provider, architecture, release };
            let pushed = work(context, |cancel| {
                orchestrator.store().push(&client, (&stored, form), &to, key, &shown, cancel)
            })?;
            (to, pushed)
        }
    };
    shown.finish();
    let palette = printer.err_palette();
    printer.note(&format!(
        "{} {} {} is {} {}  {}",
        palette.tick(),
        palette.strong(&published.name),
        published.version,
        if published.release { "released at" } else { "at" },
        published.place,
        palette.faint(&format!("{} of {} sent", bytes(pushed.sent), bytes(pushed.size))),
    ));
    printer.json(&json!({
        "event": "box_pushed", "name": published.name, "version": published.version, "provider": published.provider,
        "architecture": published.architecture, "server": published.place.to_string(), "released": published.release,
        "signed": key.is_some(), "size": pushed.size, "chunks": pushed.chunks, "new_chunks": pushed.new_chunks, "sent": pushed.sent,
    }));
    Ok(ExitStatus::OK)
}
