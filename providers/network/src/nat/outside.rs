//! What every protocol needs of the loop that drives it.

use std::time::Instant;

use super::dns::Resolver;
use super::epoll::Epoll;
use super::link::Link;

/// The world outside of a protocol.
pub(super) struct Outside<'a> {
    pub(super) link: &'a mut Link,
    pub(super) epoll: &'a Epoll,
    pub(super) resolver: &'a Resolver,
    pub(super) now: Instant,
}
