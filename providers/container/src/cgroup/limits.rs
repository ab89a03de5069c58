//! What a machine may use, and which files of which version say so.

use posada_provider_api::MachineSpec;
use serde::{Deserialize, Serialize};

/// Most processes and threads of a machine that asks for no number: systemd's own bound for containers is
/// 16384; half of it leaves room on hosts with the default `pid_max` of 32768.
pub const DEFAULT_PIDS: u64 = 8192;

/// Microseconds over which CPU time is counted.
const CPU_PERIOD: u64 = 100_000;

/// A controller that limits come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Controller {
    /// CPU time.
    Cpu,
    /// Memory and swap.
    Memory,
    /// Processes and threads.
    Pids,
    /// Device nodes; version 1 only.
    Devices,
}

impl Controller {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Cpu, Self::Memory, Self::Pids, Self::Devices];

    /// Its name in the kernel.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Pids => "pids",
            Self::Devices => "devices",
        }
    }
}

/// What a machine may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// CPUs' worth of time.
    pub cpus: Option<u32>,
    /// Memory, bytes; there is no swap beyond it, as in a virtual machine of that size.
    pub memory: Option<u64>,
    /// Processes and threads.
    pub pids: u64,
    /// Whether that number was asked for, rather than our own.
    pub pids_asked: bool,
}

impl Limits {
    /// Those of a machine.
    #[must_use]
    pub fn of(spec: &MachineSpec) -> Self {
        Self {
            cpus: spec.cpus,
            memory: spec.memory,
            pids: spec.pids.unwrap_or(DEFAULT_PIDS),
            pids_asked: spec.pids.is_some(),
        }
    }

    /// The controllers these limits need, each with the name of the setting that asked for it, if one did.
    #[must_use]
    pub fn controllers(&self) -> Vec<(Controller, Option<&'static str>)> {
        let mut needed = vec![(Controller::Pids, self.pids_asked.then_some("`pids`"))];
        if self.cpus.is_some() {
            needed.push((Controller::Cpu, Some("`cpus`")));
        }
        if self.memory.is_some() {
            needed.push((Controller::Memory, Some("`memory`")));
        }
        needed
    }

    /// Files and contents of version 2 for `controller`; see cgroup-v2.rst of the kernel.
    #[must_use]
    pub fn version2(&self, controller: Controller) -> Vec<Setting> {
        match controller {
            Controller::Cpu => self
                .cpus
                .map(|cpus| {
                    Setting::must("cpu.max", format!("{} {CPU_PERIOD}", u64::from(cpus) * CPU_PERIOD))
                })
                .into_iter()
                .collect(),
            Controller::Memory => self
                .memory
                .map(|bytes| vec![Setting::must("memory.max", bytes), Setting::may("memory.swap.max", 0)])
                .unwrap_or_default(),
            Controller::Pids => vec![Setting::must("pids.max", self.pids)],
            // User namespaces cannot make device nodes, so there is nothing to forbid.
            Controller::Devices => Vec::new(),
        }
    }

    /// Files and contents of version 1 for `controller`; see the kernel's cgroup-v1 documents.
    #[must_use]
    pub fn version1(&self, controller: Controller) -> Vec<Setting> {
        match controller {
            Controller::Cpu => self
                .cpus
                .map(|cpus| {
                    vec![
                        Setting::must("cpu.cfs_period_us", CPU_PERIOD),
                        Setting::must("cpu.cfs_quota_us", u64::from(cpus) * CPU_PERIOD),
                    ]
                })
                .unwrap_or_default(),
            Controller::Memory => self
                .memory
                .map(|bytes| {
                    vec![
                        Setting::must("memory.limit_in_bytes", bytes),
                        // Memory and swap together; missing where the kernel does not account swap.
                        Setting::may("memory.memsw.limit_in_bytes", bytes),
                    ]
                })
                .unwrap_or_default(),
            Controller::Pids => vec![Setting::must("pids.max", self.pids)],
            Controller::Devices => DEVICES.iter().map(|rule| Setting::must("devices.allow", rule)).fold(
                vec![Setting::must("devices.deny", "a")],
                |mut all, rule| {
                    all.push(rule);
                    all
                },
            ),
        }
    }
}

/// What a container may do with device nodes: make any (user namespaces make none that work), use these.
const DEVICES: [&str; 13] = [
    "c *:* m",
    "b *:* m",
    "c 1:3 rwm",
    "c 1:5 rwm",
    "c 1:7 rwm",
    "c 1:8 rwm",
    "c 1:9 rwm",
    "c 5:0 rwm",
    "c 5:1 rwm",
    "c 5:2 rwm",
    "c 136:* rwm",
    "c 10:200 rwm",
    "c 10:229 rwm",
];

/// One file of a control group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// Its name.
    pub file: &'static str,
    /// What is written.
    pub value: String,
    /// Whether kernels without the file are well.
    pub optional: bool,
}

impl Setting {
    fn must(file: &'static str, value: impl ToString) -> Self {
        Self { file, value: value.to_string(), optional: false }
    }

    fn may(file: &'static str, value: impl ToString) -> Self {
        Self { optional: true, ..Self::must(file, value) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_say_the_same_in_both_versions() {
        let limits = Limits { cpus: Some(2), memory: Some(1 << 30), pids: 100, pids_asked: true };
        let text = |settings: Vec<Setting>| {
            settings.into_iter().map(|s| format!("{}={}", s.file, s.value)).collect::<Vec<_>>()
        };
        assert_eq!(text(limits.version2(Controller::Cpu)), ["cpu.max=200000 100000"]);
        assert_eq!(
            text(limits.version1(Controller::Cpu)),
            ["cpu.cfs_period_us=100000", "cpu.cfs_quota_us=200000"]
        );
        assert_eq!(text(limits.version2(Controller::Memory)), ["memory.max=1073741824", "memory.swap.max=0"]);
        assert_eq!(text(limits.version2(Controller::Pids)), text(limits.version1(Controller::Pids)));
    }

    #[test]
    fn without_limits_only_processes_are_counted() {
        let limits = Limits { cpus: None, memory: None, pids: 7, pids_asked: false };
        assert_eq!(limits.controllers().iter().map(|(c, _)| *c).collect::<Vec<_>>(), [Controller::Pids]);
        assert!(
            limits.version2(Controller::Memory).is_empty() && limits.version1(Controller::Cpu).is_empty()
        );
        assert_eq!(limits.version1(Controller::Devices)[0].file, "devices.deny");
    }
}
