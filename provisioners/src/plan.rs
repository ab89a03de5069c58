//! Which steps are due, and why.
//!
//! A `once` step is done when a step with the same digest has succeeded in this machine, wherever it stood and
//! whatever it was called then: steps that were only moved or renamed do not run again. Each record answers for
//! one step, so two equal steps both run. A step that was edited runs again; the steps after it do not, unless
//! they are `always`, since Posada cannot know which of them depend on it: `--provision-with` runs them.

use posada_provider_api::{Fault, FaultKind};

use crate::ledger::Record;
use crate::{Digest, Ledger, RunWhen, Step, StepError};

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
    /// The record of its earlier self, edited since or not, which it replaces when it succeeds.
    pub supersedes: Option<Record>,
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
            let answers = |r: &&Record| Some(r.digest) == *digest && (!same_key || r.key == planned[at].key);
            if let (false, Some(found)) = (done[at], free.iter().position(answers)) {
                planned[at].supersedes = Some(free.remove(found).clone());
                done[at] = true;
            }
        }
    }
    for (at, each) in planned.iter_mut().enumerate() {
        if !done[at] {
            each.supersedes = earlier_self(&free, each, at).map(|found| free.remove(found).clone());
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

/// The record that a step, edited since, has left: that of its name, or of its place. A step without a name may
/// also have moved since it was recorded; then the nearest record of its kind that answers for no step is taken
/// for it. That may be one of a step that was taken out: put back, it then runs again, which is better than to
/// skip a step whose traces another has overwritten.
fn earlier_self(free: &[&Record], each: &Planned<'_>, at: usize) -> Option<usize> {
    let same = free.iter().rposition(|r| r.key == each.key);
    if same.is_some() || each.step.name.is_some() {
        return same;
    }
    let distance = |r: &Record| {
        let place: usize = r.key.strip_prefix(each.step.kind())?.trim().parse().ok()?;
        Some(place.abs_diff(at + 1))
    };
    free.iter().enumerate().filter_map(|(index, r)| Some((distance(r)?, index))).min().map(|(_, index)| index)
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
    Digest::of(&step.action).map_err(|source| StepError::unreadable(step, source))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{Action, FileCopy, Script, Shell, StepDone};
    use Decision::{Run, Skip};
    use RunReason::{Always, Asked, Edited, New, Resumes};
    use SkipReason::{Done, Never, NotAsked};

    fn shell(text: &str) -> Step {
        let script = Script::Inline(text.to_owned());
        let shell = Shell { script, args: Vec::new(), env: Default::default(), privileged: false };
        let (run, sensitive, place) = (RunWhen::Once, false, Default::default());
        Step { name: None, run, sensitive, action: Action::Shell(shell), place }
    }

    fn named(name: &str, text: &str) -> Step {
        Step { name: Some(name.to_owned()), ..shell(text) }
    }

    struct Machine {
        ledger: Ledger,
        _dir: tempfile::TempDir,
    }

    impl Machine {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            Self { ledger: Ledger::load(dir.path().join("provision.json")).unwrap(), _dir: dir }
        }

        fn decisions(&self, steps: &[Step]) -> Vec<Decision> {
            self.ask(steps, &Selection::All)
        }

        fn ask(&self, steps: &[Step], selection: &Selection) -> Vec<Decision> {
            plan(steps, &self.ledger, selection).unwrap().into_iter().map(|p| p.decision).collect()
        }

        /// Runs what is due; the step whose script is `fail` fails.
        fn up(&mut self, steps: &[Step]) -> Vec<Decision> {
            let planned = plan(steps, &self.ledger, &Selection::All).unwrap();
            for each in planned.iter().filter(|p| matches!(p.decision, Run(_))) {
                let failing = matches!(&each.step.action,
                    Action::Shell(Shell { script: Script::Inline(text), .. }) if text == "fail");
                if failing {
                    self.ledger.record_failure(each).unwrap();
                    break;
                }
                let digest = Digest::of(&each.step.action).unwrap();
                self.ledger.record(each, &StepDone { digest, took: Duration::ZERO }).unwrap();
            }
            planned.into_iter().map(|p| p.decision).collect()
        }
    }

    #[test]
    fn once_is_once_always_is_always_and_never_is_never() {
        let always = Step { run: RunWhen::Always, ..shell("always") };
        let never = Step { run: RunWhen::Never, ..named("reset", "never") };
        let steps = [shell("a"), always, never];
        let mut machine = Machine::new();
        assert_eq!(machine.up(&steps), [Run(New), Run(Always), Skip(Never)]);
        assert_eq!(machine.up(&steps), [Skip(Done), Run(Always), Skip(Never)]);
    }

    #[test]
    fn an_edited_step_runs_again_and_those_after_it_do_not() {
        let mut machine = Machine::new();
        machine.up(&[shell("a"), shell("b")]);
        let edited = [shell("a2"), shell("b")];
        assert_eq!(machine.up(&edited), [Run(Edited), Skip(Done)]);
        assert_eq!(machine.decisions(&edited), [Skip(Done), Skip(Done)]);
        assert_eq!(machine.decisions(&[shell("a"), shell("b")]), [Run(Edited), Skip(Done)], "edited back");
    }

    #[test]
    fn steps_that_moved_or_were_renamed_do_not_run_again() {
        let mut machine = Machine::new();
        machine.up(&[shell("a"), named("b", "b"), shell("c")]);
        assert_eq!(machine.decisions(&[shell("c"), shell("a"), named("b", "b")]), [Skip(Done); 3]);
        assert_eq!(machine.decisions(&[named("first", "a"), shell("b"), shell("c")]), [Skip(Done); 3]);
        let inserted = [shell("new"), shell("a"), named("b", "b"), shell("c")];
        assert_eq!(machine.up(&inserted), [Run(New), Skip(Done), Skip(Done), Skip(Done)]);
        assert_eq!(machine.decisions(&[shell("c")]), [Skip(Done)]);
        assert_eq!(machine.decisions(&inserted), [Skip(Done); 4], "what was taken out is still done");
    }

    #[test]
    fn a_step_that_moved_and_was_edited_then_does_not_leave_its_old_self_behind() {
        let mut machine = Machine::new();
        machine.up(&[shell("a")]);
        machine.up(&[shell("new"), shell("a")]);
        assert_eq!(machine.up(&[shell("new"), shell("a2")]), [Skip(Done), Run(Edited)]);
        assert_eq!(machine.decisions(&[shell("new"), shell("a")]), [Skip(Done), Run(Edited)]);
    }

    #[test]
    fn a_step_that_moved_and_runs_again_is_recorded_once() {
        let mut machine = Machine::new();
        machine.up(&[shell("a"), shell("b")]);
        let moved = [Step { run: RunWhen::Always, ..shell("b") }, shell("a")];
        machine.up(&moved);
        assert_eq!(machine.ledger.succeeded().len(), 2);
        assert_eq!(machine.decisions(&[shell("b"), shell("a"), shell("b")])[2], Run(New));
    }

    #[test]
    fn equal_steps_both_run() {
        let mut machine = Machine::new();
        machine.up(&[shell("a")]);
        let twice = [shell("a"), shell("a")];
        assert_eq!(machine.up(&twice), [Skip(Done), Run(New)]);
        assert_eq!(machine.decisions(&twice), [Skip(Done), Skip(Done)]);
    }

    #[test]
    fn it_resumes_at_the_step_that_failed() {
        let mut machine = Machine::new();
        assert_eq!(machine.up(&[shell("a"), shell("fail"), shell("c")]), [Run(New); 3]);
        assert_eq!(
            machine.decisions(&[shell("a"), shell("fail"), shell("c")]),
            [Skip(Done), Run(Resumes), Run(New)]
        );
        let mended = [shell("a"), shell("b"), shell("c")];
        assert_eq!(machine.up(&mended), [Skip(Done), Run(Resumes), Run(New)]);
        assert_eq!(machine.decisions(&mended), [Skip(Done); 3]);
        assert!(machine.ledger.failed().is_none());
    }

    #[test]
    fn steps_are_asked_for_by_name_or_kind() {
        let mut machine = Machine::new();
        let steps = [shell("a"), named("web", "b"), Step { run: RunWhen::Never, ..named("reset", "c") }];
        machine.up(&steps);
        let ask = |names: &[&str]| {
            machine.ask(&steps, &Selection::Named(names.iter().map(|n| (*n).to_owned()).collect()))
        };
        assert_eq!(ask(&["web"]), [Skip(NotAsked), Run(Asked), Skip(NotAsked)]);
        assert_eq!(ask(&["reset", "web"]), [Skip(NotAsked), Run(Asked), Run(Asked)]);
        assert_eq!(ask(&["shell"]), [Run(Asked); 3]);
    }

    #[test]
    fn a_name_that_is_none_gets_the_one_that_was_meant() {
        let machine = Machine::new();
        let steps = [named("nginx", "a"), named("postgres", "b")];
        let ask =
            |name: &str| plan(&steps, &machine.ledger, &Selection::Named(vec![name.to_owned()])).unwrap_err();
        assert_eq!(ask("ngnix").hint().unwrap(), "did you mean `nginx`?");
        assert_eq!(ask("redis").hint().unwrap(), "there are: nginx, postgres");
        assert_eq!(ask("file").to_string(), "no provisioning step is called `file`");
    }

    #[test]
    fn a_missing_source_is_told_before_anything_runs_but_only_where_it_may_run() {
        let machine = Machine::new();
        let gone = Action::File(FileCopy { source: "/nowhere/at/all".into(), destination: "/x".to_owned() });
        let steps = [shell("a"), Step { action: gone.clone(), ..shell("") }];
        let error = plan(&steps, &machine.ledger, &Selection::All).unwrap_err();
        assert!(error.to_string().contains("`/nowhere/at/all`"), "{error}");
        let resting = [Step { action: gone, run: RunWhen::Never, ..shell("") }];
        assert_eq!(machine.decisions(&resting), [Skip(Never)]);
    }
}
