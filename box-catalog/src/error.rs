//! What can go wrong with boxes.

use std::io;
use std::path::PathBuf;

use posada_fetch::{Checksum, FetchError};
use posada_image::ImageError;
use posada_provider_api::{Fault, FaultKind};
use posada_userns::IdMapError;

use crate::{Form, Refusal, Version, VersionReq};

/// What can go wrong with boxes.
#[derive(Debug, thiserror::Error)]
pub enum BoxError {
    /// No box of that name.
    #[error("the box `{name}` is not in the store")]
    Missing {
        /// The name asked for.
        name: String,
        /// Names in the store, or that can be built, that are near to it.
        near: Vec<String>,
        /// Whether `box build` knows it.
        buildable: bool,
    },
    /// The name is there, but not in such a version.
    #[error("no version of `{name}` in the store is `{wanted}`")]
    MissingVersion {
        /// The box.
        name: String,
        /// What was asked for.
        wanted: VersionReq,
        /// What there is, newest first.
        have: Vec<Version>,
    },
    /// The name is there, but not in the form that is needed.
    #[error("the box `{name}` holds no {needed}")]
    MissingForm {
        /// The box.
        name: String,
        /// What a machine was to be made from.
        needed: Form,
        /// Whether `box build` can make it.
        buildable: bool,
    },
    /// A virtual machine was to be made from a root file system, and there is no kernel for it.
    #[error("the box `{0}` has no kernel for a virtual machine")]
    NoKernel(String),
    /// A virtual machine was to be made from a root file system that would let nobody in.
    #[error("a virtual machine of the box `{0}` would let nobody in: cloud-init is not installed in it")]
    NoWayIn(String),
    /// The name is there, but not this version.
    #[error("version {version} of `{name}` is not in the store")]
    NoVersion {
        /// The box.
        name: String,
        /// The version.
        version: Version,
        /// What there is, newest first.
        have: Vec<Version>,
    },
    /// A box is named, and nothing says which catalog is to be asked.
    #[error("no catalog is known that the box `{0}` could come from")]
    NoCatalog(String),
    /// A source has the box, but not as it is wanted.
    #[error("there is no `{name}` with {what}")]
    NotOffered {
        /// The box.
        name: String,
        /// What was asked for: ``provider `libvirt` ``.
        what: String,
        /// What there is instead.
        have: Vec<String>,
    },
    /// A file that a Vmfile names has not been added yet.
    #[error("the box file `{0}` is not in the store")]
    FileNotAdded(PathBuf),
    /// A box is named by the path of a file that is not there.
    #[error("there is no file `{path}`", path = .0.display())]
    FileMissing(PathBuf),
    /// A name that is none.
    #[error("`{0}` is no name for a box")]
    Name(String),
    /// The archive is no box.
    #[error("`{what}` is no box: {refusal}")]
    NotABox {
        /// File or recipe.
        what: String,
        /// Why.
        refusal: Refusal,
    },
    /// That version is there with other content.
    #[error("version {version} of `{name}` is in the store with other content")]
    VersionTaken {
        /// The box.
        name: String,
        /// The version.
        version: Version,
    },
    /// Machines are made from it.
    #[error("the box `{name}` {version} is used by {}", machines.join(", "))]
    InUse {
        /// The box.
        name: String,
        /// The version.
        version: Version,
        /// Whose it is.
        machines: Vec<String>,
    },
    /// Several versions are there, and none was chosen.
    #[error("the box `{name}` is in the store in {} versions", have.len())]
    Ambiguous {
        /// The box.
        name: String,
        /// What there is, newest first.
        have: Vec<Version>,
    },
    /// The disk is full.
    #[error("the disk with `{0}` is full")]
    DiskFull(PathBuf),
    /// A recipe that cannot be used.
    #[error("the recipe `{recipe}` cannot be used: {what}")]
    Recipe {
        /// File or name.
        recipe: String,
        /// What is wrong with it.
        what: String,
    },
    /// No such recipe.
    #[error("there is no recipe `{name}`")]
    NoRecipe {
        /// What was asked for.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
    /// A program that is needed is not there.
    #[error("`{tool}` is not installed")]
    ToolMissing {
        /// The program.
        tool: &'static str,
        /// Debian's package that has it.
        package: &'static str,
    },
    /// The build failed.
    #[error("building `{name}` failed: {what}{}", quoted(lines))]
    Build {
        /// The box.
        name: String,
        /// What ended it.
        what: String,
        /// The last lines it printed.
        lines: Vec<String>,
    },
    /// Chunks of a disk image cannot be kept, or it cannot be made from them.
    #[error("the disk image `{path}` cannot be kept in chunks, or made from them")]
    Chunks {
        /// The image.
        path: PathBuf,
        /// Why.
        source: posada_chunks::Error,
    },
    /// It was asked to end early.
    #[error("cancelled")]
    Cancelled,
    /// A file is there that would be written over.
    #[error("there is a file `{path}` already", path = .0.display())]
    FileThere(PathBuf),
    /// A disk image cannot be read or written.
    #[error("cannot export to `{path}`", path = path.display())]
    Image {
        /// The file.
        path: PathBuf,
        /// Why.
        source: ImageError,
    },
    /// The user has no id map.
    #[error(transparent)]
    IdMap(#[from] IdMapError),
    /// The store holds something it cannot read.
    #[error("the store's record `{path}` is damaged: {what}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The host refused something.
    #[error("cannot {what} `{path}`")]
    Io {
        /// What was being done: `read`.
        what: &'static str,
        /// To what.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A box is not signed as it has to be.
    #[error("the box `{name}` is not taken: {what}")]
    Signature {
        /// The box.
        name: String,
        /// What is wrong with its signature.
        what: String,
    },
    /// A file is not what it was said to be.
    #[error("`{}` is not what was asked for: it has {got}, not {wanted}", .path.display())]
    Mismatch {
        /// The file.
        path: PathBuf,
        /// What it was to have.
        wanted: Checksum,
        /// What it has.
        got: Checksum,
    },
    /// A file was written to while it was read.
    #[error("`{}` was changed while it was read", .0.display())]
    Changing(PathBuf),
    /// A key cannot be used.
    #[error("the key cannot be used: {0}")]
    Key(String),
    /// A transfer failed.
    #[error(transparent)]
    Fetch(FetchError),
    /// A repository does not do what it is asked.
    #[error("the repository `{server}` {what}")]
    Repository {
        /// Its URL.
        server: String,
        /// What it does instead: `refuses it: …`.
        what: String,
        /// What it says is to be done.
        hint: Option<String>,
        /// Whose fault it is.
        kind: FaultKind,
    },
    /// The worker process failed in a way that it could not tell.
    #[error("the process that handles the box's files failed: {what}")]
    Worker {
        /// What is known.
        what: String,
    },
}

impl BoxError {
    /// A failure of the chunks of the image at `path`.
    pub(crate) fn chunks(path: impl Into<PathBuf>, source: posada_chunks::Error) -> Self {
        use posada_chunks::Error;
        match source {
            Error::DiskFull(path) => Self::DiskFull(path),
            Error::Cancelled => Self::Cancelled,
            Error::Io { what, path, source } => Self::Io { what, path, source },
            source => Self::Chunks { path: path.into(), source },
        }
    }

    /// A failure to read or write the image at `path`.
    pub(crate) fn image(path: impl Into<PathBuf>, source: ImageError) -> Self {
        match source {
            ImageError::Cancelled => Self::Cancelled,
            source => Self::Image { path: path.into(), source },
        }
    }

    /// A failure to do `what` to `path`.
    pub(crate) fn io(what: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull(path.into()),
            _ => Self::Io { what, path: path.into(), source },
        }
    }
}

impl From<FetchError> for BoxError {
    fn from(error: FetchError) -> Self {
        match error {
            FetchError::Cancelled => Self::Cancelled,
            FetchError::DiskFull(path) => Self::DiskFull(path),
            error => Self::Fetch(error),
        }
    }
}

fn quoted(lines: &[String]) -> String {
    lines.iter().map(|line| format!("\n  {line}")).collect()
}

fn list<T: ToString>(items: &[T]) -> String {
    items.iter().map(|item| format!("`{}`", item.to_string())).collect::<Vec<_>>().join(", ")
}

impl Fault for BoxError {
    fn kind(&self) -> FaultKind {
        match self {
            Self::Image { source, .. } => source.kind(),
            Self::Fetch(source) => source.kind(),
            Self::Repository { kind, .. } => *kind,
            Self::Name(_)
            | Self::Key(_)
            | Self::FileThere(_)
            | Self::VersionTaken { .. }
            | Self::InUse { .. }
            | Self::Ambiguous { .. }
            | Self::NoRecipe { .. }
            | Self::NoCatalog(_)
            | Self::Cancelled => FaultKind::User,
            Self::Recipe { .. } => FaultKind::Config,
            Self::Missing { .. }
            | Self::MissingForm { .. }
            | Self::NoKernel(_)
            | Self::NoWayIn(_)
            | Self::MissingVersion { .. }
            | Self::NoVersion { .. }
            | Self::NotOffered { .. }
            | Self::FileNotAdded(_)
            | Self::FileMissing(_)
            | Self::NotABox { .. }
            | Self::Signature { .. }
            | Self::Mismatch { .. }
            | Self::Build { .. }
            | Self::Chunks { .. }
            | Self::Damaged { .. } => FaultKind::Box,
            Self::DiskFull(_)
            | Self::ToolMissing { .. }
            | Self::IdMap(_)
            | Self::Changing(_)
            | Self::Io { .. } => FaultKind::Environment,
            Self::Worker { .. } => FaultKind::Internal,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Missing { name, buildable: true, .. } => format!("build it with `posada box build {name}`"),
            Self::Missing { near, .. } if !near.is_empty() => {
                format!("did you mean {}? `posada box list` shows what there is", list(near))
            }
            Self::Missing { name, .. } => {
                format!("add it with `posada box add FILE --name {name}`; `posada box list` shows what there is")
            }
            Self::MissingForm { name, needed: Form::Disk, buildable: true } => {
                format!("build it with `posada box build {name} --disk`, or use `provider: container`")
            }
            Self::MissingForm { name, needed: Form::Rootfs, buildable: true } => {
                format!("build it with `posada box build {name}`, or use `provider: kvm`")
            }
            Self::MissingForm { needed, name, .. } => {
                let (provider, file) = match needed {
                    Form::Disk => ("container", "a disk image"),
                    Form::Rootfs => ("kvm", "an archive of a root file system"),
                };
                format!("use `provider: {provider}`, or add {file} beside it with `posada box add FILE --name {name}`")
            }
            Self::NoKernel(_) => {
                "say `kernel: BOX` in the Vmfile, with a box that has one such as `build:debian/12`, or use `provider: container`"
                    .to_owned()
            }
            Self::NoWayIn(_) => "install cloud-init in it, or use `provider: container`".to_owned(),
            Self::MissingVersion { have, .. } | Self::NoVersion { have, .. } => format!("there is {}", list(have)),
            Self::NotOffered { have, .. } if have.is_empty() => return None,
            Self::NotOffered { have, .. } => format!("there is {}", list(have)),
            Self::NoCatalog(_) => {
                "set POSADA_SERVER_URL to the catalog's URL, or log in to it with `posada box login URL`".to_owned()
            }
            Self::Ambiguous { have, .. } => {
                format!("name one of {} with `--version`, or all with `--all`", list(have))
            }
            Self::FileNotAdded(path) => format!("add it with `posada box add {}`", path.display()),
            Self::FileMissing(_) => {
                "correct the path, or name a box such as `debian/12` instead of a file".to_owned()
            }
            Self::Name(_) => {
                "use letters, digits, `.`, `_` and `-`, and at most one `/`, such as `debian/12`".to_owned()
            }
            Self::NotABox { refusal: Refusal::Truncated | Refusal::Corrupt(_), .. } => {
                "fetch or make the file again; nothing was stored".to_owned()
            }
            Self::NotABox { refusal: Refusal::Disk { hint, .. }, .. } => {
                let hint = hint.as_deref().unwrap_or("fetch or make the file again");
                format!("{hint}; nothing was stored")
            }
            Self::NotABox { refusal: Refusal::NoInit(_), .. } => {
                "take an image that is made to be started as a system, with systemd or another init in it; nothing was stored"
                    .to_owned()
            }
            Self::NotABox { refusal: Refusal::OtherProvider(provider), .. } if provider == "docker" => {
                "such a box only names an image: say `box: oci:REGISTRY/NAME:TAG`, with an image that has an init; nothing was stored"
                    .to_owned()
            }
            Self::NotABox { .. } => {
                "a box is a tar archive (plain, gz, xz or zst) or squashfs image of a Linux root file system with its init, a disk \
                 image, or a machine (OVA, XVA, Vagrant's boxes); nothing was stored"
                    .to_owned()
            }
            Self::VersionTaken { .. } => "give another version, or replace it with `--force`".to_owned(),
            Self::InUse { .. } => {
                "destroy these machines first; `--force` removes it all the same, and they will not start again".to_owned()
            }
            Self::DiskFull(_) => {
                "free some space, for instance with `posada box remove`; nothing was stored".to_owned()
            }
            Self::NoRecipe { known, .. } => format!("built in are {}; or give the path of a recipe file", list(known)),
            Self::ToolMissing { package, .. } => format!("install it with `apt-get install {package}`"),
            Self::FileThere(_) => "choose another file, or replace it with `--force`".to_owned(),
            Self::Signature { .. } => "ask who publishes it; `posada box trust list` shows whom you trust, and nothing was \
                 stored"
                .to_owned(),
            Self::Mismatch { .. } => {
                "nothing was stored; is it the whole file, and the checksum of this version?".to_owned()
            }
            Self::Changing(_) => "nothing was stored; add it once it is complete".to_owned(),
            Self::Key(_) => "`posada box keygen FILE` makes one; minisign's own are taken, too".to_owned(),
            Self::Image { source, .. } => return source.hint(),
            Self::IdMap(error) => return error.hint(),
            Self::Fetch(error) => return error.hint(),
            Self::Repository { hint, .. } => return hint.clone(),
            Self::Build { .. } => "the lines above are the last that mmdebstrap printed".to_owned(),
            Self::Chunks { .. } => {
                "`posada box fsck` finds all that is damaged, and says which boxes to add again".to_owned()
            }
            Self::Damaged { path, .. } => format!(
                "remove the directory `{}` and add the box again",
                path.parent().unwrap_or(path).display()
            ),
            Self::Recipe { .. } | Self::Cancelled | Self::Io { .. } | Self::Worker { .. } => return None,
        })
    }
}
