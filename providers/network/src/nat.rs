//! User-mode NAT: the machine's way to the world without any right on the host.
//!
//! The machine's end of a cable (a tap, or a socket that carries frames) is served here as if a router stood at its
//! other end. What the machine sends becomes ordinary sockets of the process that runs the NAT; nothing is left on
//! the host when that ends. Addresses are those of
//! [`management`](posada_provider_api::network::management).
//!
//! ```text
//!  guest ── frames ── engine ─┬─ arp, dhcp ──────── answered here
//!                             ├─ dns ────────────── names of ours, else the host's name servers
//!                             ├─ icmp ───────────── the gateway answers; the world through ping sockets
//!                             ├─ udp ────────────── a connected socket for each pair of ends
//!                             └─ tcp ── connection ─ a socket each; a handshake is completed when that connects
//! ```
//! TCP is spoken by a small state machine of our own rather than by smoltcp's sockets: those are looked through one
//! by one for every packet, cannot hold a SYN back until the host has been reached, and keep a slot for minutes after
//! a close. smoltcp's checked views take the guest's frames apart.

mod address;
mod checksum;
mod dhcp;
mod dns;
mod ends;
mod engine;
mod epoll;
mod icmp;
mod link;
mod outside;
mod reassembly;
mod ring;
mod tcp;
mod udp;
mod wire;

use std::collections::BTreeMap;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::thread::{self, JoinHandle};

use async_trait::async_trait;
use posada_provider_api::Protocol;
use posada_provider_api::network::management::MTU;
use tokio::sync::{mpsc, oneshot, watch};

use crate::forward::Dial;
use engine::{Command, Engine};

/// The smallest packet every host takes (RFC 791, section 3.1).
const SMALLEST_MTU: u16 = 576;

/// What a machine's network is to be like.
#[derive(Debug, Clone)]
pub struct NatConfig {
    /// MAC address of the machine's interface; only this one is given the address.
    pub guest_mac: [u8; 6],
    /// Host name that DHCP tells; empty tells none.
    pub hostname: String,
    /// Largest IP packet on the cable, bytes; at least 576.
    pub mtu: u16,
    /// The file that lists the host's name servers, `/etc/resolv.conf` as a rule. Read again when it changes.
    pub resolv_conf: PathBuf,
    /// Names answered besides `host.posada.internal`.
    pub names: BTreeMap<String, Ipv4Addr>,
    /// How much at a time.
    pub limits: Limits,
}

impl NatConfig {
    /// The usual network for a machine with this interface.
    #[must_use]
    pub fn new(guest_mac: [u8; 6], hostname: impl Into<String>, resolv_conf: impl Into<PathBuf>) -> Self {
        Self {
            guest_mac,
            hostname: hostname.into(),
            mtu: MTU,
            resolv_conf: resolv_conf.into(),
            names: BTreeMap::new(),
            limits: Limits::default(),
        }
    }
}

/// Bounds of one machine's traffic. Each connection and association takes a descriptor of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// TCP connections at a time; further ones are refused. So are those that find no descriptor.
    pub tcp: usize,
    /// UDP associations at a time; a further one takes the place of the one that has been silent longest.
    pub udp: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { tcp: 4096, udp: 1024 }
    }
}

/// How much is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// TCP connections.
    pub tcp: usize,
    /// UDP associations.
    pub udp: usize,
}

/// A running NAT. Dropping it ends it, with every connection through it.
#[derive(Debug)]
pub struct Nat {
    commands: Option<mpsc::UnboundedSender<Command>>,
    heard: watch::Receiver<u64>,
    thread: Option<JoinHandle<()>>,
}

impl Nat {
    /// Serves `link`, of which each read and write is one Ethernet frame: a tap without extra header, or a
    /// `SOCK_SEQPACKET` or `SOCK_DGRAM` Unix socket. Works in a thread of its own.
    ///
    /// # Errors
    /// Where `config.mtu` is too small, or the thread or its descriptors cannot be had.
    pub fn start(link: OwnedFd, config: NatConfig) -> io::Result<Self> {
        if config.mtu < SMALLEST_MTU {
            let what = format!("an MTU of {} is too small: at least {SMALLEST_MTU}", config.mtu);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
        let (commands, receiver) = mpsc::unbounded_channel();
        let (heard_in, heard) = watch::channel(0);
        let (started, start) = std::sync::mpsc::sync_channel(1);
        // The runtime lives and dies in the thread: the caller may be inside of another one.
        let thread = thread::Builder::new().name("posada-nat".to_owned()).spawn(move || {
            let made =
                tokio::runtime::Builder::new_current_thread().enable_all().build().and_then(|runtime| {
                    let engine = {
                        let _inside = runtime.enter();
                        Engine::new(link, config, receiver, heard_in)?
                    };
                    Ok((runtime, engine))
                });
            let told = match made {
                Ok((runtime, engine)) => {
                    let told = started.send(Ok(()));
                    runtime.block_on(engine.run());
                    told
                }
                Err(error) => started.send(Err(error)),
            };
            debug_assert!(told.is_ok(), "the caller waits for it");
        })?;
        if let Err(error) = start.recv().unwrap_or_else(|_| Err(io::ErrorKind::BrokenPipe.into())) {
            let _ = thread.join();
            return Err(error);
        }
        Ok(Self { commands: Some(commands), heard, thread: Some(thread) })
    }

    /// Connects to a port of the machine, which sees the gateway as its peer. What comes back is one end of a socket
    /// pair: a stream for TCP, `SOCK_SEQPACKET` for UDP.
    ///
    /// Waits as long as the machine's handshake takes; dropping the future gives up.
    ///
    /// # Errors
    /// `ConnectionRefused` where the machine refuses, `TimedOut` where it does not answer, `BrokenPipe` where the
    /// cable is gone, and what making the socket pair can give.
    pub async fn dial(&self, protocol: Protocol, port: u16) -> io::Result<OwnedFd> {
        self.ask(|reply| Command::Dial { protocol, port, reply }).await?
    }

    /// Follows what the machine begins on the network of its own accord: each time it asks for an address or a name or
    /// opens a connection, the value changes. Something in it has moved on then. Ends with the cable.
    #[must_use]
    pub fn heard(&self) -> watch::Receiver<u64> {
        self.heard.clone()
    }

    /// How much is under way now.
    ///
    /// # Errors
    /// `BrokenPipe` where the cable is gone.
    pub async fn counts(&self) -> io::Result<Counts> {
        self.ask(Command::Count).await
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> io::Result<T> {
        let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
        let (reply, answer) = oneshot::channel();
        let commands = self.commands.as_ref().ok_or_else(gone)?;
        commands.send(command(reply)).map_err(|_| gone())?;
        answer.await.map_err(|_| gone())
    }
}

/// A machine that has no other way in, a virtual one, is reached through its own NAT.
#[async_trait]
impl Dial for Nat {
    async fn tcp(&self, port: u16) -> io::Result<OwnedFd> {
        self.dial(Protocol::Tcp, port).await
    }

    async fn udp(&self, port: u16) -> io::Result<OwnedFd> {
        self.dial(Protocol::Udp, port).await
    }
}

impl Drop for Nat {
    fn drop(&mut self) {
        drop(self.commands.take());
        if let Some(thread) = self.thread.take() {
            // A panic in there has been told by the panic hook already.
            let _ = thread.join();
        }
    }
}
