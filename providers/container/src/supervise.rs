//! The supervisor of one container: forwards, NAT, console and readiness around the [`Keeper`], for as long as the
//! machine lives, reboots included.

use std::ffi::OsString;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use async_trait::async_trait;
use posada_network::nat::{Nat, NatConfig};
use posada_network::private::Private;
use posada_provider_api::network::management;
use posada_provider_api::{MachineDir, Observer, Protocol, ProviderError};
use posada_supervisor::forwarding::SSH_PORT;
use posada_supervisor::machine::Stage;
use posada_supervisor::owner::log;
use posada_supervisor::{ConsoleHub, Guest, Machine, Owner, own};
use rustix::fs::inotify;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::{TcpSocket, UdpSocket};
use tokio::signal::unix::{SignalKind, signal};

use crate::keeper::{Ended, Keeper, Launched};
use crate::runtime::Record;

/// The hidden command that makes a process the supervisor of a container.
pub const ENTRY: &str = "__container-supervise";

/// Where the host names its name servers (resolv.conf(5)).
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Runs as the supervisor of the machine whose directory is the only argument; returns when it has ended.
pub fn entry(args: &[OsString], exe: &Path) -> ExitCode {
    match args {
        [dir] => match supervise(&MachineDir::new(dir), exe) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                log(&error);
                ExitCode::FAILURE
            }
        },
        _ => ExitCode::from(2),
    }
}

fn supervise(dir: &MachineDir, exe: &Path) -> io::Result<()> {
    own(dir, |_| Ok(()), async |owner| Supervisor { owner, exe }.live().await, || crate::cleanup(exe, dir))
}

struct Supervisor<'a> {
    owner: Owner<'a>,
    exe: &'a Path,
}

impl Supervisor<'_> {
    /// The machine's life, from its start to its end.
    async fn live(&self) -> Result<(), ProviderError> {
        let Owner { dir, spec, machine, .. } = &self.owner;
        let mut reboots = 0u32;
        let mut terminate = signal(SignalKind::terminate()).map_err(internal("listen for signals"))?;
        loop {
            // What an earlier supervisor left when it was killed.
            crate::cleanup(self.exe, dir)?;
            machine.phase(if reboots == 0 { "starting" } else { "rebooting" });
            let (keeper, launched) = Keeper::launch(self.exe, dir, spec, &**machine).await?;
            for warning in &launched.warnings {
                machine.warn(warning);
            }
            let guest = Arc::new(Container { keeper, init_pid: launched.init_pid });
            let _attached = self.attach(launched)?;
            machine.enter(Stage::Running(guest.clone()));
            let ended = tokio::select! {
                ended = guest.keeper.ended() => ended,
                _ = terminate.recv() => {
                    machine.set_stopping();
                    let _ = guest.ask_to_stop();
                    match tokio::time::timeout(spec.graceful_timeout, guest.keeper.ended()).await {
                        Ok(ended) => ended,
                        Err(_) => {
                            guest.kill().map_err(internal("kill the machine"))?;
                            guest.keeper.ended().await
                        }
                    }
                }
            };
            // Nobody may hold the keeper when what it made is undone, not even a client that waits for the end.
            guest.keeper.close();
            match ended {
                Ended::Rebooted if !machine.is_stopping() => {
                    machine.enter(Stage::Starting);
                    reboots += 1;
                }
                Ended::Halted | Ended::Rebooted => return Ok(()),
                Ended::Died(_) if machine.is_stopping() => return Ok(()),
                Ended::Died(how) => {
                    let why = self.why();
                    return Err(machine.error(format!("the machine died: {how}{why}")));
                }
            }
        }
    }

    /// What the kernel knows of a death, to be asked before its control groups are removed.
    fn why(&self) -> String {
        let record = Record::read(self.owner.dir).ok().flatten();
        match self.owner.spec.memory {
            Some(bytes) if record.is_some_and(|record| record.ran_out_of_memory()) => {
                format!("; it had used up its memory of {} MiB", bytes >> 20)
            }
            _ => String::new(),
        }
    }

    fn nat(&self) -> NatConfig {
        NatConfig::new(self.owner.spec.id.mac(0), self.owner.spec.hostname.clone(), RESOLV_CONF)
    }

    /// Connects what the keeper handed out: console, NAT and the watch on `/run`.
    fn attach(&self, launched: Launched) -> Result<Attached, ProviderError> {
        let console =
            ConsoleHub::start(launched.console, &self.owner.dir.console_log(), self.owner.machine.clone())
                .map_err(internal("keep the console"))?;
        let console = self.owner.server.lend(console);
        let nat = launched.tap.map(|tap| Nat::start(tap, self.nat()));
        let nat = nat.transpose().map_err(internal("start the user-mode NAT"))?;
        let watch =
            watch_run(launched.run_dir, self.owner.machine.clone()).map_err(internal("watch /run"))?;
        let networks = self.owner.dir.networks();
        let private = self.owner.spec.private_networks().zip(launched.private).map(|(network, cable)| {
            Private::join(&networks.join(&network.name).join("switch"), &self.owner.spec.id, cable)
        });
        let private = private.collect::<io::Result<_>>().map_err(internal("join a private network"))?;
        Ok(Attached { _console: console, _nat: nat, _private: private, watch })
    }
}

/// What serves a machine between two boots.
struct Attached {
    _console: Arc<ConsoleHub>,
    _nat: Option<Nat>,
    _private: Vec<Private>,
    watch: tokio::task::JoinHandle<()>,
}

impl Drop for Attached {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

/// Stirs the machine whenever something appears in its `/run`: daemons that listen say so there (`sshd.pid`).
fn watch_run(run: OwnedFd, machine: Arc<Machine>) -> io::Result<tokio::task::JoinHandle<()>> {
    let watch = inotify::init(inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC)?;
    let events =
        inotify::WatchFlags::CREATE | inotify::WatchFlags::MOVED_TO | inotify::WatchFlags::CLOSE_WRITE;
    inotify::add_watch(&watch, format!("/proc/self/fd/{}", run.as_raw_fd()), events)?;
    // SAFETY: the descriptor is owned by the `AsyncFd` and nothing else closes or replaces it.
    let watch = unsafe { AsyncFd::register(watch) }?;
    Ok(tokio::spawn(async move {
        let _run = run;
        let mut events = [0u8; 4096];
        while watch.async_io(Interest::READABLE, |fd| Ok(rustix::io::read(fd, &mut events)?)).await.is_ok() {
            machine.stir();
        }
    }))
}

/// A container as its supervisor serves it.
struct Container {
    keeper: Keeper,
    init_pid: i32,
}

#[async_trait]
impl Guest for Container {
    fn init_pid(&self) -> Option<i32> {
        Some(self.init_pid)
    }

    fn ask_to_stop(&self) -> io::Result<()> {
        self.keeper.ask_to_stop()
    }

    fn kill(&self) -> io::Result<()> {
        match self.keeper.kill() {
            // Its keeper is gone, and the kernel ends it.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            other => other,
        }
    }

    fn suspend(&self) -> Result<(), ProviderError> {
        self.keeper.freeze()
    }

    fn resume(&self) -> Result<(), ProviderError> {
        self.keeper.thaw()
    }

    async fn dial(&self, protocol: Protocol, port: u16) -> io::Result<OwnedFd> {
        match protocol {
            // The loopback interface stays as long as a socket does. The other one goes with the supervisor, and
            // the last segments of a machine that is killed with it: nobody would tell a login that it is over.
            Protocol::Tcp if port == SSH_PORT => self.tcp(Ipv4Addr::LOCALHOST, port).await,
            Protocol::Tcp => self.tcp(management::GUEST, port).await,
            Protocol::Udp => {
                let socket = std::net::UdpSocket::from(self.keeper.socket(protocol).await?);
                socket.set_nonblocking(true)?;
                let socket = UdpSocket::from_std(socket)?;
                socket.connect(SocketAddr::from((management::GUEST, port))).await?;
                Ok(socket.into_std()?.into())
            }
        }
    }
}

impl Container {
    async fn tcp(&self, address: Ipv4Addr, port: u16) -> io::Result<OwnedFd> {
        let socket = std::net::TcpStream::from(self.keeper.socket(Protocol::Tcp).await?);
        socket.set_nonblocking(true)?;
        let stream = TcpSocket::from_std_stream(socket).connect(SocketAddr::from((address, port))).await?;
        stream.set_nodelay(true)?;
        Ok(stream.into_std()?.into())
    }
}

fn internal(doing: &'static str) -> impl FnOnce(io::Error) -> ProviderError {
    move |error| ProviderError::Internal { what: format!("{doing}: {error}") }
}
