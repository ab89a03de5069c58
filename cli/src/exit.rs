//! Exit statuses: what they mean is written down in `docs/exit-codes.md` and in `posada help`.

use posada_provider_api::FaultKind;

/// How the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExitStatus(u8);

impl ExitStatus {
    /// All that was asked for was done.
    pub const OK: Self = Self(0);
    /// The command line cannot be understood, or the request cannot be carried out as asked.
    pub const USAGE: Self = Self(2);

    /// The status of a failure of this kind.
    #[must_use]
    pub const fn of(kind: FaultKind) -> Self {
        Self(match kind {
            FaultKind::Internal => 1,
            FaultKind::User => 2,
            FaultKind::Config => 3,
            FaultKind::Environment => 4,
            FaultKind::Machine => 5,
            FaultKind::Provision => 6,
            FaultKind::Box => 7,
        })
    }

    /// The status a command in a machine ended with, passed on as it is.
    #[must_use]
    pub const fn remote(code: u8) -> Self {
        Self(code)
    }

    /// Ended by this signal, as shells count it: 130 for Ctrl-C.
    #[must_use]
    pub fn signal(number: i32) -> Self {
        Self(128_u8.saturating_add(u8::try_from(number).unwrap_or(0)))
    }

    /// The number the parent process sees.
    #[must_use]
    pub const fn code(self) -> u8 {
        self.0
    }
}

impl From<ExitStatus> for std::process::ExitCode {
    fn from(status: ExitStatus) -> Self {
        Self::from(status.0)
    }
}

/// The kind's name in JSON lines.
#[must_use]
pub const fn kind_name(kind: FaultKind) -> &'static str {
    match kind {
        FaultKind::Internal => "internal",
        FaultKind::User => "user",
        FaultKind::Config => "config",
        FaultKind::Environment => "environment",
        FaultKind::Machine => "machine",
        FaultKind::Provision => "provision",
        FaultKind::Box => "box",
    }
}

/// The table shown below the help of `posada`.
pub const HELP: &str = "\
Exit status:
    0  done
    1  a fault in Posada itself
    2  the command line or the request does not make sense
    3  a file is wrong: the Vmfile, a box recipe
    4  the host lacks or refuses something
    5  a machine did not do what it should
    6  a provisioning step failed
    7  a box is missing, damaged or no box
  130  interrupted by Ctrl-C (129 SIGHUP, 143 SIGTERM)

`posada ssh` ends with the status of the command that ran in the machine.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_status_of_its_own() {
        use FaultKind::{Box, Config, Environment, Internal, Machine, Provision, User};
        let codes: Vec<u8> = [Internal, User, Config, Environment, Machine, Provision, Box]
            .into_iter()
            .map(|kind| ExitStatus::of(kind).code())
            .collect();
        assert_eq!(codes, [1, 2, 3, 4, 5, 6, 7]);
    }

    #[test]
    fn signals_count_from_128() {
        assert_eq!(ExitStatus::signal(2).code(), 130);
        assert_eq!(ExitStatus::signal(15).code(), 143);
    }
}
