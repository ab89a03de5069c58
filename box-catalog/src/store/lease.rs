//! Keeping a box's disk image in place.

use std::fs::File;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use crate::BoxError;

/// As long as one of its clones lives, or the process that holds them, the image of a box is not taken away. One that was
/// not [taken](Lease::take) holds nothing.
#[derive(Debug, Clone, Default)]
pub struct Lease(Option<Arc<File>>);

// It is no part of what a box is.
impl PartialEq for Lease {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}
impl Eq for Lease {}

impl Lease {
    /// Keeps the image in the directory of a box where it is; `None` where the box is gone.
    pub fn take(home: &Path) -> Result<Option<Self>, BoxError> {
        let file = match File::open(home) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(|error| BoxError::io("open", home, error))?,
        };
        file.lock_shared().map_err(|error| BoxError::io("lock", home, error))?;
        Ok(Some(Self(Some(Arc::new(file)))))
    }

    /// For who takes the image away: a lease that nobody else has one beside, until it is dropped; `None` where somebody
    /// has. In between, another may have taken the image away.
    pub fn alone(self, home: &Path) -> Result<Option<Self>, BoxError> {
        let Some(file) = &self.0 else { return Ok(None) };
        match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(self)),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(errno) => Err(BoxError::io("lock", home, errno.into())),
        }
    }
}
