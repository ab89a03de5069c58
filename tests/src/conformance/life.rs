//! The states of a machine and the ways between them.

use std::time::{Duration, Instant};

use posada_provider_api::{Availability, MachineState, ProviderError, Silent, SnapshotOp, StopRequest};

use super::reach::banner;
use super::{Bench, Trial};

pub(super) async fn availability_is_usable(bench: &dyn Bench) {
    assert_eq!(bench.provider().availability().await, Availability::Usable);
}

pub(super) async fn from_absent_to_running_and_back(bench: &dyn Bench) {
    let trial = Trial::new(bench);
    let (provider, dir) = (trial.provider(), &trial.dir);
    assert_eq!(provider.state(dir).await.unwrap(), MachineState::Absent);
    provider.create(dir, &trial.spec, &Silent).await.unwrap();
    assert_eq!(provider.state(dir).await.unwrap(), MachineState::Stopped);
    trial.up().await;
    assert_eq!(provider.state(dir).await.unwrap(), MachineState::Running);
    banner(&trial).await;
    let stopped = provider.stop(dir, trial.graceful()).await.unwrap();
    assert!(!stopped.forced, "a machine that has booted shuts down when it is asked to: {stopped:?}");
    assert_eq!(provider.state(dir).await.unwrap(), MachineState::Stopped);
    trial.destroy().await;
}

pub(super) async fn what_is_written_stays_over_a_restart(bench: &dyn Bench) {
    let trial = Trial::new(bench);
    trial.up().await;
    let first = banner(&trial).await;
    trial.provider().stop(&trial.dir, trial.graceful()).await.unwrap();
    trial.up().await;
    assert_eq!(banner(&trial).await, first);
    trial.destroy().await;
}

pub(super) async fn a_forced_stop_is_at_once(bench: &dyn Bench) {
    let trial = Trial::new(bench);
    trial.up().await;
    let began = Instant::now();
    let stopped = trial.provider().stop(&trial.dir, StopRequest::Forced).await.unwrap();
    assert!(stopped.forced);
    assert!(began.elapsed() < Duration::from_secs(20), "nothing was waited for: {:?}", began.elapsed());
    assert_eq!(trial.provider().state(&trial.dir).await.unwrap(), MachineState::Stopped);
    trial.destroy().await;
}

pub(super) async fn suspend_and_resume(bench: &dyn Bench) {
    let trial = Trial::new(bench);
    let (provider, dir) = (trial.provider(), &trial.dir);
    trial.up().await;
    banner(&trial).await;
    if provider.features().suspend {
        provider.suspend(dir).await.unwrap();
        assert_eq!(provider.state(dir).await.unwrap(), MachineState::Suspended);
        provider.suspend(dir).await.expect("what is so already is no error");
        provider.resume(dir).await.unwrap();
        assert_eq!(provider.state(dir).await.unwrap(), MachineState::Running);
        banner(&trial).await;
        provider.suspend(dir).await.unwrap();
        let stopped = provider.stop(dir, trial.graceful()).await.unwrap();
        assert!(!stopped.forced, "a suspended machine is woken to shut down");
    } else {
        assert!(matches!(provider.suspend(dir).await, Err(ProviderError::Unsupported { .. })));
        assert!(matches!(provider.resume(dir).await, Err(ProviderError::Unsupported { .. })));
    }
    trial.destroy().await;
}

pub(super) async fn snapshots_work_or_are_refused(bench: &dyn Bench) {
    let trial = Trial::running(bench).await;
    let saved = trial.provider().snapshot(&trial.dir, SnapshotOp::Save("one".into())).await;
    if trial.provider().features().snapshot {
        saved.unwrap();
        trial.provider().snapshot(&trial.dir, SnapshotOp::Restore("one".into())).await.unwrap();
        banner(&trial).await;
        trial.provider().snapshot(&trial.dir, SnapshotOp::Delete("one".into())).await.unwrap();
    } else {
        assert!(matches!(saved, Err(ProviderError::Unsupported { .. })), "{saved:?}");
    }
    trial.leave().await;
}

pub(super) async fn calls_repeat(bench: &dyn Bench) {
    let trial = Trial::new(bench);
    let (provider, dir) = (trial.provider(), &trial.dir);
    provider.destroy(dir).await.expect("destroying what is absent");
    provider.create(dir, &trial.spec, &Silent).await.unwrap();
    provider.create(dir, &trial.spec, &Silent).await.expect("creating twice");
    provider.stop(dir, trial.graceful()).await.expect("stopping what is stopped");
    trial.up().await;
    provider.stop(dir, trial.graceful()).await.unwrap();
    provider.stop(dir, trial.graceful()).await.expect("stopping twice");
    provider.destroy(dir).await.unwrap();
    provider.destroy(dir).await.expect("destroying twice");
}
