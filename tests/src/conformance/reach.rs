//! The ways into a running machine.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use posada_provider_api::{Forward, Protocol, Silent};

use super::{Bench, Trial};

/// How long an answer may take of a machine that is up.
const PATIENCE: Duration = Duration::from_secs(120);

/// The line an SSH server greets with (RFC 4253, section 4.2), read through `connect`.
pub(super) async fn banner(trial: &Trial<'_>) -> String {
    let patience = trial.bench.boot_patience();
    let fd = trial.provider().connect(&trial.dir, 22, patience, &Silent).await.expect("connect");
    read_line(fd).await
}

async fn read_line(fd: OwnedFd) -> String {
    tokio::task::spawn_blocking(move || {
        let stream = UnixStream::from(fd);
        stream.set_nonblocking(false).expect("blocking");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).expect("a line");
        assert!(line.starts_with("SSH-2.0-"), "{line:?}");
        line
    })
    .await
    .expect("no panic")
}

pub(super) async fn sshd_is_reached_by_event(bench: &dyn Bench) {
    let trial = Trial::running(bench).await;
    // At once, long before sshd listens.
    banner(&trial).await;
    trial.leave().await;
}

pub(super) async fn the_ssh_endpoint_answers(bench: &dyn Bench) {
    let trial = Trial::running(bench).await;
    let inside = banner(&trial).await;
    let endpoint = trial.provider().ssh_endpoint(&trial.dir).await.unwrap();
    assert!(endpoint.address.ip().is_loopback());
    let outside = TcpStream::connect(endpoint.address).expect("the host's port");
    assert_eq!(read_line(outside.into()).await, inside);
    trial.leave().await;
}

pub(super) async fn forwards_are_in_force(bench: &dyn Bench) {
    let trial = Trial::running(bench).await;
    let inside = banner(&trial).await;
    let ports = trial.provider().forwards(&trial.dir).await.unwrap();
    let port = ports.iter().find(|port| port.asked.name.as_deref() == Some("trial")).expect("the forward");
    assert_ne!(port.host, 0);
    let outside = TcpStream::connect(("127.0.0.1", port.host)).expect("the forwarded port");
    assert_eq!(read_line(outside.into()).await, inside);
    trial.leave().await;
}

pub(super) async fn the_console_is_attached(bench: &dyn Bench) {
    let trial = Trial::running(bench).await;
    banner(&trial).await;
    let console = trial.provider().console(&trial.dir).await.unwrap();
    let mut console = UnixStream::from(console.stream);
    console.set_nonblocking(false).expect("blocking");
    console.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    // The line discipline of the machine's own terminal answers, whatever runs on it.
    console.write_all(b"\n").expect("typed");
    let mut byte = [0];
    console.read_exact(&mut byte).expect("the terminal echoes");
    assert!(trial.dir.console_log().exists());
    trial.leave().await;
}

/// A forward to sshd from this host port.
pub(super) fn forward(host: u16) -> Forward {
    Forward {
        guest: 22,
        host,
        host_ip: std::net::Ipv4Addr::LOCALHOST.into(),
        protocol: Protocol::Tcp,
        auto_correct: false,
        name: Some("trial".to_owned()),
    }
}

/// A port that somebody holds.
pub(super) fn taken_port() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("its address").port();
    (listener, port)
}
