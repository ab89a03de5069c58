//! Where a machine's control groups will be, and making them.

use std::io;
use std::path::{Path, PathBuf};

use posada_provider_api::MachineId;
use rustix::fs::{Access, access};

use super::limits::Setting;
use super::{Controller, Host, Limits};
use crate::failure::{During, Failure};

/// Name of the group that posada's own processes step into where the kernel wants the delegated one empty.
pub const SUPERVISORS: &str = "posada.supervisors";

/// The directory below each hierarchy's root that holds root's machines.
const PARENT: &str = "posada";

/// Control groups of one machine that are not made yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The version 2 group.
    pub version2: PathBuf,
    /// Version 1 groups, by what they limit.
    pub version1: Vec<(Controller, PathBuf)>,
    /// Where the supervisor would step aside to.
    pub supervisors: Option<PathBuf>,
    controllers: Vec<Controller>,
    limits: Limits,
    warnings: Vec<String>,
}

impl Plan {
    /// The plan for a machine on this host.
    ///
    /// # Errors
    /// [`Failure::Host`] where no group can be made.
    pub fn new(host: &Host, id: &MachineId, limits: Limits, privileged: bool) -> Result<Self, Failure> {
        let Some(mount) = &host.version2 else {
            return Err(Failure::host(
                "no version 2 control groups are mounted",
                "run `sudo mount -t cgroup2 none /sys/fs/cgroup/unified`, or boot with `systemd.unified_cgroup_hierarchy=1`",
            ));
        };
        let mut plan = if privileged {
            Self::empty(mount.join(PARENT).join(id.as_str()), limits)
        } else {
            let own = delegated(host)?;
            let mut plan = Self::empty(own.join(format!("{PARENT}-{id}")), limits);
            plan.supervisors = Some(own.join(SUPERVISORS));
            plan
        };
        let offered = if privileged { Some(mount.as_path()) } else { plan.parent() };
        let offered = offered.map(read_controllers).unwrap_or_default();
        for (controller, what) in limits.controllers() {
            if offered.iter().any(|name| name == controller.name()) {
                plan.controllers.push(controller);
            } else if let (true, Some(mount)) = (privileged, host.version1.get(&controller)) {
                plan.version1.push((controller, mount.join(PARENT).join(id.as_str())));
            } else if let Some(setting) = what {
                plan.warnings.push(not_limited(setting, controller, privileged));
            }
        }
        if let (true, Some(mount)) = (privileged, host.version1.get(&Controller::Devices)) {
            plan.version1.push((Controller::Devices, mount.join(PARENT).join(id.as_str())));
        }
        Ok(plan)
    }

    fn empty(version2: PathBuf, limits: Limits) -> Self {
        Self {
            version2,
            version1: Vec::new(),
            supervisors: None,
            controllers: Vec::new(),
            limits,
            warnings: Vec::new(),
        }
    }

    fn parent(&self) -> Option<&Path> {
        self.version2.parent()
    }

    /// Makes the groups and sets the limits; returns what could not be limited.
    ///
    /// # Errors
    /// [`Failure`] where a group cannot be made or a limit is refused.
    pub fn make(&self) -> Result<Vec<String>, Failure> {
        let mut warnings = self.warnings.clone();
        make_group(&self.version2)?;
        for controller in &self.controllers {
            match self.enable(*controller) {
                Ok(()) => apply(&self.version2, self.limits.version2(*controller))?,
                Err(error) => warnings.push(format!(
                    "the {} controller cannot be switched on in {} ({error}): its limit is not enforced",
                    controller.name(),
                    self.parent().unwrap_or(&self.version2).display()
                )),
            }
        }
        for (controller, group) in &self.version1 {
            make_group(group)?;
            apply(group, self.limits.version1(*controller))?;
        }
        Ok(warnings)
    }

    /// Switches a version 2 controller on from the top of what is ours down to the machine's parent.
    fn enable(&self, controller: Controller) -> io::Result<()> {
        let word = format!("+{}", controller.name());
        let Some(parent) = self.parent() else { return Ok(()) };
        if let Some(supervisors) = &self.supervisors {
            return match switch(parent, &word) {
                // A group with processes of its own cannot hand out controllers.
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                    step_aside(supervisors)?;
                    switch(parent, &word)
                }
                result => result,
            };
        }
        if let Some(root) = parent.parent() {
            switch(root, &word)?;
        }
        switch(parent, &word)
    }

    /// Moves process `pid` into the version 1 groups.
    ///
    /// # Errors
    /// [`Failure`] where the kernel refuses.
    pub fn enter_version1(&self, pid: rustix::process::Pid) -> Result<(), Failure> {
        for (_, group) in &self.version1 {
            let procs = group.join("cgroup.procs");
            fs_err::write(&procs, pid.as_raw_nonzero().to_string())
                .during("put the machine into its control group")?;
        }
        Ok(())
    }
}

fn not_limited(setting: &str, controller: Controller, privileged: bool) -> String {
    let why = if privileged {
        "the kernel offers no such controller"
    } else {
        "that controller is not delegated to this user"
    };
    format!("{setting} is not enforced: {why} ({})", controller.name())
}

/// The own group, where its owner may make groups in it and move processes between them.
fn delegated(host: &Host) -> Result<PathBuf, Failure> {
    let own = host.own.clone().unwrap_or_default();
    // A supervisor that stepped aside still makes its machines where it came from.
    let group = match own.file_name() {
        Some(name) if name == SUPERVISORS => own.parent().unwrap_or(&own).to_owned(),
        _ => own,
    };
    let writable = |path: &Path| access(path, Access::WRITE_OK).is_ok();
    if writable(&group) && writable(&group.join("cgroup.procs")) {
        return Ok(group);
    }
    Err(Failure::host(
        format!("the control group {} is not delegated to this user, and an init needs one", group.display()),
        "log in through systemd (`loginctl enable-linger` keeps a user manager), start posada with `systemd-run --user --scope -p Delegate=yes`, or run it as root",
    ))
}

fn read_controllers(group: &Path) -> Vec<String> {
    fs_err::read_to_string(group.join("cgroup.controllers"))
        .map(|text| text.split_whitespace().map(str::to_owned).collect())
        .unwrap_or_default()
}

fn switch(group: &Path, word: &str) -> io::Result<()> {
    let file = group.join("cgroup.subtree_control");
    if fs_err::read_to_string(&file)?.split_whitespace().any(|name| name == &word[1..]) {
        return Ok(());
    }
    std::fs::write(file, word)
}

/// Moves this process and its parent, the supervisor, out of the delegated group.
fn step_aside(supervisors: &Path) -> io::Result<()> {
    if let Err(error) = fs_err::create_dir(supervisors)
        && error.kind() != io::ErrorKind::AlreadyExists
    {
        return Err(error);
    }
    let procs = supervisors.join("cgroup.procs");
    for pid in [rustix::process::getppid(), Some(rustix::process::getpid())].into_iter().flatten() {
        fs_err::write(&procs, pid.as_raw_nonzero().to_string())?;
    }
    Ok(())
}

/// Makes a group and its parent. Another machine's end may remove the empty parent in between.
fn make_group(group: &Path) -> Result<(), Failure> {
    const RACES: usize = 16;
    let mut result = Ok(());
    for _ in 0..RACES {
        result = fs_err::create_dir_all(group);
        match &result {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            _ => break,
        }
    }
    result.during("make a control group")
}

fn apply(group: &Path, settings: Vec<Setting>) -> Result<(), Failure> {
    for setting in settings {
        let path = group.join(setting.file);
        match std::fs::write(&path, &setting.value) {
            Err(error) if setting.optional && error.kind() == io::ErrorKind::NotFound => {}
            result => result.during(format_args!("write {} to {}", setting.value, path.display()))?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;

    use posada_provider_api::MachineName;

    use super::*;

    fn id() -> MachineId {
        MachineId::from_parts(&MachineName::new("web").unwrap(), 1)
    }

    const LIMITS: Limits = Limits { cpus: Some(1), memory: Some(1 << 28), pids: 10, pids_asked: true };

    #[test]
    fn controllers_are_taken_from_whichever_version_has_them() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("cgroup.controllers"), "hugetlb memory\n").unwrap();
        let host = Host {
            version2: Some(dir.path().to_owned()),
            own: None,
            version1: BTreeMap::from([(Controller::Pids, PathBuf::from("/v1/pids"))]),
        };
        let plan = Plan::new(&host, &id(), LIMITS, true).unwrap();
        assert_eq!(plan.version2, dir.path().join("posada/web-00000001"));
        assert_eq!(plan.controllers, [Controller::Memory]);
        assert_eq!(plan.version1, [(Controller::Pids, PathBuf::from("/v1/pids/posada/web-00000001"))]);
        assert_eq!(plan.warnings, ["`cpus` is not enforced: the kernel offers no such controller (cpu)"]);
    }

    #[test]
    fn without_version_2_there_is_no_machine() {
        let host = Host { version2: None, own: None, version1: BTreeMap::new() };
        let error = Plan::new(&host, &id(), LIMITS, true).unwrap_err();
        assert!(matches!(error, Failure::Host { .. }), "{error}");
    }

    #[test]
    fn an_ordinary_users_group_must_be_there_and_writable() {
        let dir = tempfile::tempdir().unwrap();
        let own = dir.path().join(SUPERVISORS);
        fs::create_dir(&own).unwrap();
        let host = Host { version2: Some("/".into()), own: Some(own), version1: BTreeMap::new() };
        assert!(matches!(Plan::new(&host, &id(), LIMITS, false), Err(Failure::Host { .. })));
        fs::write(dir.path().join("cgroup.procs"), "").unwrap();
        let plan = Plan::new(&host, &id(), LIMITS, false).unwrap();
        assert_eq!(plan.version2, dir.path().join("posada-web-00000001"));
        assert_eq!(plan.warnings.len(), 3, "{:?}", plan.warnings);
    }
}
