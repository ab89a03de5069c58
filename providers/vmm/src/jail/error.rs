//! Why a process cannot be confined.

use std::io;

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum JailError {
    /// Capabilities cannot be given up.
    #[error("capabilities cannot be given up: {0}")]
    Capabilities(String),
    /// Landlock refuses a rule.
    #[error("access to files cannot be restricted: {0}")]
    Files(String),
    /// A system call filter cannot be made or installed.
    #[error("system calls cannot be filtered: {0}")]
    Filter(String),
    /// A thread cannot be had.
    #[error("a thread cannot be started: {0}")]
    Thread(io::Error),
    /// The process is in a jail already.
    #[error("the process is confined already")]
    Twice,
}
