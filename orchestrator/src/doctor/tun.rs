//! Whether machines can reach the network.

use std::io::ErrorKind;

use super::{Check, Site, open_device};

const NAME: &str = "/dev/net/tun";

pub(super) fn check(site: &Site) -> Check {
    match open_device(&site.at(NAME)) {
        Ok(()) => Check::ok(NAME, "can be opened"),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Check::bad(
            NAME,
            "is not yours to open",
            "run `sudo chmod 666 /dev/net/tun`; most systems have it so, and it gives no right that a user lacks",
        ),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            Check::bad(NAME, "is not there", "run `sudo modprobe tun`")
        }
        Err(error) => Check::bad(
            NAME,
            format!("cannot be opened ({error})"),
            "inside a container, start that with the device `/dev/net/tun` and the right to use it",
        ),
    }
}
