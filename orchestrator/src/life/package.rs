//! `package`: a box of what a machine holds.
//!
//! A container's trees are read as they lie. A disk cannot be cleaned from outside, so another machine is started over it, in
//! `packing/` of the machine's directory: it is cleaned over SSH, ended, and its disk is what is packed. The machine itself stays
//! as it is.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use posada_box_catalog::{BoxError, Digest, NewBox, Package, SEAL, StoredBox, Version, cleaning_script};
use posada_provider_api::{
    Content, DiskFormat, Layer, MachineDir, MachineSpec, MachineState, Observer, Seeding, StopRequest,
};
use posada_provisioners::{CleanError, clean, open_to_everybody};

use super::stop::{HaltOptions, gone};
use crate::error::{Error, OnMachine};
use crate::orchestrator::{Orchestrator, blocking};
use crate::project::Project;
use crate::state::{Entry, make_private_dir, read_json, write_json};

/// What becomes of a machine.
#[derive(Debug, Clone)]
pub struct PackageOptions {
    /// The box file.
    pub output: PathBuf,
    /// What it is called in the store, where it is to be there, too.
    pub name: Option<(String, Version)>,
    /// Whether files and versions that are there are replaced.
    pub replace: bool,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packaged {
    /// Length of the box file, bytes.
    pub size: u64,
    /// The box, where it is in the store, too.
    pub stored: Option<StoredBox>,
}

impl Orchestrator {
    /// Packs the project's machine called `name`, or its only one, into a box file. A machine that runs is halted first, and
    /// stays so.
    ///
    /// # Errors
    /// [`Error::NotCreated`], [`Error::Box`], [`Error::Provider`], [`Error::Ssh`], [`Error::Clean`].
    pub async fn package(
        &self,
        project: &Project,
        name: Option<&str>,
        options: &PackageOptions,
    ) -> Result<Packaged, Error> {
        let entry = self.one(project, name)?;
        let spec: MachineSpec = read_json(&entry.dir.spec())?.ok_or_else(|| gone(&entry))?;
        let package = Package {
            user: spec.access.user.clone(),
            architecture: self.architecture(&entry)?,
            output: options.output.clone(),
            replace: options.replace,
        };
        package.check()?;
        let _lock = self.lock(&entry).await?.ok_or_else(|| gone(&entry))?;
        self.end_packing(&entry).await?;
        if self.state(&entry).await? != MachineState::Stopped {
            self.stop(&entry, HaltOptions::default()).await?;
        }
        let failed = Error::provider;
        let content = self.provider(&entry).content(&entry.dir, &spec).await;
        let packed = match content.map_err(failed(&entry.record.name))? {
            Content::Disk(disk) if !disk.exists() => Err(gone(&entry)),
            Content::Disk(disk) => match self.cleaned(&entry, &spec, disk).await {
                Ok(cleaned) => self.pack(&entry, cleaned, package, options).await,
                Err(error) => Err(error),
            },
            trees @ Content::Trees(_) => self.pack(&entry, trees, package, options).await,
        };
        let ended = self.end_packing(&entry).await;
        packed.and_then(|packed| ended.map(|()| packed))
    }

    /// Ends and removes what a `package` has made that did not come to its end.
    pub(super) async fn end_packing(&self, entry: &Entry) -> Result<(), Error> {
        let dir = entry.dir.packing();
        if !dir.path().is_dir() {
            return Ok(());
        }
        self.provider(entry).destroy(&dir).await.map_err(Error::provider(&entry.record.name))?;
        blocking(move || {
            fs_err::remove_dir_all(dir.path()).map_err(Error::io("remove the machine that was cleaned"))
        })
        .await
    }

    /// A disk over the machine's own without what is the machine's alone.
    async fn cleaned(&self, entry: &Entry, spec: &MachineSpec, disk: PathBuf) -> Result<Content, Error> {
        let name = &entry.record.name;
        let (dir, spec) = (entry.dir.packing(), over(spec, disk));
        lay_out(&entry.dir, &dir, &spec)?;
        let packing = Entry { dir: dir.clone(), record: entry.record.clone() };
        let (provider, observer, failed) = (self.provider(entry), self.observer(name), Error::provider);
        let phase = self.phase(name, "starting a copy of it to clean");
        provider.create(&dir, &spec, &observer).await.map_err(failed(name))?;
        tokio::select! {
            started = provider.start(&dir, &spec, &observer) => started.map_err(failed(name))?,
            () = self.cancel.cancelled() => return Err(Error::Cancelled),
        }
        self.clean(&packing, &spec, &observer).await?;
        // Its file systems take no more writes, so that there is nothing it would have to be asked for.
        provider.stop(&dir, StopRequest::Forced).await.map_err(failed(name))?;
        phase.done("cleaned");
        provider.content(&dir, &spec).await.map_err(failed(name))
    }

    async fn clean(&self, packing: &Entry, spec: &MachineSpec, observer: &dyn Observer) -> Result<(), Error> {
        let mut parts = vec![cleaning_script()];
        parts.extend((spec.seeding() == Some(Seeding::InsecureKey)).then(open_to_everybody));
        parts.push(SEAL.to_owned());
        let mut ssh = self.log_in(packing, &spec.access, self.patience(packing)?, observer).await?;
        let name = packing.record.name.clone();
        blocking(move || {
            let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
            clean(&mut ssh, &parts).map_err(|error: CleanError| match error {
                error if error.is_interrupted() => Error::Cancelled,
                error => Error::Clean(OnMachine::new(&name)(error)),
            })
        })
        .await
    }

    async fn pack(
        &self,
        entry: &Entry,
        content: Content,
        package: Package,
        options: &PackageOptions,
    ) -> Result<Packaged, Error> {
        let subject = package.output.display().to_string();
        let new = options.name.clone().map(|(name, version)| NewBox {
            name,
            version,
            user: None,
            replace: options.replace,
        });
        self.with_store(&entry.record.name, subject, move |store, progress, cancel| {
            let size = store.package(&content, &package, progress, cancel)?;
            let add = |new: NewBox| {
                progress.phase("adding", None);
                store.add(&package.output, &new, progress, cancel)
            };
            Ok(Packaged { size, stored: new.map(add).transpose()? })
        })
        .await
    }

    /// The architecture of the machine's box, where it is known.
    fn architecture(&self, entry: &Entry) -> Result<Option<String>, BoxError> {
        let Some(digest) = Digest::parse(&entry.record.box_digest) else { return Ok(None) };
        Ok(self.store.by_digest(&digest)?.and_then(|stored| stored.metadata.architecture))
    }
}

/// A machine over the disk of one of `spec`, without all that connects that one.
fn over(spec: &MachineSpec, disk: PathBuf) -> MachineSpec {
    let mut spec = spec.clone();
    let seeding = spec.seeding().unwrap_or(Seeding::None);
    // Its kernel is looked for on the disk, where it may be newer than the box's.
    spec.layers.push(Layer::Disk { path: disk, format: DiskFormat::Qcow2, boot: None, seeding });
    spec.disk = None;
    spec.folders.clear();
    spec.networks.clear();
    spec.env.clear();
    spec
}

/// Makes the directory of the copy, which has the keys of the machine itself.
fn lay_out(of: &MachineDir, packing: &MachineDir, spec: &MachineSpec) -> Result<(), Error> {
    let doing = "make the directory of the copy";
    make_private_dir(packing.path()).map_err(Error::io(doing))?;
    make_private_dir(&packing.ssh()).map_err(Error::io(doing))?;
    for file in fs_err::read_dir(of.ssh()).map_err(Error::io(doing))? {
        let path = file.map_err(Error::io(doing))?.path();
        let copy = packing.ssh().join(path.file_name().unwrap_or_default());
        fs_err::copy(&path, &copy).map_err(Error::io(doing))?;
        fs_err::set_permissions(&copy, Permissions::from_mode(0o600)).map_err(Error::io(doing))?;
    }
    write_json(&packing.spec(), spec)
}
