//! Which steps are due, and why.
//!
//! A `once` step is done when a step with the same digest has succeeded in this machine, wherever it stood and
//! whatever it was called then: steps that were only moved or renamed do not run again. Each record answers for
//! one step, so two equal steps both run. A step that was edited runs again; the steps after it do not, unless
//! they are `always`, since Posada cannot know which of them depend on it: `--provision-with` runs them.

use posada_provider_api::{Fault, FaultKind};

use crate::{Action, Digest, Ledger, RunWhen, Script, Step, StepError};

/// Which steps were asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// Those that are due.
    All,
    /// Those with one of these names, due or not. `shell` and `file` stand for all steps of that kind, where
    /// no step is called so.
    Named(Vec<String>),
}

/// Why a step runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunReason {
    /// It has not succeeded here yet.
    New,
    /// It has succeeded, but was edited since.
    Edited,
    /// It runs every time.
    Always,
    /// It was asked for by name.
    Asked,
    /// It failed the last time.
    Resumes,
}

/// Why a step does not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SkipReason {
    /// It has succeeded.
    Done,
    /// It only runs when asked for by name.
    Never,
    /// Others were asked for by name.
    NotAsked,
}

/// What is to become of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It runs.
    Run(RunReason),
    /// It does not.
    Skip(SkipReason),
}

/// A step and what is to become of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned<'a> {
    /// The step.
    pub step: &'a Step,
    /// What it is known by in the ledger.
    pub key: String,
    /// Whether it runs, and why.
    pub decision: Decision,
    /// The digest of its earlier self, which it replaces when it succeeds.
    pub supersedes: Option<Digest>,
}

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// No step has this name.
    #[error("no provisioning step is called `{name}`")]
    UnknownStep {
        /// What was asked for.
        name: String,
        /// The name that was meant, perhaps.
        near: Option<String>,
        /// The names there are.
        known: Vec<String>,
    },
    /// A step needs a file that cannot be read.
    #[error(transparent)]
    Step(#[from] StepError),
}

impl Fault for PlanError {
    fn kind(&self) -> FaultKind {
        match self {
            Self::UnknownStep { .. } => FaultKind::User,
            Self::Step(error) => error.kind(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::UnknownStep { near: Some(near), .. } => Some(format!("did you mean `{near}`?")),
            Self::UnknownStep { known, .. } if known.is_empty() => {
                Some("no step has a `name`; `shell` and `file` stand for all steps of their kind".to_owned())
            }
            Self::UnknownStep { known, .. } => Some(format!("there are: {}", known.join(", "))),
            Self::Step(error) => error.hint(),
        }
    }
}

/// Decides for every one of `steps`, in their order.
///
/// # Errors
/// [`PlanError::UnknownStep`], and [`PlanError::Step`] where a step that may run needs a file that cannot be
/// read: better told before the first step than in the middle.
pub fn plan<'a>(
    steps: &'a [Step],
    ledger: &Ledger,
    selection: &Selection,
) -> Result<Vec<Planned<'a>>, PlanError> {
    if let Selection::Named(names) = selection {
        for name in names {
            find(steps, name)?;
        }
    }
    let mut planned: Vec<Planned<'a>> = steps
        .iter()
        .enumerate()
        .map(|(at, step)| Planned {
            step,
            key: key(at, step),
            decision: standing(steps, step, selection),
            supersedes: None,
        })
        .collect();

    let mut free: Vec<_> = ledger.succeeded().iter().collect();
    let mut digests: Vec<Option<Digest>> = Vec::with_capacity(planned.len());
    for each in &planned {
        let may_run = matches!(each.decision, Decision::Run(_));
        digests.push(match (digest(each.step), may_run) {
            (Ok(digest), _) => Some(digest),
            (Err(error), true) => return Err(error.into()),
            (Err(_), false) => None,
        });
    }
    // Records answer for the steps they name first, then for those that were moved or renamed.
    let mut done = vec![false; planned.len()];
    for same_key in [true, false] {
        for (at, digest) in digests.iter().enumerate().filter(|(_, d)| d.is_some()) {
            let answers = |r: &&crate::ledger::Record| {
                Some(r.digest) == *digest && (!same_key || r.key == planned[at].key)
            };
            if let (false, Some(found)) = (done[at], free.iter().position(answers)) {
                free.remove(found);
                done[at] = true;
            }
        }
    }
    for (at, each) in planned.iter_mut().enumerate() {
        if !done[at] {
            each.supersedes = free.iter().rev().find(|r| r.key == each.key).map(|r| r.digest);
        }
        if each.decision != Decision::Run(RunReason::New) {
            continue;
        }
        each.decision = if done[at] {
            Decision::Skip(SkipReason::Done)
        } else if ledger.failed().is_some_and(|f| f.key == each.key) {
            Decision::Run(RunReason::Resumes)
        } else if each.supersedes.is_some() {
            Decision::Run(RunReason::Edited)
        } else {
            Decision::Run(RunReason::New)
        };
    }
    Ok(planned)
}

/// What can be said of a step without the ledger.
fn standing(steps: &[Step], step: &Step, selection: &Selection) -> Decision {
    match (selection, step.run) {
        (Selection::Named(names), _) => {
            if names.iter().any(|name| is_called(steps, step, name)) {
                Decision::Run(RunReason::Asked)
            } else {
                Decision::Skip(SkipReason::NotAsked)
            }
        }
        (Selection::All, RunWhen::Once) => Decision::Run(RunReason::New),
        (Selection::All, RunWhen::Always) => Decision::Run(RunReason::Always),
        (Selection::All, RunWhen::Never) => Decision::Skip(SkipReason::Never),
    }
}

fn is_called(steps: &[Step], step: &Step, name: &str) -> bool {
    let is_a_name = steps.iter().any(|s| s.name.as_deref() == Some(name));
    if is_a_name { step.name.as_deref() == Some(name) } else { step.kind() == name }
}

fn find(steps: &[Step], name: &str) -> Result<(), PlanError> {
    if steps.iter().any(|step| is_called(steps, step, name)) {
        return Ok(());
    }
    let known: Vec<String> = steps.iter().filter_map(|s| s.name.clone()).collect();
    let near = known
        .iter()
        .map(|k| (strsim::damerau_levenshtein(k, name), k))
        .filter(|(distance, k)| *distance <= 1 + k.chars().count() / 4)
        .min()
        .map(|(_, k)| k.clone());
    Err(PlanError::UnknownStep { name: name.to_owned(), near, known })
}

/// What a step is known by: its name, or its place in the list and its kind. No name looks like the latter.
fn key(at: usize, step: &Step) -> String {
    match &step.name {
        Some(name) => format!("name {name}"),
        None => format!("{} {}", step.kind(), at + 1),
    }
}

fn digest(step: &Step) -> Result<Digest, StepError> {
    Digest::of(&step.action).map_err(|source| StepError::Source {
        step: step.label(),
        place: step.place.clone(),
        path: match &step.action {
            Action::File(copy) => copy.source.clone(),
            Action::Shell(shell) => match &shell.script {
                Script::Path(path) => path.clone(),
                Script::Inline(_) => step.place.file.clone(),
            },
        },
        source,
    })
}
