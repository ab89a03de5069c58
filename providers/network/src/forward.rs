//! Ports of the host that lead into a machine.
//!
//! [`Forwards::bind`] takes the ports and is the only check whether they are free: the kernel decides, nothing is
//! looked up first. [`Forwards::run`] then serves them, each connection through [`Dial`], which knows the way into
//! the machine.

mod error;
mod stream;
mod tcp;
mod udp;

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use async_trait::async_trait;
use posada_provider_api::{Forward, ForwardedPort, Protocol};
use tokio::task::JoinSet;

pub use error::{BindFailure, ForwardError, Reason};

/// How far above the asked port `auto_correct` looks before it takes any free one.
const NEARBY: u16 = 50;

/// The way into a machine.
#[async_trait]
pub trait Dial: Send + Sync {
    /// A TCP connection, or a stream socket that behaves like one, to `port` of the machine.
    async fn tcp(&self, port: u16) -> io::Result<OwnedFd>;

    /// A connected UDP socket, or a datagram socket that behaves like one, to `port` of the machine.
    async fn udp(&self, port: u16) -> io::Result<OwnedFd>;
}

/// Host ports that are bound and not served yet: clients wait in the kernel's queue.
#[derive(Debug)]
pub struct Forwards(Vec<Bound>);

#[derive(Debug)]
struct Bound {
    port: ForwardedPort,
    socket: Socket,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    Udp(UdpSocket),
}

impl Forwards {
    /// Binds every host port of `forwards`, or none.
    ///
    /// A port that is taken and may be corrected becomes the next free one above it, within 50, else any that is
    /// free. Those that may not be corrected are bound first.
    ///
    /// # Errors
    /// [`ForwardError`], with all ports that could not be had.
    pub fn bind(forwards: &[Forward]) -> Result<Self, ForwardError> {
        let mut bound: Vec<Option<Bound>> = forwards.iter().map(|_| None).collect();
        let mut failures = Vec::new();
        let mut order: Vec<usize> = (0..forwards.len()).collect();
        order.sort_by_key(|&at| (forwards[at].host == 0, forwards[at].auto_correct));
        for at in order {
            match bind_one(&forwards[at]) {
                Ok(one) => bound[at] = Some(one),
                Err(source) => {
                    let ours = bound.iter().flatten().any(|other| other.blocks(&forwards[at]));
                    failures.push((at, BindFailure::new(&forwards[at], ours, source)));
                }
            }
        }
        if failures.is_empty() {
            return Ok(Self(bound.into_iter().flatten().collect()));
        }
        failures.sort_by_key(|(at, _)| *at);
        Err(ForwardError(failures.into_iter().map(|(_, failure)| failure).collect()))
    }

    /// The ports as they are bound, in the order they were asked for.
    #[must_use]
    pub fn ports(&self) -> Vec<ForwardedPort> {
        self.0.iter().map(|bound| bound.port.clone()).collect()
    }

    /// Serves the ports on the current runtime until the guard is dropped.
    ///
    /// # Errors
    /// Where a socket cannot be handed to the runtime.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn run(self, dial: Arc<dyn Dial>) -> io::Result<Running> {
        let mut tasks = JoinSet::new();
        for Bound { port, socket } in self.0 {
            let (dial, guest) = (Arc::clone(&dial), port.asked.guest);
            match socket {
                Socket::Tcp(listener) => {
                    let listener = tokio::net::TcpListener::from_std(listener)?;
                    tasks.spawn(tcp::serve(listener, dial, guest));
                }
                Socket::Udp(socket) => {
                    let socket = tokio::net::UdpSocket::from_std(socket)?;
                    tasks.spawn(udp::serve(Arc::new(socket), dial, guest));
                }
            }
        }
        Ok(Running { _tasks: tasks })
    }
}

/// Forwards that are being served. Dropping it ends them and every connection through them.
#[derive(Debug)]
pub struct Running {
    _tasks: JoinSet<()>,
}

impl Bound {
    fn blocks(&self, other: &Forward) -> bool {
        let mine = &self.port.asked;
        let (one, two) = (mine.host_ip, other.host_ip);
        mine.protocol == other.protocol
            && self.port.host == other.host
            && (one == two || one.is_unspecified() || two.is_unspecified())
    }
}

fn bind_one(forward: &Forward) -> io::Result<Bound> {
    let asked = forward.host;
    let mut result = bind_port(forward, asked);
    if forward.auto_correct && asked != 0 {
        let nearby = (1..=NEARBY).map_while(|step| asked.checked_add(step));
        for port in nearby.chain([0]) {
            if !result.as_ref().is_err_and(|e| e.kind() == io::ErrorKind::AddrInUse) {
                break;
            }
            result = bind_port(forward, port);
        }
    }
    result
}

fn bind_port(forward: &Forward, port: u16) -> io::Result<Bound> {
    let address = SocketAddr::new(forward.host_ip, port);
    let (socket, host) = match forward.protocol {
        Protocol::Tcp => {
            let listener = TcpListener::bind(address)?;
            listener.set_nonblocking(true)?;
            let host = listener.local_addr()?.port();
            (Socket::Tcp(listener), host)
        }
        Protocol::Udp => {
            let socket = UdpSocket::bind(address)?;
            socket.set_nonblocking(true)?;
            let host = socket.local_addr()?.port();
            (Socket::Udp(socket), host)
        }
    };
    Ok(Bound { port: ForwardedPort { asked: forward.clone(), host }, socket })
}
