//! What goes wrong, and what is said and left then.

use std::time::{Duration, Instant};

use posada_provider_api::{MachineState, Network, ProviderError, Silent};

use super::reach::{banner, forward, taken_port};
use super::{Bench, Trial};

pub(super) async fn a_silent_port_is_told(bench: &dyn Bench) {
    let trial = Trial::running(bench).await;
    banner(&trial).await;
    let began = Instant::now();
    let error = trial.provider().connect(&trial.dir, 9, Duration::from_secs(2), &Silent).await.unwrap_err();
    assert!(began.elapsed() >= Duration::from_secs(2), "all the patience is used");
    let ProviderError::Machine { what, .. } = error else { panic!("{error:?}") };
    assert!(what.contains("port 9"), "{what}");
    trial.leave().await;
}

pub(super) async fn a_taken_port_is_told(bench: &dyn Bench) {
    let mut trial = Trial::new(bench);
    let (_held, port) = taken_port();
    trial.spec.networks = vec![Network::Forward(forward(port))];
    std::fs::write(trial.dir.spec(), serde_json::to_vec(&trial.spec).unwrap()).unwrap();
    trial.provider().create(&trial.dir, &trial.spec, &Silent).await.unwrap();
    let error = trial.provider().start(&trial.dir, &trial.spec, &Silent).await.unwrap_err();
    let ProviderError::PortTaken { address, holder, .. } = error else { panic!("{error:?}") };
    assert_eq!(address.port(), port);
    assert!(holder.contains(&std::process::id().to_string()), "names the holder: {holder}");
    assert_eq!(trial.provider().state(&trial.dir).await.unwrap(), MachineState::Stopped);
    trial.destroy().await;
}

pub(super) async fn what_needs_a_running_machine_says_so(bench: &dyn Bench) {
    let trial = Trial::new(bench);
    let (provider, dir) = (trial.provider(), &trial.dir);
    provider.create(dir, &trial.spec, &Silent).await.unwrap();
    let refusals = [
        provider.forwards(dir).await.err(),
        provider.ssh_endpoint(dir).await.err(),
        provider.console(dir).await.err(),
        provider.connect(dir, 22, Duration::from_secs(1), &Silent).await.err(),
    ];
    for refusal in refusals {
        assert!(matches!(refusal, Some(ProviderError::State { must: "running", .. })), "{refusal:?}");
    }
    trial.destroy().await;
}

pub(super) async fn a_killed_supervisor_takes_the_machine_along(bench: &dyn Bench) {
    let trial = Trial::new(bench);
    trial.up().await;
    banner(&trial).await;
    bench.kill_supervisor(&trial.dir);
    assert_eq!(trial.provider().state(&trial.dir).await.unwrap(), MachineState::Stopped);
    trial.up().await;
    banner(&trial).await;
    bench.kill_supervisor(&trial.dir);
    trial.destroy().await;
}

pub(super) async fn a_half_made_machine_is_completed_or_removed(bench: &dyn Bench) {
    let trial = Trial::new(bench);
    trial.provider().create(&trial.dir, &trial.spec, &Silent).await.unwrap();
    // A crash in the middle of a start leaves an intent and no machine.
    std::fs::write(trial.dir.spec(), serde_json::to_vec(&trial.spec).unwrap()).unwrap();
    trial.up().await;
    banner(&trial).await;
    trial.destroy().await;
}
