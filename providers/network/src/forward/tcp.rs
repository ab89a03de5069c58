//! One forwarded TCP port.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::Dial;
use super::stream::{Inner, reset_on_close};

/// Connections through one port at a time. Further clients wait in the kernel's queue.
const CONNECTIONS: usize = 1024;

/// How long to leave the queue alone where the process has no descriptor left and none of ours will be freed.
const OUT_OF_DESCRIPTORS: Duration = Duration::from_millis(100);

pub(super) async fn serve(listener: TcpListener, dial: Arc<dyn Dial>, guest: u16) {
    let mut connections = JoinSet::new();
    let mut spare = spare_descriptor();
    loop {
        tokio::select! {
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if connections.len() < CONNECTIONS => match accepted {
                Ok((client, _)) => {
                    connections.spawn(carry(client, Arc::clone(&dial), guest));
                }
                Err(error) if is_shortage(&error) => {
                    // A client that cannot be served is told so at once; left in the queue it would keep the
                    // listener readable and this loop spinning.
                    let had_spare = spare.take().is_some();
                    if had_spare && let Ok((client, _)) = listener.accept().await {
                        reset_on_close(&client);
                    }
                    spare = spare_descriptor();
                    if !had_spare {
                        tokio::select! {
                            Some(_) = connections.join_next() => {}
                            () = tokio::time::sleep(OUT_OF_DESCRIPTORS) => {}
                        }
                    }
                }
                // Whatever else `accept(2)` reports concerns one client that has gone.
                Err(_) => {}
            }
        }
    }
}

fn spare_descriptor() -> Option<File> {
    File::open("/dev/null").ok()
}

fn is_shortage(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}

async fn carry(client: TcpStream, dial: Arc<dyn Dial>, guest: u16) {
    // Refused by the kernel at worst: the connection then is only slower.
    let _ = client.set_nodelay(true);
    match dial.tcp(guest).await.and_then(Inner::new) {
        Ok(inner) => inner.relay(client).await,
        // A client is to see that nothing listens, as it would without us in between.
        Err(_) => reset_on_close(&client),
    }
}
