//! A host and a guest, each in a network namespace of its own, with the NAT between them over a real tap.

use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use nix::sched::{CloneFlags, unshare};
use posada_network::link::{self, Interface};
use posada_network::nat::{Nat, NatConfig};
use posada_network::{packet, tap};

use super::run;

pub const MAC: [u8; 6] = [0x52, 0x3f, 0x9a, 0x1c, 0x20, 0];
/// An address of the host that is not its loopback address.
pub const WORLD: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

type Job = Box<dyn FnOnce() + Send>;

/// A thread in a network namespace of its own that does what it is told.
pub struct Namespace {
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Namespace {
    pub fn new() -> Self {
        let (jobs, queue) = mpsc::channel::<Job>();
        let thread = thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET)
                .expect("this test makes network namespaces: run it as root, or in `unshare -Ur`");
            link::up_loopback().unwrap();
            for job in queue {
                job();
            }
        });
        Self { jobs: Some(jobs), thread: Some(thread) }
    }

    /// Starts `job` inside and returns where its result will be.
    pub fn start<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> mpsc::Receiver<T> {
        let (result, receiver) = mpsc::channel();
        let job: Job = Box::new(move || {
            let _ = result.send(job());
        });
        self.jobs.as_ref().expect("open").send(job).expect("the namespace's thread has not panicked");
        receiver
    }

    /// Does `job` inside.
    pub fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        self.start(job).recv().expect("the job has not panicked")
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        drop(self.jobs.take());
        let result = self.thread.take().expect("once").join();
        if !thread::panicking() {
            result.expect("no job has panicked");
        }
    }
}

/// Host, guest, and the NAT between them.
pub struct World {
    pub host: Namespace,
    pub guest: Namespace,
    pub nat: Nat,
}

impl World {
    pub fn new() -> Self {
        Self::with(NatConfig::new(MAC, "web", "/nonexistent/resolv.conf"), true, |tap, _| tap)
    }

    /// The same over a packet socket in place of the tap.
    pub fn without_tap() -> Self {
        let config = NatConfig::new(MAC, "web", "/nonexistent/resolv.conf");
        Self::over(config, true, || packet::create("eth0", MAC).unwrap(), |end, _| end)
    }

    /// Makes a world with `config`; `cable` may put something between the tap and the NAT, working in the host's
    /// namespace. The guest's interface is set up, or left to DHCP.
    pub fn with(
        config: NatConfig,
        configured: bool,
        cable: impl FnOnce(OwnedFd, &Namespace) -> OwnedFd,
    ) -> Self {
        let make = || tap::create("eth0", MAC).expect("make a tap: needs /dev/net/tun");
        Self::over(config, configured, make, cable)
    }

    fn over(
        config: NatConfig,
        configured: bool,
        make: impl FnOnce() -> OwnedFd + Send + 'static,
        cable: impl FnOnce(OwnedFd, &Namespace) -> OwnedFd,
    ) -> Self {
        let (host, guest) = (Namespace::new(), Namespace::new());
        host.run(|| run(&format!("ip address add {WORLD}/32 dev lo")));
        let mtu = config.mtu;
        let tap = guest.run(move || {
            let tap = make();
            if configured {
                link::configure(&Interface { mtu: Some(mtu), ..Interface::management("eth0", MAC) }).unwrap();
            } else {
                run("ip link set eth0 up");
            }
            tap
        });
        let end = cable(tap, &host);
        let nat = host.run(move || Nat::start(end, config).unwrap());
        Self { host, guest, nat }
    }
}
