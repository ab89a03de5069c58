use std::path::{Path, PathBuf};

use posada_box_catalog::source::Wanted;
use posada_box_catalog::{BoxRef, FetchOptions, NewBox, StoredBox, Version, VersionReq};
use posada_fetch::{Algorithm, Checksum};

use super::progress::Shown;
use super::{BoxEvent, fetching_store, work};
use crate::commands::operation;
use crate::context::Context;
use crate::exit::ExitStatus;
use crate::failure::{CliError, Result};
use crate::servers::ClientArgs;

/// Add a box from a file, a URL, a catalog or a registry
///
/// A file is a tar archive of a root file system, for containers; a disk image (raw, qcow2, VMDK, VDI, VHD, VHDX, Parallels
/// HDD) or a machine (OVA, XVA), for virtual machines; or a Vagrant box. Archives and images may be compressed with
/// gzip, xz or zstd. A name may stand for both, a root file system and a disk image: each provider takes what it needs.
///
/// A name such as `team/web` comes from the catalog that POSADA_SERVER_URL names, or that was logged in to. A download that was
/// broken off goes on where it ended. `oci:registry.example.org/team/web:1.2` is an image of a container with an init in an
/// OCI registry.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The file, a URL, the name of a box in a catalog, or `oci:` and an image in a registry
    #[arg(value_name = "BOX")]
    source: PathBuf,

    /// What the box is to be called: `debian/12`; one of a catalog has a name
    #[arg(long, value_name = "NAME")]
    name: Option<String>,

    /// The version of a box that comes from a file or URL
    #[arg(long = "version", value_name = "VERSION", value_parser = version)]
    version: Option<Version>,

    /// Which versions of a catalog's box will do: `>= 1.2, < 2`; the newest of them is taken
    #[arg(long, value_name = "VERSIONS", value_parser = requirement, conflicts_with = "version")]
    box_version: Option<VersionReq>,

    /// For which provider the catalog's box is to be: `kvm`, `container`, or as Vagrant calls it
    #[arg(long, value_name = "PROVIDER")]
    provider: Option<String>,

    /// For which architecture the catalog's box is to be; without it, this host's
    #[arg(long, value_name = "ARCHITECTURE")]
    architecture: Option<String>,

    /// The checksum that the file has to have, be it downloaded or here
    #[arg(long, value_name = "CHECKSUM", requires = "checksum_type")]
    checksum: Option<String>,

    /// What kind of checksum it is: md5, sha1, sha256, sha384 or sha512
    #[arg(long, value_name = "TYPE", requires = "checksum")]
    checksum_type: Option<Algorithm>,

    /// The user one logs in as; without it, the one the box names, or its user 1000
    #[arg(long, value_name = "USER")]
    user: Option<String>,

    /// Take the place of other content of this name and version
    #[arg(long, short)]
    force: bool,

    /// Throw away what came of it earlier, and download all of it
    #[arg(long, short)]
    clean: bool,

    #[command(flatten)]
    client: ClientArgs,
}

impl Args {
    /// The checksum that is asked for.
    fn checksum(&self) -> Result<Option<Checksum>> {
        let checksum = self.checksum.as_deref().zip(self.checksum_type);
        let checksum = checksum.map(|(hex, kind)| Checksum::new(kind, hex)).transpose();
        Ok(checksum.map_err(|error| {
            CliError::usage(error.to_string(), "copy all of it from who publishes the box")
        })?)
    }
}

/// Takes a version.
pub fn version(text: &str) -> std::result::Result<Version, String> {
    Version::parse(text).map_err(|error| error.to_string())
}

fn requirement(text: &str) -> std::result::Result<VersionReq, String> {
    VersionReq::parse(text).map_err(|error| error.to_string())
}

pub fn run(args: Args, context: &Context) -> Result<ExitStatus> {
    let shown;
    let stored = match elsewhere(&args.source)? {
        None => {
            let name = args.name.clone().ok_or_else(|| nameless("file"))?;
            shown = Shown::new(&context.printer, &name);
            add_file(args, name, &shown, context)?
        }
        Some(reference) => {
            shown = Shown::new(&context.printer, args.name.clone().unwrap_or_else(|| reference.to_string()));
            fetch(args, &reference, &shown, context)?
        }
    };
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

/// What is meant, unless it is a file: one that is there is one, as with Vagrant.
fn elsewhere(source: &Path) -> Result<Option<BoxRef>> {
    if source.exists() {
        return Ok(None);
    }
    let text = source.to_string_lossy();
    match BoxRef::parse(&text) {
        Ok(BoxRef::File(_)) => Ok(None),
        Ok(reference) => Ok(Some(reference)),
        // Errors of files are told by who reads them.
        Err(_) if !text.contains(':') => Ok(None),
        Err(error) => {
            Err(CliError::usage(error.to_string(), "`posada help box add` shows what there is").into())
        }
    }
}

fn nameless(what: &str) -> CliError {
    CliError::usage(
        format!("a box from a {what} needs a name"),
        "give it one with `--name NAME`, such as `team/web`",
    )
}

fn add_file(args: Args, name: String, shown: &Shown<'_>, context: &Context) -> Result<StoredBox> {
    if args.box_version.is_some() || args.provider.is_some() || args.architecture.is_some() {
        return Err(CliError::usage(
            "`--box-version`, `--provider` and `--architecture` are for boxes that are fetched",
            "give a file's version with `--version`",
        )
        .into());
    }
    let checksum = args.checksum()?;
    let (orchestrator, _) = operation::orchestrator(context)?;
    let version = match args.version {
        Some(version) => version,
        None => version("0").map_err(|error| CliError::usage(error, "give one with `--version`"))?,
    };
    let new = NewBox { name, version, user: args.user, replace: args.force };
    let store = orchestrator.store();
    work(context, |cancel| match &checksum {
        Some(checksum) => store.add_checked(&args.source, checksum, &new, shown, cancel),
        None => store.add(&args.source, &new, shown, cancel),
    })
}

fn fetch(args: Args, reference: &BoxRef, shown: &Shown<'_>, context: &Context) -> Result<StoredBox> {
    let direct = matches!(reference, BoxRef::Url(url) if !url.file_name().ends_with(".json"));
    if direct && args.name.is_none() {
        return Err(nameless("URL").into());
    }
    if direct && args.box_version.is_some() {
        return Err(
            CliError::usage("a URL has no versions to choose from", "leave `--box-version` out").into()
        );
    }
    if args.checksum.is_some() && matches!(reference, BoxRef::Oci(_)) {
        return Err(CliError::usage(
            "what a registry has is held to its digest, not to `--checksum`",
            "name the digest in the reference: `oci:registry.example.org/team/web@sha256:…`",
        )
        .into());
    }
    if args.version.is_some() || args.user.is_some() {
        return Err(CliError::usage(
            "`--version` and `--user` are for boxes from files",
            "choose a version of a catalog's box with `--box-version`",
        )
        .into());
    }
    let checksum = args.checksum()?;
    let wanted = Wanted {
        requirement: args.box_version,
        provider: args.provider,
        architecture: args.architecture,
        form: None,
    };
    let options = FetchOptions { name: args.name, replace: args.force, checksum, clean: args.clean };
    let store = fetching_store(context, &args.client)?;
    work(context, |cancel| store.fetch(reference, &wanted, &options, shown, cancel))
}
