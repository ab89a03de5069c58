//! System call filters (seccomp(2)), compiled once.

use std::collections::BTreeMap;

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, SeccompRule, TargetArch};

use super::JailError;
use super::calls::{self, Call};
use crate::worker::ThreadKind;

pub(super) struct Filters {
    process: BpfProgram,
    threads: [(ThreadKind, BpfProgram); 5],
}

impl Filters {
    pub(super) fn compile() -> Result<Self, JailError> {
        let deny = program(&calls::forbidden(), SeccompAction::Allow, SeccompAction::KillProcess)?;
        let allow = |kind| {
            Ok((kind, program(&calls::needed(kind), SeccompAction::KillProcess, SeccompAction::Allow)?))
        };
        Ok(Self {
            process: deny,
            threads: [
                allow(ThreadKind::Vcpu)?,
                allow(ThreadKind::Block)?,
                allow(ThreadKind::Net)?,
                allow(ThreadKind::Fs)?,
                allow(ThreadKind::Stream)?,
            ],
        })
    }

    /// Confines the calling thread, and so the process while it has no other.
    pub(super) fn confine_process(&self) -> Result<(), JailError> {
        seccompiler::apply_filter(&self.process).map_err(|error| JailError::Filter(error.to_string()))
    }

    /// Confines the calling thread.
    ///
    /// # Panics
    /// Where the kernel refuses what it took for the whole process: a thread must not go on unconfined.
    pub(super) fn confine_thread(&self, kind: ThreadKind) {
        let program = self.threads.iter().find(|(of, _)| *of == kind).map(|(_, program)| program);
        let applied = program.map(|program| seccompiler::apply_filter(program));
        assert!(matches!(applied, Some(Ok(()))), "a thread could not be confined: {applied:?}");
    }
}

fn program(calls: &[Call], otherwise: SeccompAction, then: SeccompAction) -> Result<BpfProgram, JailError> {
    let failed = |error: seccompiler::BackendError| JailError::Filter(error.to_string());
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    for call in calls {
        let (number, rule) = call.rule().map_err(failed)?;
        rules.entry(number).or_default().extend(rule);
    }
    let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(failed)?;
    SeccompFilter::new(rules, otherwise, then, arch).and_then(TryInto::try_into).map_err(failed)
}
