//! The host's name servers, asked in turn until one answers.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use super::resolv_conf;

/// How long one name server may take; guests ask again after five seconds.
const PATIENCE: Duration = Duration::from_secs(2);
/// The largest datagram there is.
const LARGEST: usize = 65_535;

/// How a question travels: as it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Via {
    Udp,
    Tcp,
}

/// What tells one version of a file from another.
type Version = (u64, i64, i64, u64);

/// The name servers of a file that is read again when it changes: a laptop moves between networks.
#[derive(Debug)]
pub(super) struct Upstreams {
    path: PathBuf,
    read: Mutex<(Option<Version>, Vec<SocketAddr>)>,
    /// Who answered last is asked first.
    preferred: AtomicUsize,
}

impl Upstreams {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, read: Mutex::new((None, Vec::new())), preferred: AtomicUsize::new(0) }
    }

    /// The answer to `question`; `None` where nobody gave one.
    pub(super) async fn ask(&self, question: &[u8], via: Via) -> Option<Vec<u8>> {
        let servers = self.current();
        let first = self.preferred.load(Ordering::Relaxed);
        let mut refusal = None;
        for at in 0..servers.len() {
            let at = (first + at) % servers.len();
            let asked = match via {
                Via::Udp => timeout(PATIENCE, over_udp(servers[at], question)).await,
                Via::Tcp => timeout(PATIENCE, over_tcp(servers[at], question)).await,
            };
            match asked {
                Ok(Ok(answer)) if is_useful(&answer) => {
                    self.preferred.store(at, Ordering::Relaxed);
                    return Some(answer);
                }
                Ok(Ok(answer)) => refusal = refusal.or(Some(answer)),
                Ok(Err(_)) | Err(_) => {}
            }
        }
        refusal
    }

    fn current(&self) -> Vec<SocketAddr> {
        let version =
            fs_err::metadata(&self.path).ok().map(|m| (m.ino(), m.mtime(), m.mtime_nsec(), m.size()));
        let mut read = self.read.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if version.is_none() || read.0 != version {
            let text = fs_err::read_to_string(&self.path).unwrap_or_default();
            *read = (version, resolv_conf::parse(&text));
            self.preferred.store(0, Ordering::Relaxed);
        }
        read.1.clone()
    }
}

/// SERVFAIL and REFUSED leave it to the next one, as `resolver(3)` does.
fn is_useful(answer: &[u8]) -> bool {
    answer.get(3).is_some_and(|flags| !matches!(flags & 0x0f, 2 | 5))
}

fn belongs(answer: &[u8], question: &[u8]) -> bool {
    answer.len() >= 12 && answer.get(..2) == question.get(..2) && answer[2] & 0x80 != 0
}

async fn over_udp(server: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let any: IpAddr =
        if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    // A port of its own for every question, chosen by the kernel at random, and deaf to everybody else.
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    socket.send(question).await?;
    let mut answer = vec![0; LARGEST];
    loop {
        let length = socket.recv(&mut answer).await?;
        if belongs(&answer[..length], question) {
            answer.truncate(length);
            return Ok(answer);
        }
    }
}

async fn over_tcp(server: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let length = u16::try_from(question.len()).map_err(io::Error::other)?;
    let mut stream = TcpStream::connect(server).await?;
    stream.write_all(&[&length.to_be_bytes()[..], question].concat()).await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0; usize::from(length)];
    stream.read_exact(&mut answer).await?;
    if belongs(&answer, question) { Ok(answer) } else { Err(io::ErrorKind::InvalidData.into()) }
}
