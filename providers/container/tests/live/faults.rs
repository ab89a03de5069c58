//! Boxes and descriptions that cannot run: each its clear error, and nothing left behind.

use std::path::PathBuf;
use std::process::Command;

use libtest_mimic::Trial;
use posada_provider_api::{Fault, FaultKind, Layer, ProviderError};

use crate::rig::{Machine, debian, place};
use crate::trial;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("a_box_without_its_parts_says_which", parts),
        trial("a_login_user_that_is_not_there_is_told_with_those_who_are", user),
        trial("layers_lie_over_each_other", layers),
        trial("a_second_launch_waits_for_the_first_to_end", two),
    ]
}

async fn fails(machine: &Machine) -> ProviderError {
    let error = machine.start().await.err().expect("it must not start");
    assert!(!machine.dir.runtime().exists(), "a failed launch undoes what it made");
    error
}

/// A layer that takes something out of the box below it.
fn without(machine: &Machine, paths: &[&str]) -> PathBuf {
    let layer = machine.scratch(&format!("without-{}", paths.len()));
    for path in paths {
        let whiteout = layer.join(path);
        std::fs::create_dir_all(whiteout.parent().unwrap()).unwrap();
        let made = Command::new("mknod").arg(&whiteout).args(["c", "0", "0"]).status().unwrap();
        assert!(made.success());
    }
    layer
}

async fn parts() {
    let mut machine = Machine::new("web");
    let box_layer = machine.spec.layers[0].clone();
    let inits = ["usr/sbin/init", "usr/lib/systemd/systemd"];
    machine.spec.layers.push(Layer::Tree { path: without(&machine, &inits) });
    let error = fails(&machine).await;
    assert_eq!(error.kind(), FaultKind::Box);
    assert!(
        error.to_string().contains("no init") && error.hint().unwrap().contains("systemd-sysv"),
        "{error}"
    );

    machine.spec.layers = vec![box_layer, Layer::Tree { path: without(&machine, &["usr/sbin/sshd"]) }];
    let error = fails(&machine).await;
    assert_eq!(error.kind(), FaultKind::Box);
    assert!(error.to_string().contains("no SSH server"), "{error}");

    machine.spec.layers = vec![Layer::Tree { path: place().join("nowhere") }];
    let error = fails(&machine).await;
    assert_eq!(error.kind(), FaultKind::Box);
    assert!(error.to_string().contains("nowhere"), "{error}");

    machine.spec.layers.clear();
    assert_eq!(fails(&machine).await.kind(), FaultKind::Box);

    let empty = machine.scratch("empty");
    machine.spec.layers = vec![Layer::Tree { path: empty }];
    assert_eq!(fails(&machine).await.kind(), FaultKind::Box);
}

async fn user() {
    let mut machine = Machine::new("web");
    machine.spec.access.user = "vagrant".to_owned();
    let error = fails(&machine).await;
    assert_eq!(error.kind(), FaultKind::Box);
    assert!(error.to_string().contains("`vagrant`"), "{error}");
    assert!(error.hint().unwrap().contains("root, posada"), "{:?}", error.hint());
}

async fn layers() {
    let mut machine = Machine::new("web");
    let upper = machine.scratch("upper");
    std::fs::create_dir(upper.join("srv")).unwrap();
    std::fs::write(upper.join("srv/layered"), "second").unwrap();
    machine.spec.layers = vec![Layer::Tree { path: debian() }, Layer::Tree { path: upper.clone() }];
    let live = machine.start().await.unwrap();
    assert_eq!(
        live.out("cat /srv/layered; echo; stat -c %u /srv/layered; echo third > /srv/layered"),
        "second\n0"
    );
    live.keeper.kill().unwrap();
    live.end().await;
    assert_eq!(std::fs::read_to_string(upper.join("srv/layered")).unwrap(), "second");
    assert_eq!(std::fs::read_to_string(machine.dir.top().join("upper/srv/layered")).unwrap(), "third\n");
}

async fn two() {
    let machine = Machine::new("web");
    let first = machine.start().await.unwrap();
    first.boot();
    let (pid, second) = (first.init_pid, machine.start());
    let (end, second) = tokio::join!(
        async {
            first.keeper.kill().unwrap();
            let end = first.keeper.ended().await;
            drop(first);
            end
        },
        second
    );
    assert!(matches!(end, posada_container::Ended::Died(_)));
    let second = second.unwrap();
    assert_ne!(second.init_pid, pid);
    second.keeper.kill().unwrap();
    second.end().await;
}
