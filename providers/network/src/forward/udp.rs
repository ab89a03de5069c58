//! One forwarded UDP port. Every client has an association of its own, so that answers find back.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::Dial;
use super::stream::Datagrams;

/// Clients of one port at a time; a further one takes the place of the one that has been silent longest.
const ASSOCIATIONS: usize = 512;
/// Datagrams of one client that wait while the way into the machine is being opened.
const QUEUE: usize = 64;
/// How long an association lives without traffic.
const IDLE: Duration = Duration::from_secs(120);
/// The largest UDP payload over IPv4 (RFC 768, RFC 791), and then some.
const LARGEST: usize = 65_536;

struct Association {
    queue: mpsc::Sender<Vec<u8>>,
    number: u64,
    used: Instant,
}

pub(super) async fn serve(socket: Arc<UdpSocket>, dial: Arc<dyn Dial>, guest: u16) {
    let mut clients: HashMap<SocketAddr, Association> = HashMap::new();
    let mut tasks: JoinSet<(SocketAddr, u64)> = JoinSet::new();
    let mut buffer = vec![0; LARGEST];
    let mut number = 0;
    loop {
        tokio::select! {
            Some(ended) = tasks.join_next() => {
                if let Ok((client, number)) = ended
                    && clients.get(&client).is_some_and(|association| association.number == number)
                {
                    clients.remove(&client);
                }
            }
            received = socket.recv_from(&mut buffer) => {
                // An error here tells of a datagram sent earlier, to a client that has gone.
                let Ok((length, client)) = received else { continue };
                if !clients.contains_key(&client) {
                    if clients.len() >= ASSOCIATIONS {
                        forget_oldest(&mut clients);
                    }
                    number += 1;
                    let (queue, datagrams) = mpsc::channel(QUEUE);
                    clients.insert(client, Association { queue, number, used: Instant::now() });
                    let (socket, dial) = (Arc::clone(&socket), Arc::clone(&dial));
                    tasks.spawn(async move {
                        // Ends by silence, by eviction, or because the machine refuses: all the same to UDP.
                        let _ = carry(&socket, client, datagrams, &*dial, guest).await;
                        (client, number)
                    });
                }
                if let Some(association) = clients.get_mut(&client) {
                    association.used = Instant::now();
                    // A full queue loses the datagram, as any router would.
                    let _ = association.queue.try_send(buffer[..length].to_vec());
                }
            }
        }
    }
}

fn forget_oldest(clients: &mut HashMap<SocketAddr, Association>) {
    let oldest = clients.iter().min_by_key(|(_, association)| association.used).map(|(client, _)| *client);
    if let Some(client) = oldest {
        clients.remove(&client);
    }
}

async fn carry(
    socket: &UdpSocket,
    client: SocketAddr,
    mut datagrams: mpsc::Receiver<Vec<u8>>,
    dial: &dyn Dial,
    guest: u16,
) -> io::Result<()> {
    let inner = Datagrams::new(dial.udp(guest).await?)?;
    let mut buffer = vec![0; LARGEST];
    loop {
        let deadline = Instant::now() + IDLE;
        tokio::select! {
            next = timeout_at(deadline, datagrams.recv()) => match next {
                Ok(Some(datagram)) => {
                    inner.send(&datagram).await?;
                }
                Ok(None) | Err(_) => return Ok(()),
            },
            received = inner.recv(&mut buffer) => {
                let length = received?;
                // The client may have gone; the machine's next datagram may still be wanted.
                let _ = socket.send_to(&buffer[..length], client).await;
            }
        }
    }
}
