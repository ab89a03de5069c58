//! Several machines at once, each after those it depends on.

use std::collections::BTreeMap;
use std::future::Future;

use posada_provider_api::MachineName;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::error::Error;
use crate::event::Event;
use crate::orchestrator::Orchestrator;

/// A machine and those it waits for. Names that are not among the nodes are not waited for.
pub(crate) struct Node<T> {
    pub name: MachineName,
    pub after: Vec<MachineName>,
    pub work: T,
}

/// Runs `run` for every node, all at once where they do not depend on each other (`parallel`), else one by one.
/// A node whose dependency fails is not run. Every failure comes back; the order of nodes must have no cycle.
pub(crate) async fn run<T, F, R>(
    of: &Orchestrator,
    nodes: Vec<Node<T>>,
    parallel: bool,
    run: F,
) -> Result<(), Error>
where
    T: Send + 'static,
    F: Fn(T) -> R + Clone + Send + 'static,
    R: Future<Output = Result<(), Error>> + Send + 'static,
{
    let outcomes: BTreeMap<MachineName, watch::Sender<Option<bool>>> =
        nodes.iter().map(|node| (node.name.clone(), watch::Sender::new(None))).collect();
    let one_by_one =
        std::sync::Arc::new(tokio::sync::Semaphore::new(if parallel { nodes.len().max(1) } else { 1 }));
    let mut tasks = JoinSet::new();
    for node in nodes {
        let outcome = outcomes[&node.name].clone();
        let needs: Vec<_> = node
            .after
            .iter()
            .filter_map(|name| outcomes.get(name).map(|outcome| (name.clone(), outcome.subscribe())))
            .collect();
        let (of, run, turns) = (of.clone(), run.clone(), one_by_one.clone());
        tasks.spawn(async move {
            let result = match dependencies(&node.name, needs).await {
                Ok(()) => {
                    let _turn = turns.acquire().await;
                    if of.cancel.is_cancelled() { Err(Error::Cancelled) } else { run(node.work).await }
                }
                Err(error) => Err(error),
            };
            if let Err(error) = &result
                && !matches!(error, Error::Cancelled)
            {
                of.tell(Event::Failed { machine: node.name, message: error.to_string() });
            }
            outcome.send_replace(Some(result.is_ok()));
            result
        });
    }
    let mut errors: Vec<Error> = tasks.join_all().await.into_iter().filter_map(Result::err).collect();
    // Several machines that were never touched are one interruption.
    let others = errors.iter().any(|error| !matches!(error, Error::Cancelled));
    let mut cancelled = 0;
    errors.retain(|error| {
        let this = matches!(error, Error::Cancelled);
        cancelled += usize::from(this);
        !this || (!others && cancelled == 1)
    });
    // What others failed for comes before those that failed for them.
    errors.sort_by_key(|error| matches!(error, Error::Dependency { .. }));
    Error::all(errors)
}

async fn dependencies(
    machine: &MachineName,
    needs: Vec<(MachineName, watch::Receiver<Option<bool>>)>,
) -> Result<(), Error> {
    for (on, mut outcome) in needs {
        let up = outcome.wait_for(Option::is_some).await.is_ok_and(|up| *up == Some(true));
        if !up {
            return Err(Error::Dependency { machine: machine.clone(), on });
        }
    }
    Ok(())
}
