//! The name server: names of Posada's own are answered here, all else is passed on to the host's name servers as it
//! came.

mod names;
mod resolv_conf;
mod upstream;

use std::collections::BTreeMap;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;

use names::{Names, Verdict};
use upstream::{Upstreams, Via};

/// Questions under way at a time. Further ones are lost, and asked again by the guest.
const MOST: usize = 256;
/// How long a stream may be silent (RFC 7766, section 6.2.3, asks for seconds).
const STREAM_IDLE: Duration = Duration::from_secs(30);

/// An answer to a question that came as a datagram.
#[derive(Debug)]
pub(super) struct Reply {
    /// The port it came from.
    pub(super) guest_port: u16,
    pub(super) payload: Vec<u8>,
}

/// The name server. Its work happens in tasks of the current runtime.
#[derive(Debug)]
pub(super) struct Resolver {
    shared: Arc<Shared>,
    under_way: Arc<Semaphore>,
    replies: mpsc::Sender<Reply>,
}

#[derive(Debug)]
struct Shared {
    names: Names,
    upstreams: Upstreams,
}

impl Resolver {
    /// A name server that knows `names` and otherwise asks those that the file `resolv_conf` lists.
    pub(super) fn new(
        names: &BTreeMap<String, Ipv4Addr>,
        resolv_conf: PathBuf,
        replies: mpsc::Sender<Reply>,
    ) -> Self {
        let shared = Shared { names: Names::new(names), upstreams: Upstreams::new(resolv_conf) };
        Self { shared: Arc::new(shared), under_way: Arc::new(Semaphore::new(MOST)), replies }
    }

    /// Takes a question that came as a datagram from a port of the guest.
    pub(super) fn serve_datagram(&self, guest_port: u16, payload: &[u8]) {
        let Ok(permit) = Arc::clone(&self.under_way).try_acquire_owned() else { return };
        let (shared, replies, question) = (Arc::clone(&self.shared), self.replies.clone(), payload.to_vec());
        tokio::spawn(async move {
            if let Some(payload) = shared.answer(&question, Via::Udp).await {
                // The NAT has ended.
                let _ = replies.send(Reply { guest_port, payload }).await;
            }
            drop(permit);
        });
    }

    /// Answers the questions that come over a stream.
    pub(super) fn serve_stream(&self, stream: OwnedFd) {
        let Ok(permit) = Arc::clone(&self.under_way).try_acquire_owned() else { return };
        let shared = Arc::clone(&self.shared);
        tokio::spawn(async move {
            // It ends by the guest's doing in one way or another.
            let _ = shared.serve_stream(stream).await;
            drop(permit);
        });
    }
}

impl Shared {
    async fn answer(&self, question: &[u8], via: Via) -> Option<Vec<u8>> {
        match self.names.judge(question) {
            Verdict::Answer(answer) => Some(answer),
            Verdict::Ignore => None,
            Verdict::PassOn => match self.upstreams.ask(question, via).await {
                Some(answer) => Some(answer),
                None => names::failure(question),
            },
        }
    }

    async fn serve_stream(&self, stream: OwnedFd) -> io::Result<()> {
        let mut stream = UnixStream::from_std(stream.into())?;
        loop {
            let length = timeout(STREAM_IDLE, stream.read_u16()).await??;
            let mut question = vec![0; usize::from(length)];
            timeout(STREAM_IDLE, stream.read_exact(&mut question)).await??;
            let Some(answer) = self.answer(&question, Via::Tcp).await else { return Ok(()) };
            let Ok(length) = u16::try_from(answer.len()) else { return Ok(()) };
            stream.write_all(&[&length.to_be_bytes()[..], &answer].concat()).await?;
        }
    }
}
