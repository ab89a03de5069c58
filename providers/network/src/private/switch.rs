//! What carries frames between a machine and its peers.

use std::collections::HashMap;
use std::io::IoSlice;
use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::SocketFlags;

use super::widen;
use crate::cable::{Cable, ETHERNET, LARGEST, Received};

/// Frames taken from one side before the others get their turn.
const BATCH: usize = 64;
/// Addresses remembered; a guest that makes up more of them only makes the switch forget.
const ADDRESSES: usize = 4096;
/// How long to leave waiting connections alone where the process has no descriptor left.
const OUT_OF_DESCRIPTORS: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

type Mac = [u8; 6];

/// A switch with a port for the machine and one for each of its peers.
#[derive(Debug)]
pub(super) struct Switch {
    machine: Cable,
    listener: OwnedFd,
    /// Ends when its other end is closed.
    stopped: OwnedFd,
    peers: HashMap<u64, Cable>,
    next: u64,
    addresses: HashMap<Mac, u64>,
    buffer: Vec<u8>,
    /// No descriptor was left for the last connection.
    short: bool,
}

/// What poll(2) has said about one port.
enum Ready {
    Machine,
    Peer(u64),
    Listener,
}

impl Switch {
    pub(super) fn new(machine: OwnedFd, listener: OwnedFd, peers: Vec<OwnedFd>, stopped: OwnedFd) -> Self {
        let mut switch = Self {
            machine: Cable::new(machine),
            listener,
            stopped,
            peers: HashMap::new(),
            next: 0,
            addresses: HashMap::new(),
            buffer: vec![0; LARGEST],
            short: false,
        };
        peers.into_iter().for_each(|peer| switch.add(peer));
        switch
    }

    /// Works until it is stopped or the machine's cable ends.
    pub(super) fn run(mut self) {
        while let Ok(Some(ready)) = self.wait() {
            for (port, can_read) in ready {
                let goes_on = match port {
                    Ready::Listener => {
                        self.accept();
                        true
                    }
                    Ready::Machine => {
                        self.machine.flush();
                        !can_read || self.carry_out()
                    }
                    Ready::Peer(id) => {
                        self.carry_in(id, can_read);
                        true
                    }
                };
                if !goes_on {
                    return;
                }
            }
        }
    }

    /// Waits for something to do; `None` where it is to stop.
    fn wait(&mut self) -> Result<Option<Vec<(Ready, bool)>>, Errno> {
        let interest =
            |cable: &Cable| if cable.is_full() { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
        let ids: Vec<u64> = self.peers.keys().copied().collect();
        let mut fds = vec![
            PollFd::new(&self.stopped, PollFlags::IN),
            PollFd::new(&self.machine, interest(&self.machine)),
            PollFd::new(&self.listener, if self.short { PollFlags::empty() } else { PollFlags::IN }),
        ];
        fds.extend(ids.iter().map(|id| PollFd::new(&self.peers[id], interest(&self.peers[id]))));
        let count = match poll(&mut fds, self.short.then_some(&OUT_OF_DESCRIPTORS)) {
            Err(Errno::INTR) => return Ok(Some(Vec::new())),
            result => result?,
        };
        let happened: Vec<PollFlags> = fds.iter().map(PollFd::revents).collect();
        if count == 0 {
            self.short = false;
        }
        if !happened[0].is_empty() {
            return Ok(None);
        }
        let ports = [Ready::Machine, Ready::Listener]
            .into_iter()
            .chain(ids.into_iter().map(Ready::Peer))
            .zip(&happened[1..]);
        let ready = ports.filter(|(_, flags)| !flags.is_empty());
        // Anything but room to write is found out by reading: frames, the end, an error.
        Ok(Some(ready.map(|(port, flags)| (port, *flags != PollFlags::OUT)).collect()))
    }

    fn add(&mut self, peer: OwnedFd) {
        self.next += 1;
        self.peers.insert(self.next, Cable::new(peer));
    }

    fn accept(&mut self) {
        loop {
            match rustix::net::accept_with(&self.listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
                Ok(peer) => {
                    // With less room it is only slower.
                    let _ = widen(&peer);
                    self.add(peer);
                }
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                Err(Errno::AGAIN) => return,
                Err(_) => {
                    self.short = true;
                    return;
                }
            }
        }
    }

    /// Returns whether the machine's cable is still there.
    fn carry_out(&mut self) -> bool {
        for _ in 0..BATCH {
            let length = match self.machine.receive(&mut self.buffer) {
                // The end of a socket pair; a tap has no empty frames.
                Received::Frame(0) | Received::Ended => return false,
                Received::Nothing => return true,
                Received::Frame(length) => length,
            };
            let Some((to, _)) = addresses(&self.buffer[..length]) else { continue };
            let frame = [IoSlice::new(&self.buffer[..length])];
            let known = self.addresses.get(&to).and_then(|id| self.peers.get_mut(id));
            if let Some(peer) = known {
                peer.send(&frame);
            } else {
                self.peers.values_mut().for_each(|peer| peer.send(&frame));
            }
        }
        true
    }

    fn carry_in(&mut self, id: u64, can_read: bool) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        peer.flush();
        if !can_read {
            return;
        }
        for _ in 0..BATCH {
            let length = match peer.receive(&mut self.buffer) {
                Received::Nothing => return,
                Received::Frame(0) | Received::Ended => {
                    self.peers.remove(&id);
                    self.addresses.retain(|_, at| *at != id);
                    self.short = false;
                    return;
                }
                Received::Frame(length) => length,
            };
            let Some((_, from)) = addresses(&self.buffer[..length]) else { continue };
            if self.addresses.get(&from) != Some(&id) && is_unicast(from) {
                if self.addresses.len() >= ADDRESSES {
                    self.addresses.clear();
                }
                self.addresses.insert(from, id);
            }
            self.machine.send(&[IoSlice::new(&self.buffer[..length])]);
        }
    }
}

/// Where a frame goes, and where it comes from.
fn addresses(frame: &[u8]) -> Option<(Mac, Mac)> {
    let header = frame.get(..ETHERNET)?;
    Some((header[..6].try_into().ok()?, header[6..12].try_into().ok()?))
}

fn is_unicast(mac: Mac) -> bool {
    mac[0] & 1 == 0
}
