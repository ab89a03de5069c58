//! The guest's cable, as the gateway at its other end sees it.

use std::io::IoSlice;
use std::net::Ipv4Addr;
use std::ops::{Deref, DerefMut};
use std::os::fd::OwnedFd;

use posada_provider_api::network::management::GUEST;

use super::wire::{self, Fragment, IPV4};
use crate::cable::Cable;

/// A cable, and who is at its other end.
#[derive(Debug)]
pub(super) struct Link {
    cable: Cable,
    /// The guest's address, as seen last.
    pub(super) guest_mac: [u8; 6],
    mtu: usize,
    room: usize,
    next_id: u16,
}

impl Link {
    pub(super) fn new(fd: OwnedFd, guest_mac: [u8; 6], mtu: u16) -> Self {
        let cable = Cable::new(fd);
        let room = cable.room();
        Self { cable, guest_mac, mtu: usize::from(mtu), room, next_id: 0 }
    }

    /// The largest IP packet the cable carries, bytes.
    pub(super) fn mtu(&self) -> usize {
        self.mtu
    }

    /// How much the guest can send before it is read and nothing of it is lost, bytes.
    pub(super) fn room(&self) -> usize {
        self.room
    }

    /// Sends an IP packet to the guest, in fragments where it is larger than the cable carries.
    pub(super) fn send_ip(&mut self, source: Ipv4Addr, protocol: u8, payload: &[u8]) {
        self.send_ip_to(GUEST, source, protocol, payload);
    }

    /// Sends an IP packet addressed to `to`, which is the guest or everybody.
    pub(super) fn send_ip_to(&mut self, to: Ipv4Addr, source: Ipv4Addr, protocol: u8, payload: &[u8]) {
        let ethernet = wire::ethernet(self.guest_mac);
        self.next_id = self.next_id.wrapping_add(1);
        let most = self.mtu - IPV4;
        // All fragments but the last are multiples of eight bytes long.
        let size = if payload.len() <= most { payload.len().max(1) } else { most & !7 };
        let mut offset = 0;
        loop {
            let part = &payload[offset..payload.len().min(offset + size)];
            let more = offset + part.len() < payload.len();
            let fragment = Fragment { id: self.next_id, offset: offset as u16, more };
            let header = wire::ipv4(source, to, protocol, part.len() as u16, fragment);
            self.send(&[IoSlice::new(&ethernet), IoSlice::new(&header), IoSlice::new(part)]);
            if !more {
                return;
            }
            offset += part.len();
        }
    }
}

impl Deref for Link {
    type Target = Cable;

    fn deref(&self) -> &Cable {
        &self.cable
    }
}

impl DerefMut for Link {
    fn deref_mut(&mut self) -> &mut Cable {
        &mut self.cable
    }
}
