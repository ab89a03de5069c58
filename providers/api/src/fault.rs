//! What every error of Posada can say of itself, so that the command line can choose an exit code and a hint
//! without knowing each error type.

/// Whose turn it is when something failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// The request cannot be carried out as asked (a machine that does not exist, a command out of place).
    User,
    /// A file the user wrote is wrong (Vmfile, box recipe).
    Config,
    /// The host lacks or refuses something (a tool, a right, disk space, a free port).
    Environment,
    /// A machine did not do what it should (no boot, no SSH, gone).
    Machine,
    /// A provisioning step failed.
    Provision,
    /// A box is missing, damaged or not a box.
    Box,
    /// A fault in Posada itself.
    Internal,
}

/// An error that knows its kind and what the user can do next.
pub trait Fault: std::error::Error {
    /// Whose turn it is.
    fn kind(&self) -> FaultKind;

    /// What to do next, as one or more short sentences; `None` where the message says it all.
    fn hint(&self) -> Option<String> {
        None
    }
}
