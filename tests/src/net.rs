//! Small network clients and servers of the tests' own.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(20);

/// A TCP port of the loopback address that nobody held a moment ago.
///
/// # Panics
/// Where none can be had.
#[must_use]
pub fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("its address").port()
}

/// A connection to a port of the loopback address.
///
/// # Errors
/// Those of connect(2).
pub fn connect(port: u16) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)), PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// What `GET path` gives, head and body.
///
/// # Panics
/// Where nothing answers.
#[must_use]
#[track_caller]
pub fn http_get(port: u16, path: &str) -> String {
    let mut stream = connect(port).unwrap_or_else(|error| panic!("127.0.0.1:{port}: {error}"));
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").expect("a request");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer");
    String::from_utf8_lossy(&answer).into_owned()
}

/// Sends `text` to a UDP port of the loopback address and gives what comes back.
///
/// # Panics
/// Where nothing comes back.
#[must_use]
#[track_caller]
pub fn udp_ask(port: u16, text: &str) -> String {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    socket.send_to(text.as_bytes(), (Ipv4Addr::LOCALHOST, port)).expect("a datagram sent");
    let mut buffer = [0; 65536];
    let (length, _) =
        socket.recv_from(&mut buffer).unwrap_or_else(|error| panic!("no answer from {port}/udp: {error}"));
    String::from_utf8_lossy(&buffer[..length]).into_owned()
}
