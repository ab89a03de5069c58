//! Makes a TAP interface in the *current* network namespace (`Documentation/networking/tuntap.rst` of Linux).

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

use posada_provider_api::{Fault, FaultKind};

const DEVICE: &str = "/dev/net/tun";

/// What went wrong when a TAP interface was made.
#[derive(Debug, thiserror::Error)]
pub enum TapError {
    /// The device node cannot be opened.
    #[error("cannot open {DEVICE}")]
    Device(#[source] io::Error),
    /// The name does not fit an interface: 1 to 15 bytes, no slash, no white space.
    #[error("`{0}` is not a name for a network interface")]
    Name(String),
    /// The kernel refused to make the interface.
    #[error("cannot make the network interface `{name}`")]
    Interface {
        /// Its name.
        name: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl Fault for TapError {
    fn kind(&self) -> FaultKind {
        match self {
            Self::Device(_) | Self::Interface { .. } => FaultKind::Environment,
            Self::Name(_) => FaultKind::Internal,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Device(source) if source.kind() == io::ErrorKind::PermissionDenied => {
                Some(format!("let users open it: `sudo chmod 0666 {DEVICE}` (a udev rule makes it last)"))
            }
            Self::Device(source) if source.kind() == io::ErrorKind::NotFound => {
                Some("load the module: `sudo modprobe tun`".to_owned())
            }
            Self::Device(_) | Self::Name(_) => None,
            Self::Interface { .. } => Some("`posada doctor` tells what this host permits".to_owned()),
        }
    }
}

/// Makes the TAP interface `name` with the MAC address `mac`. Each read and write of the returned descriptor,
/// which does not block, is one Ethernet frame; the interface ends when it is closed.
///
/// # Errors
/// [`TapError`], where the device node is closed to the caller or the caller lacks `CAP_NET_ADMIN` here.
pub fn create(name: &str, mac: [u8; 6]) -> Result<OwnedFd, TapError> {
    let mut request = request(name)?;
    let device = File::options()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(DEVICE)
        .map_err(TapError::Device)?;
    let refused = |source| TapError::Interface { name: name.to_owned(), source };

    request.ifr_ifru.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI) as libc::c_short;
    ioctl(&device, libc::TUNSETIFF, &mut request).map_err(refused)?;

    let mut data = [0; 14];
    for (to, from) in data.iter_mut().zip(mac) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_hwaddr = libc::sockaddr { sa_family: libc::ARPHRD_ETHER, sa_data: data };
    ioctl(&device, libc::SIOCSIFHWADDR, &mut request).map_err(refused)?;
    Ok(device.into())
}

fn request(name: &str) -> Result<libc::ifreq, TapError> {
    let fits = !name.is_empty()
        && name.len() < libc::IFNAMSIZ
        && !name.contains(['/', ':', '%', '\0'])
        && !name.contains(char::is_whitespace);
    if !fits {
        return Err(TapError::Name(name.to_owned()));
    }
    // SAFETY: `ifreq` is plain data for which all zeroes is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    Ok(request)
}

fn ioctl(device: &File, code: libc::Ioctl, request: &mut libc::ifreq) -> io::Result<()> {
    // SAFETY: the descriptor is open, and both codes in use take a pointer to one `ifreq`, which outlives the call.
    let result = unsafe { libc::ioctl(device.as_raw_fd(), code, std::ptr::from_mut(request)) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_no_interface_can_have_are_refused_before_the_kernel_is_asked() {
        for bad in ["", "a/b", "a b", "%d", "sixteen-letters-", "a\0b", "eth0:1"] {
            assert!(matches!(create(bad, [2; 6]), Err(TapError::Name(name)) if name == bad), "{bad:?}");
        }
    }
}
