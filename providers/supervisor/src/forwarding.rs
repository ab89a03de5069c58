//! The ports of the host that lead into a machine: bound before it is started, served for as long as it is owned.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use posada_network::forward::{Dial, Forwards, Running};
use posada_provider_api::{
    Forward, ForwardedPort, MachineDir, MachineSpec, Network, Observer, Protocol, ProviderError,
};

use crate::machine::{Machine, Stage};

/// The port sshd listens on in a machine.
pub const SSH_PORT: u16 = 22;

/// Host ports that are bound: nobody else gets them, and clients wait in the kernel's queue.
#[derive(Debug)]
pub struct Bound {
    forwards: Forwards,
    ssh: Option<u16>,
}

/// Binds the forwards that `spec` asks for, and one that leads to sshd where it asks for none. To be done before
/// anything is started: a taken port is told at once and costs nothing.
///
/// # Errors
/// [`ProviderError::PortTaken`].
pub fn bind(dir: &MachineDir, spec: &MachineSpec) -> Result<Bound, ProviderError> {
    let mut wanted: Vec<Forward> = spec
        .networks
        .iter()
        .filter_map(|network| match network {
            Network::Forward(forward) => Some(forward.clone()),
            _ => None,
        })
        .collect();
    let is_ssh = |f: &Forward| f.guest == SSH_PORT && f.protocol == Protocol::Tcp && f.host_ip.is_loopback();
    if !wanted.iter().any(is_ssh) {
        wanted.push(ssh_forward(dir));
    }
    let forwards = Forwards::bind(&wanted)?;
    let ssh = forwards.ports().iter().find(|port| is_ssh(&port.asked)).map(|port| port.host);
    if let Some(port) = ssh {
        // Only a wish for the next start: losing it costs a changed port, nothing else.
        let _ = fs_err::write(ssh_port_file(dir), port.to_string());
    }
    Ok(Bound { forwards, ssh })
}

impl Bound {
    /// Leads what comes at the ports into `machine`, until the result is dropped.
    ///
    /// # Errors
    /// Where a socket cannot be handed to the runtime.
    pub(crate) fn serve(self, machine: &Arc<Machine>) -> Result<Running, ProviderError> {
        let ports = self.forwards.ports();
        for ForwardedPort { asked, host } in &ports {
            if asked.host != 0 && asked.host != *host && asked.guest != SSH_PORT {
                machine.warn(&format!("port {} is taken; forwarding {host} instead", asked.host));
            }
        }
        machine.set_forwards(ports, self.ssh);
        self.forwards.run(Arc::new(Dialer(machine.clone()))).map_err(|error| ProviderError::Internal {
            what: format!("listen on the forwarded ports: {error}"),
        })
    }
}

/// The forward that leads to sshd where the Vmfile asks for none: the port of the last start if it is free.
fn ssh_forward(dir: &MachineDir) -> Forward {
    let last = fs_err::read_to_string(ssh_port_file(dir)).ok().and_then(|text| text.trim().parse().ok());
    Forward {
        guest: SSH_PORT,
        host: last.unwrap_or(0),
        host_ip: Ipv4Addr::LOCALHOST.into(),
        protocol: Protocol::Tcp,
        auto_correct: true,
        name: Some("ssh".to_owned()),
    }
}

fn ssh_port_file(dir: &MachineDir) -> PathBuf {
    dir.path().join("ssh_port")
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
