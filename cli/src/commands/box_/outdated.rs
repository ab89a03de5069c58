use std::collections::BTreeMap;

use posada_box_catalog::source::Wanted;
use posada_box_catalog::{BoxError, BoxRef, Cancel, Form, Store, Version, VersionReq};
use posada_fetch::FetchError;
use serde_json::json;

use super::progress::Shown;
use super::{fetching_store, work};
use crate::commands::common::ParamArgs;
use crate::commands::operation;
use crate::context::Context;
use crate::exit::ExitStatus;
use crate::failure::Result;
use crate::printer::Printer;
use crate::servers::ClientArgs;

/// Tell which boxes there are newer versions of
///
/// The boxes are those of the project's machines, or with `--global` all that the store has by name.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// All boxes of the store
    #[arg(long)]
    global: bool,

    #[command(flatten)]
    params: ParamArgs,

    /// Ask the catalog, as is done anyway: no answer of it is kept
    #[arg(long, short)]
    force: bool,

    #[command(flatten)]
    client: ClientArgs,
}

/// A box that there may be a newer version of.
pub struct Candidate {
    pub name: String,
    pub form: Form,
    /// What its versions have to fulfil.
    pub requirement: Option<VersionReq>,
    /// The newest that is in the store.
    pub version: Version,
}

pub fn run(args: Args, context: &Context) -> Result<ExitStatus> {
    let store = fetching_store(context, &args.client)?;
    let candidates = if args.global { all(&store)? } else { of_project(&store, context, &args.params)? };
    let (printer, palette) = (&context.printer, context.printer.palette());
    let found = work(context, |cancel| {
        let newest = |candidate: &Candidate| {
            candidate.newest(&store, &Wanted::newest(candidate.form), printer, cancel)
        };
        candidates.iter().map(newest).collect::<std::result::Result<Vec<_>, _>>()
    })?;
    for (candidate, newest) in candidates.iter().zip(found) {
        let (name, have) = (palette.strong(&candidate.name), &candidate.version);
        let outdated = newest.as_ref().is_some_and(|newest| newest > have);
        printer.line(&match &newest {
            None => format!("{name} {have} ({}) is in no catalog that was asked", candidate.form),
            Some(newest) if outdated => format!("{name} {have} ({}): there is {newest}", candidate.form),
            Some(_) => format!("{name} {have} ({}) is the newest", candidate.form),
        });
        printer.json(&json!({"event": "box_outdated", "name": candidate.name, "form": candidate.form,
            "version": have, "newest": newest, "outdated": outdated}));
    }
    if candidates.is_empty() {
        printer.note("there are no boxes by name in the store to ask for");
    }
    Ok(ExitStatus::OK)
}

impl Candidate {
    /// The newest version that the catalog has of it; `None` where it has none.
    pub fn newest(
        &self,
        store: &Store,
        wanted: &Wanted,
        printer: &Printer,
        cancel: &Cancel,
    ) -> std::result::Result<Option<Version>, BoxError> {
        let wanted = Wanted { requirement: self.requirement.clone(), ..wanted.clone() };
        let shown = Shown::new(printer, &self.name);
        match store.offered(&BoxRef::Named(self.name.clone()), &wanted, &shown, cancel) {
            Ok(offer) => Ok(Some(offer.version)),
            Err(BoxError::NotOffered { .. } | BoxError::Fetch(FetchError::NotFound { .. })) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// All boxes by name, each form of them once.
pub fn all(store: &Store) -> Result<Vec<Candidate>> {
    let mut newest: BTreeMap<(String, Form), Version> = BTreeMap::new();
    // Newest first.
    for stored in store.list()? {
        for form in &stored.metadata.provides {
            newest.entry((stored.name.clone(), *form)).or_insert_with(|| stored.version.clone());
        }
    }
    let candidate = |((name, form), version)| Candidate { name, form, requirement: None, version };
    Ok(newest.into_iter().map(candidate).collect())
}

/// Those that the machines of the project name.
pub fn of_project(store: &Store, context: &Context, params: &ParamArgs) -> Result<Vec<Candidate>> {
    let (_, vmfile) = operation::load(context, params)?;
    let mut candidates = all(store)?;
    candidates.retain_mut(|candidate| {
        let named = |reference: &BoxRef| matches!(reference, BoxRef::Named(name) if *name == candidate.name);
        let machine = vmfile.machines.iter().find(|machine| named(&machine.box_ref));
        candidate.requirement = machine.and_then(|machine| machine.box_version.clone());
        machine.is_some()
    });
    Ok(candidates)
}
