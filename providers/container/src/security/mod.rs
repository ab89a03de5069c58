//! What a container may not do beyond what its user namespace keeps it from.

mod capabilities;
mod filter;

use crate::failure::{During, Failure};

/// Confines this process and all that will come of it.
///
/// There is no `no_new_privs`: sudo is to work. The filter is loaded by right of the namespace's root instead.
///
/// # Errors
/// [`Failure`] where the kernel refuses.
pub fn confine() -> Result<(), Failure> {
    filter::load().during("load the system call filter")?;
    capabilities::bound().during("give up capabilities")
}

/// Takes a keyring of the machine's own: the caller's keys (kerberos, encrypted homes) stay outside.
pub fn leave_keyring() {
    const KEYCTL_JOIN_SESSION_KEYRING: libc::c_long = 1;
    // Kernels may be built without keys; then there are none to leave.
    // SAFETY: a null name asks for a new anonymous keyring.
    unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, std::ptr::null::<libc::c_char>()) };
}
