//! What a PC has always had and stock kernels still look for.

mod serial;

pub use serial::{SERIAL_PORTS, Serial};
