//! Readiness of the many descriptors of the NAT, edge-triggered: each is registered once and never again.

use std::os::fd::{AsFd, OwnedFd};

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;

/// Whose descriptor it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Link,
    Tcp,
    Udp,
    Icmp,
}

/// What a descriptor is ready for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ready {
    pub(super) readable: bool,
    pub(super) writable: bool,
    /// There is an error to be read.
    pub(super) failed: bool,
    /// The peer has closed for good.
    pub(super) ended: bool,
}

/// A set of watched descriptors. One that is closed leaves it by itself.
#[derive(Debug)]
pub(super) struct Epoll(OwnedFd);

impl Epoll {
    pub(super) fn new() -> Result<Self, Errno> {
        epoll::create(CreateFlags::CLOEXEC).map(Self)
    }

    /// A descriptor that is readable when something in the set is ready.
    pub(super) fn descriptor(&self) -> Result<OwnedFd, Errno> {
        rustix::io::fcntl_dupfd_cloexec(&self.0, 0)
    }

    pub(super) fn add(&self, fd: impl AsFd, kind: Kind, id: u64) -> Result<(), Errno> {
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        epoll::add(&self.0, fd, EventData::new_u64((kind as u64) << 56 | id), flags)
    }

    /// Puts what is ready now into `events`, as far as there is room, without waiting.
    pub(super) fn ready(&self, events: &mut Vec<(Kind, u64, Ready)>) -> Result<(), Errno> {
        let mut raw = [Event { flags: EventFlags::empty(), data: EventData::new_u64(0) }; 256];
        let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        let count = match epoll::wait(&self.0, &mut raw, Some(&now)) {
            Ok(count) => count,
            Err(Errno::INTR) => 0,
            Err(error) => return Err(error),
        };
        events.clear();
        for event in &raw[..count] {
            let data = event.data.u64();
            let kind = match data >> 56 {
                0 => Kind::Link,
                1 => Kind::Tcp,
                2 => Kind::Udp,
                _ => Kind::Icmp,
            };
            let flags = event.flags;
            let has = |wanted| flags.intersects(wanted);
            let ready = Ready {
                readable: has(EventFlags::IN | EventFlags::RDHUP | EventFlags::HUP),
                writable: has(EventFlags::OUT),
                failed: has(EventFlags::ERR),
                ended: has(EventFlags::RDHUP | EventFlags::HUP),
            };
            events.push((kind, data << 8 >> 8, ready));
        }
        Ok(())
    }
}
