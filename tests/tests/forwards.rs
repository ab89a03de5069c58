//! Forwarded ports.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener};

use posada_tests::{Sandbox, net, wait};

/// An echo server in the machine, on TCP and UDP port 7777, that outlives the SSH session.
const ECHO: &str = "sudo systemd-run --quiet --unit=echo-tcp perl -MSocket -e '
    socket(S, PF_INET, SOCK_STREAM, 0); setsockopt(S, SOL_SOCKET, SO_REUSEADDR, 1);
    bind(S, sockaddr_in(7777, INADDR_ANY)) or die; listen(S, 64);
    $SIG{CHLD} = \"IGNORE\";
    while (accept(C, S)) { if (fork) { close(C); next } while (sysread(C, $d, 65536)) { syswrite(C, $d) } exit }'
  sudo systemd-run --quiet --unit=echo-udp perl -MSocket -e '
    socket(S, PF_INET, SOCK_DGRAM, 0); bind(S, sockaddr_in(7777, INADDR_ANY)) or die;
    while ($from = recv(S, $d, 65536, 0)) { send(S, \"echo $d\", 0, $from) }'
  until ss -Htln | grep -q :7777 && ss -Huln | grep -q :7777; do sleep 0.05; done";

#[test]
fn tcp_and_udp_reach_the_machine() {
    let sandbox = Sandbox::with(
        "box: debian/12\nprovider: container\nnetworks:\n  - forward: 'auto:7777'\n  - forward: 'auto:7777/udp'\n",
    );
    sandbox.ok(&["up"]);
    sandbox.inside(ECHO);
    let ports = sandbox.json(&["port"]);
    let host = |protocol: &str| {
        ports
            .iter()
            .find(|event| {
                event["event"] == "forward" && event["protocol"] == protocol && event["guest"] == 7777
            })
            .and_then(|event| event["host"].as_u64())
            .and_then(|port| u16::try_from(port).ok())
            .unwrap_or_else(|| panic!("{protocol}: {ports:?}"))
    };
    let (tcp, udp) = (host("tcp"), host("udp"));

    // Megabytes both ways at once, and the half-close at the end is passed on.
    let mut stream = net::connect(tcp).unwrap();
    let sent: Vec<u8> = (0..4_000_000_u32).map(|n| n.to_le_bytes()[n as usize % 4]).collect();
    let mut writing = stream.try_clone().unwrap();
    let copy = sent.clone();
    let writer = std::thread::spawn(move || {
        writing.write_all(&copy).unwrap();
        writing.shutdown(std::net::Shutdown::Write).unwrap();
    });
    let mut received = Vec::new();
    stream.read_to_end(&mut received).unwrap();
    writer.join().unwrap();
    assert!(received == sent, "{} of {} bytes came back as they were", received.len(), sent.len());

    assert_eq!(net::udp_ask(udp, "one"), "echo one");
    let large = "x".repeat(1400);
    assert_eq!(net::udp_ask(udp, &large), format!("echo {large}"));
}

#[test]
fn many_connections_at_once() {
    let sandbox = Sandbox::with("box: debian/12\nprovider: container\nnetworks:\n  - forward: 'auto:7777'\n");
    sandbox.ok(&["up"]);
    sandbox.inside(ECHO);
    let port: u16 = sandbox.ok(&["port", "default", "7777"]).stdout.trim().parse().unwrap();
    let threads: Vec<_> = (0..100)
        .map(|number| {
            std::thread::spawn(move || {
                let mut stream = net::connect(port).unwrap();
                let text = format!("connection {number}");
                stream.write_all(text.as_bytes()).unwrap();
                stream.shutdown(std::net::Shutdown::Write).unwrap();
                let mut answer = String::new();
                stream.read_to_string(&mut answer).unwrap();
                assert_eq!(answer, text);
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
}

#[test]
fn a_port_nobody_serves_inside_is_refused_outside() {
    let sandbox = Sandbox::with("box: debian/12\nprovider: container\nnetworks:\n  - forward: 'auto:9'\n");
    sandbox.ok(&["up"]);
    let port: u16 = sandbox.ok(&["port", "default", "9"]).stdout.trim().parse().unwrap();
    // The refusal comes when the connection is open, which may be before its own opener looks.
    let answer = net::connect(port).and_then(|mut stream| stream.read(&mut [0; 1]));
    assert!(
        answer.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset),
        "{answer:?}"
    );
}

#[test]
fn forwards_listen_on_loopback_alone_unless_told() {
    let sandbox = Sandbox::with(
        "box: debian/12\nprovider: container\nnetworks:\n  - {type: forward, guest: 7777, host: auto}\n  - {type: forward, guest: 7778, host: auto, host_ip: 0.0.0.0}\n",
    );
    sandbox.ok(&["up"]);
    let listening = |guest: &str| {
        let port: u16 = sandbox.ok(&["port", "default", guest]).stdout.trim().parse().unwrap();
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
        let suffix = format!(":{port:04X}");
        let address = table
            .lines()
            .filter_map(|line| line.split_whitespace().nth(1))
            .find(|local| local.ends_with(&suffix))
            .unwrap_or_else(|| panic!("nothing listens on {port}\n{table}"))
            .to_owned();
        address.trim_end_matches(&suffix).to_owned()
    };
    assert_eq!(listening("7777"), "0100007F");
    assert_eq!(listening("7778"), "00000000");
}

#[test]
fn a_taken_port_is_told_with_its_holder_and_nothing_stays_behind() {
    let holder = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = holder.local_addr().unwrap().port();
    let vmfile = format!(
        "box: debian/12\nprovider: container\nnetworks:\n  - {{type: forward, guest: 80, host: {port}}}\n"
    );
    let sandbox = Sandbox::with(&vmfile);
    let me = std::process::id().to_string();
    sandbox.run(&["up"]).ended_with(4).says(&port.to_string()).says(&me).says("auto_correct");
    assert_ne!(sandbox.state("default").as_deref(), Some("running"));

    // The holder goes; the same command works.
    drop(holder);
    sandbox.ok(&["up"]);
    assert_eq!(sandbox.ok(&["port", "default", "80"]).stdout.trim(), port.to_string());
}

#[test]
fn auto_correct_takes_another_port_and_says_which() {
    let holder = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let taken = holder.local_addr().unwrap().port();
    let sandbox = Sandbox::with(&format!(
        "box: debian/12\nprovider: container\nnetworks:\n  - {{type: forward, guest: 7777, host: {taken}, auto_correct: true}}\n"
    ));
    let up = sandbox.ok(&["up"]);
    let port: u16 = sandbox.ok(&["port", "default", "7777"]).stdout.trim().parse().unwrap();
    assert_ne!(port, taken);
    up.says(&port.to_string());
    sandbox.inside(ECHO);
    let mut stream = net::connect(port).unwrap();
    stream.write_all(b"corrected").unwrap();
    let mut answer = [0; 9];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"corrected");
}

#[test]
fn a_halted_machine_holds_no_port() {
    let port = net::free_port();
    let sandbox =
        Sandbox::with(&format!("box: debian/12\nprovider: container\nnetworks:\n  - forward: '{port}:22'\n"));
    sandbox.ok(&["up"]);
    let mut banner = [0; 4];
    net::connect(port).unwrap().read_exact(&mut banner).unwrap();
    assert_eq!(&banner, b"SSH-");
    sandbox.ok(&["halt"]);
    wait::until_true("the port to be free", || TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok());
}
