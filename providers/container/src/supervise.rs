//! The supervisor of one container: forwards, NAT, console and readiness around the [`Keeper`], for as long as the
//! machine lives, reboots included.

use std::ffi::OsString;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use async_trait::async_trait;
use posada_network::forward::{Dial, Forwards};
use posada_network::nat::{Nat, NatConfig};
use posada_network::private::Private;
use posada_provider_api::network::management;
use posada_provider_api::{
    Forward, ForwardedPort, MachineDir, MachineSpec, Network, Observer, Protocol, ProviderError,
};
use posada_supervisor::machine::Stage;
use posada_supervisor::server::Server;
use posada_supervisor::{ConsoleHub, Guest, Machine, spawn};
use rustix::fs::inotify;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::{TcpSocket, UdpSocket, UnixListener};
use tokio::signal::unix::{SignalKind, signal};

use crate::keeper::{Ended, Keeper, Launched};
use crate::runtime::Record;

/// The hidden command that makes a process the supervisor of a container.
pub const ENTRY: &str = "__container-supervise";

/// The port sshd listens on in a machine.
pub const SSH_PORT: u16 = 22;

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
    let inherited = spawn::inherit()?;
    raise_descriptor_limit();
    let spec: MachineSpec = serde_json::from_slice(&fs_err::read(dir.spec())?)?;
    call_ourselves(&spec);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        inherited.listener.set_nonblocking(true)?;
        let machine = Machine::starting();
        let server = Server::start(machine.clone(), UnixListener::from_std(inherited.listener)?);
        let supervisor =
            Supervisor { dir, exe, spec: &spec, machine: machine.clone(), server: server.clone() };
        let outcome = supervisor.live().await;
        if let Err(error) = &outcome {
            log(error);
        }
        machine.enter(Stage::Ending);
        let cleaned = crate::cleanup(exe, dir);
        machine.enter(Stage::Ended(outcome.and(cleaned).err().map(Into::into)));
        server.finish().await;
        Ok(())
    })
    // `inherited.alive` is released by the end of the process, when nothing is left to be seen of the machine.
}

/// What tools show for this process: executed as `/proc/self/exe`, it would be called `exe`. Whoever finds a port
/// taken is told by this name who has it.
fn call_ourselves(spec: &MachineSpec) {
    // The kernel keeps 15 bytes; names of machines are ASCII and hold no zero byte.
    let name: String = format!("posada:{}", spec.name).chars().take(15).collect();
    if let Ok(name) = std::ffi::CString::new(name) {
        // Losing the name costs nothing but the name.
        let _ = rustix::thread::set_name(&name);
    }
}

/// Every connection through the NAT and the forwards takes descriptors; the soft limit is one for programs that
/// use select(2).
fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // Where it is refused, fewer connections at once is all that comes of it.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

/// Standard error is the supervisor's log file.
fn log(error: &dyn std::error::Error) {
    use std::io::Write;
    let _ = writeln!(io::stderr(), "{error}");
}

struct Supervisor<'a> {
    dir: &'a MachineDir,
    exe: &'a Path,
    spec: &'a MachineSpec,
    machine: Arc<Machine>,
    server: Arc<Server>,
}

impl Supervisor<'_> {
    /// The machine's life, from its start to its end.
    async fn live(&self) -> Result<(), ProviderError> {
        let (_forwarding, mut reboots) = (self.forward()?, 0u32);
        let mut terminate = signal(SignalKind::terminate()).map_err(internal("listen for signals"))?;
        loop {
            // What an earlier supervisor left when it was killed.
            crate::cleanup(self.exe, self.dir)?;
            self.machine.phase(if reboots == 0 { "starting" } else { "rebooting" });
            let (keeper, launched) = Keeper::launch(self.exe, self.dir, self.spec, &*self.machine).await?;
            for warning in &launched.warnings {
                self.machine.warn(warning);
            }
            let guest = Arc::new(Container { keeper, init_pid: launched.init_pid });
            let _attached = self.attach(launched)?;
            self.machine.enter(Stage::Running(guest.clone()));
            let ended = tokio::select! {
                ended = guest.keeper.ended() => ended,
                _ = terminate.recv() => {
                    self.machine.set_stopping();
                    let _ = guest.ask_to_stop();
                    match tokio::time::timeout(self.spec.graceful_timeout, guest.keeper.ended()).await {
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
                Ended::Rebooted if !self.machine.is_stopping() => {
                    self.machine.enter(Stage::Starting);
                    reboots += 1;
                }
                Ended::Halted | Ended::Rebooted => return Ok(()),
                Ended::Died(_) if self.machine.is_stopping() => return Ok(()),
                Ended::Died(how) => {
                    let why = self.why();
                    return Err(self.machine.error(format!("the machine died: {how}{why}")));
                }
            }
        }
    }

    /// What the kernel knows of a death, to be asked before its control groups are removed.
    fn why(&self) -> String {
        let record = Record::read(self.dir).ok().flatten();
        match self.spec.memory {
            Some(bytes) if record.is_some_and(|record| record.ran_out_of_memory()) => {
                format!("; it had used up its memory of {} MiB", bytes >> 20)
            }
            _ => String::new(),
        }
    }

    /// Binds the forwards, before anything is started: a taken port is told at once and costs nothing.
    fn forward(&self) -> Result<posada_network::forward::Running, ProviderError> {
        let mut wanted: Vec<Forward> = self
            .spec
            .networks
            .iter()
            .filter_map(|network| match network {
                Network::Forward(forward) => Some(forward.clone()),
                _ => None,
            })
            .collect();
        let is_ssh =
            |f: &Forward| f.guest == SSH_PORT && f.protocol == Protocol::Tcp && f.host_ip.is_loopback();
        if !wanted.iter().any(is_ssh) {
            wanted.push(ssh_forward(self.dir));
        }
        let forwards = Forwards::bind(&wanted)?;
        let ports = forwards.ports();
        let ssh = ports.iter().find(|port| is_ssh(&port.asked)).map(|port| port.host);
        if let Some(port) = ssh {
            // Only a wish for the next start: losing it costs a changed port, nothing else.
            let _ = fs_err::write(ssh_port_file(self.dir), port.to_string());
        }
        for ForwardedPort { asked, host } in &ports {
            if asked.host != 0 && asked.host != *host && asked.guest != SSH_PORT {
                self.machine.warn(&format!("port {} is taken; forwarding {host} instead", asked.host));
            }
        }
        self.machine.set_forwards(ports, ssh);
        forwards
            .run(Arc::new(Dialer(self.machine.clone())))
            .map_err(internal("listen on the forwarded ports"))
    }

    fn nat(&self) -> NatConfig {
        NatConfig::new(self.spec.id.mac(0), self.spec.hostname.clone(), RESOLV_CONF)
    }

    /// Connects what the keeper handed out: console, NAT and the watch on `/run`.
    fn attach(&self, launched: Launched) -> Result<Attached, ProviderError> {
        let console = ConsoleHub::start(launched.console, &self.dir.console_log(), self.machine.clone())
            .map_err(internal("keep the console"))?;
        let console = self.server.lend(console);
        let nat = launched.tap.map(|tap| Nat::start(tap, self.nat()));
        let nat = nat.transpose().map_err(internal("start the user-mode NAT"))?;
        let watch = watch_run(launched.run_dir, self.machine.clone()).map_err(internal("watch /run"))?;
        let networks = self.dir.networks();
        let private = self.spec.private_networks().zip(launched.private).map(|(network, cable)| {
            Private::join(&networks.join(&network.name).join("switch"), &self.spec.id, cable)
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

/// The forward that leads to sshd where the Vmfile asks for none: the port of the last start if it is free.
fn ssh_forward(dir: &MachineDir) -> Forward {
    let last = fs_err::read_to_string(ssh_port_file(dir)).ok().and_then(|text| text.trim().parse().ok());
    Forward {
        guest: SSH_PORT,
        host: last.unwrap_or(0),
        host_ip: std::net::Ipv4Addr::LOCALHOST.into(),
        protocol: Protocol::Tcp,
        auto_correct: true,
        name: Some("ssh".to_owned()),
    }
}

fn ssh_port_file(dir: &MachineDir) -> PathBuf {
    dir.path().join("ssh_port")
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

/// Dials whatever the machine is at the moment: the forwards outlive a reboot.
struct Dialer(Arc<Machine>);

impl Dialer {
    async fn dial(&self, protocol: Protocol, port: u16) -> io::Result<OwnedFd> {
        match self.0.stage() {
            Stage::Running(guest) => guest.dial(protocol, port).await,
            _ => Err(io::ErrorKind::ConnectionRefused.into()),
        }
    }
}

#[async_trait]
impl Dial for Dialer {
    async fn tcp(&self, port: u16) -> io::Result<OwnedFd> {
        self.dial(Protocol::Tcp, port).await
    }

    async fn udp(&self, port: u16) -> io::Result<OwnedFd> {
        self.dial(Protocol::Udp, port).await
    }
}

fn internal(doing: &'static str) -> impl FnOnce(io::Error) -> ProviderError {
    move |error| ProviderError::Internal { what: format!("{doing}: {error}") }
}
