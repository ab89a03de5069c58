//! The `file` step: a file or directory of the host, copied into the machine.

use crate::digest::Digest;
use crate::transport::{upload_dir, upload_file};
use crate::{FileCopy, Step, StepError, StepFailure, Transport};

/// Copies, and tells the digest of what was there to be copied.
pub(crate) fn run(step: &Step, copy: &FileCopy, transport: &mut dyn Transport) -> Result<Digest, StepError> {
    let unreadable = |source| StepError::new(step, StepFailure::Source { path: copy.source.clone(), source });
    if copy.destination.is_empty() || copy.destination.contains('\0') {
        let what = "its destination is empty or holds a NUL".to_owned();
        return Err(StepError::new(step, StepFailure::Invalid(what)));
    }
    let meta = fs_err::metadata(&copy.source).map_err(unreadable)?;
    let digest = Digest::of(&step.action).map_err(unreadable)?;
    let done = if meta.is_dir() {
        upload_dir(transport, &copy.source, &copy.destination)
    } else {
        upload_file(transport, &copy.source, &copy.destination)
    };
    done.map_err(|e| step.transport_error(e))?;
    Ok(digest)
}
