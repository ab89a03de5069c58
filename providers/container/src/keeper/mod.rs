//! The supervisor's handle on a running container.
//!
//! ```text
//! supervisor (S)   the caller's user, outside all namespaces, on tokio
//!   └─ keeper (K)    one thread; root of the machine's ids, in its network
//!        └─ init (C)   the box's own
//! ```
//! When S goes, K sees its socket close and kills C. When K goes, the kernel kills C. What none of them could
//! undo is written down, see `runtime`.

mod birth;
mod launch;
mod network;
mod process;
mod top;
mod waiting;
mod wire;

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;

use posada_provider_api::{MachineDir, MachineSpec, Observer, Protocol, ProviderError};
use tokio::io::Interest;
use tokio::net::UnixDatagram;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::cgroup::Group;
use crate::failure::{During, Failure};
use crate::runtime::{self, Record};
use crate::sys::message;
pub use process::keeper_entry;
pub use top::{content, create, remove_top};
use waiting::Waiting;
pub use wire::Ended;
use wire::{Launch, Order, Report};

/// The hidden word by which our binary becomes [`keeper_entry`].
pub const ENTRY: &str = "__container-keeper";

/// A running container. Dropping it kills the container.
#[derive(Debug)]
pub struct Keeper {
    socket: Arc<UnixDatagram>,
    waiting: Arc<Waiting>,
    ended: watch::Receiver<Option<Ended>>,
    reader: JoinHandle<()>,
    group: Group,
}

/// What a launch leaves in the supervisor's hands.
#[derive(Debug)]
pub struct Launched {
    /// The init's process id on the host.
    pub init_pid: i32,
    /// The console's master side; it must be read, or the machine stalls.
    pub console: OwnedFd,
    /// The machine's way out: one Ethernet frame a read or write. `None` where the host permits none.
    pub tap: Option<OwnedFd>,
    /// Its way into each private network, in the spec's order.
    pub private: Vec<OwnedFd>,
    /// The machine's `/run`, to be watched through `/proc/self/fd`.
    pub run_dir: OwnedFd,
    /// What could not be done as asked.
    pub warnings: Vec<String>,
}

impl Keeper {
    /// Launches a container and returns when its init has been executed. Undoes first what an earlier one left
    /// behind; undoes all where it fails. `exe` is our own binary.
    ///
    /// # Errors
    /// [`ProviderError::Host`], [`ProviderError::Box`], or [`ProviderError::Internal`].
    pub async fn launch(
        exe: &Path,
        dir: &MachineDir,
        spec: &MachineSpec,
        observer: &dyn Observer,
    ) -> Result<(Self, Launched), ProviderError> {
        let socket = spawn(exe, dir).await?;
        let launched = Self::order(socket, exe, dir, spec, observer).await;
        if launched.is_err() {
            // The socket is closed, so the keeper ends; what it made is undone after it.
            let (exe, dir) = (exe.to_owned(), dir.clone());
            blocking(move || runtime::cleanup(&exe, &dir)).await?;
        }
        Ok(launched?)
    }

    async fn order(
        socket: UnixDatagram,
        exe: &Path,
        dir: &MachineDir,
        spec: &MachineSpec,
        observer: &dyn Observer,
    ) -> Result<(Self, Launched), Failure> {
        let talking = "talk to the keeper";
        let socket = Arc::new(socket);
        let order = Launch { exe: exe.to_owned(), dir: dir.path().to_owned(), spec: spec.clone() };
        let order = Order::Launch(Box::new(order));
        socket.async_io(Interest::WRITABLE, || message::send(&*socket, &order, &[])).await.during(talking)?;
        let launched = loop {
            match next(&socket).await.during(talking)? {
                Some((Report::Phase(text), _)) => observer.phase(&text),
                Some((Report::Launched { init_pid, way_out, warnings }, fds)) => {
                    break in_hand(init_pid, way_out, warnings, fds)?;
                }
                Some((Report::Failed(failure), _)) => return Err(failure),
                Some((Report::Socket { .. } | Report::Ended(_), _)) => {
                    return Err(Failure::internal("the keeper spoke out of turn"));
                }
                None => return Err(Failure::machine("the machine was killed while it was launched")),
            }
        };
        let record = Record::read(dir)?.ok_or_else(|| Failure::internal("the keeper wrote nothing down"))?;
        let waiting = Arc::new(Waiting::default());
        let (tell, ended) = watch::channel(None);
        let reader = tokio::spawn(read(Arc::clone(&socket), Arc::clone(&waiting), tell));
        Ok((Self { socket, waiting, ended, reader, group: record.tracking() }, launched))
    }

    /// A fresh, unconnected socket in the machine's network.
    ///
    /// # Errors
    /// Those of socket(2), and `BrokenPipe` where the machine has ended.
    pub async fn socket(&self, protocol: Protocol) -> io::Result<OwnedFd> {
        let place = self.waiting.enter()?;
        let order = Order::Socket { ticket: place.ticket, protocol };
        // Where many ask at once, the socket to the keeper may be full for a moment.
        self.socket.async_io(Interest::WRITABLE, || message::send(&*self.socket, &order, &[])).await?;
        place.answer().await
    }

    /// Asks the init to shut the machine down.
    ///
    /// # Errors
    /// `BrokenPipe` where the machine has ended.
    pub fn ask_to_stop(&self) -> io::Result<()> {
        self.say(&Order::Stop)
    }

    /// Ends the machine at once, frozen or not.
    ///
    /// # Errors
    /// `BrokenPipe` where the machine has ended.
    pub fn kill(&self) -> io::Result<()> {
        self.say(&Order::Kill)
    }

    /// Stops all of the machine's processes where they are.
    ///
    /// # Errors
    /// [`ProviderError`] where the kernel refuses.
    pub fn freeze(&self) -> Result<(), ProviderError> {
        Ok(self.group.freeze()?)
    }

    /// Lets them go on.
    ///
    /// # Errors
    /// [`ProviderError`] where the kernel refuses.
    pub fn thaw(&self) -> Result<(), ProviderError> {
        Ok(self.group.thaw()?)
    }

    /// Waits for the machine's end. Its control groups are still there: [`crate::cleanup`] removes them, once
    /// this handle has been dropped.
    pub async fn ended(&self) -> Ended {
        let mut ended = self.ended.clone();
        let end = ended.wait_for(Option::is_some).await.ok().and_then(|end| end.clone());
        end.unwrap_or_else(|| Ended::Died("its keeper died".to_owned()))
    }

    /// Lets go of the machine: it is killed where it still runs, and every later order fails.
    pub fn close(&self) {
        // A socket that is shut down already is as it should be.
        let _ = rustix::net::shutdown(&*self.socket, rustix::net::Shutdown::Both);
    }

    /// For the rare order that has no time to wait: there is room, as the keeper reads at once.
    fn say(&self, order: &Order) -> io::Result<()> {
        message::send(&*self.socket, order, &[])
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.reader.abort();
        // The reader still holds the socket for a moment; the keeper must not wait for that.
        let _ = rustix::net::shutdown(&*self.socket, rustix::net::Shutdown::Both);
    }
}

fn in_hand(
    init_pid: i32,
    way_out: bool,
    warnings: Vec<String>,
    fds: Vec<OwnedFd>,
) -> Result<Launched, Failure> {
    let mut fds = fds.into_iter();
    match (fds.next(), fds.next()) {
        (Some(console), Some(run_dir)) => {
            let tap = if way_out { fds.next() } else { None };
            Ok(Launched { init_pid, console, tap, private: fds.collect(), run_dir, warnings })
        }
        _ => Err(Failure::internal("the keeper sent no console")),
    }
}

/// Starts a keeper, which waits for its first order. The lock is held from before it is born until it has died.
async fn spawn(exe: &Path, dir: &MachineDir) -> Result<UnixDatagram, Failure> {
    let locked = dir.clone();
    let lock = blocking(move || runtime::lock(&locked)).await?;
    let missing =
        || Failure::internal(format!("the machine's directory {} is not there", dir.path().display()));
    let lock = lock.ok_or_else(missing)?;
    let starting = "start the machine's keeper";
    let (ours, theirs) = message::pair().during(starting)?;
    let child = tokio::process::Command::new(exe)
        .arg(ENTRY)
        .stdin(Stdio::from(theirs))
        .stdout(Stdio::from(lock))
        .spawn()
        .during(starting)?;
    // Tokio reaps it. It ends by itself when the socket closes.
    drop(child);
    // Tokio's type for datagrams keeps the bounds of these packets as well.
    let ours = std::os::unix::net::UnixDatagram::from(ours);
    ours.set_nonblocking(true).during(starting)?;
    UnixDatagram::from_std(ours).during(starting)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| Err(Failure::internal("a task was cancelled")))
}

async fn next(socket: &UnixDatagram) -> io::Result<Option<(Report, Vec<OwnedFd>)>> {
    socket.async_io(Interest::READABLE, || message::receive(socket)).await
}

/// Hands out what the keeper says, until it says no more.
async fn read(socket: Arc<UnixDatagram>, waiting: Arc<Waiting>, tell: watch::Sender<Option<Ended>>) {
    let end = loop {
        match next(&socket).await {
            Ok(Some((Report::Socket { ticket, made }, fds))) => {
                let made = made.map_err(io::Error::from_raw_os_error).and_then(|()| {
                    fds.into_iter().next().ok_or_else(|| io::Error::other("the keeper sent no socket"))
                });
                waiting.tell(ticket, made);
            }
            Ok(Some((Report::Ended(end), _))) => break end,
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => break Ended::Died("its keeper died".to_owned()),
        }
    };
    waiting.close();
    tell.send_replace(Some(end));
}
