//! Virtual disk images of other hypervisors: what each format says, read and written.
