//! What a machine's users find: their login, their names, their rights.

use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Output, Stdio};

use libtest_mimic::Trial;
use posada_provider_api::Protocol;
use posada_provider_api::network::management;

use crate::rig::{Live, Machine, USER};
use crate::trial;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("its_user_logs_in_by_key_and_finds_its_environment", logs_in),
        trial("sudo_and_apt_work", sudo_and_apt),
        trial("its_cable_carries_frames", has_a_cable),
        trial("a_thousand_sockets_at_once_are_made_and_none_after_the_end", crowd),
        trial("its_names_are_written_and_settle", names),
        trial("only_the_machines_host_key_is_offered", host_key),
    ]
}

pub async fn logs_in() {
    let mut machine = Machine::new("web");
    machine.spec.env.insert("GREETING".to_owned(), "hello $USER, fine".to_owned());
    machine.spec.env.insert("ODD".to_owned(), "a#b".to_owned());
    let live = machine.start().await.unwrap();
    assert_eq!(live.warnings.len(), 1, "{:?}", live.warnings);
    assert!(live.warnings[0].contains("`ODD`"), "{:?}", live.warnings);
    let told = ssh(&live, "echo $USER@$(hostname): $GREETING; sudo id -u").await;
    let text = String::from_utf8_lossy(&told.stdout);
    assert_eq!(text, "posada@web: hello $USER, fine\n0\n", "{told:?}\n{}", live.console());
    live.keeper.kill().unwrap();
    live.end().await;
}

/// Runs a command by ssh, through a socket that the keeper made. The host's key must be the pinned one.
pub async fn ssh(live: &Live<'_>, command: &str) -> Output {
    live.wait_for_run("sshd.pid");
    let socket = live.keeper.socket(Protocol::Tcp).await.unwrap();
    let address: SocketAddr = (management::GUEST, 22).into();
    rustix::net::connect(&socket, &address).unwrap();
    let door = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = door.local_addr().unwrap().port();
    std::thread::spawn(move || relay(&door, &TcpStream::from(socket)));
    let hosts = live.machine.scratch_file("known_hosts");
    let key =
        live.machine.spec.access.host_key_public.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
    std::fs::write(&hosts, format!("machine {key}\n")).unwrap();
    Command::new("ssh")
        .args([
            "-F",
            "none",
            "-o",
            "StrictHostKeyChecking=yes",
            "-o",
            "HostKeyAlias=machine",
            "-o",
            "BatchMode=yes",
        ])
        .arg("-o")
        .arg(format!("UserKnownHostsFile={}", hosts.display()))
        .arg("-i")
        .arg(&live.machine.key)
        .args(["-p", &port.to_string(), &format!("{USER}@127.0.0.1"), command])
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// Lets one connection through.
fn relay(door: &TcpListener, machine: &TcpStream) {
    let (client, _) = door.accept().unwrap();
    let pass = |from: &TcpStream, to: &TcpStream| {
        let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
        std::thread::spawn(move || {
            // A side that has closed for good ends the copy as well.
            let _ = std::io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Write);
        })
    };
    let (there, back) = (pass(&client, machine), pass(machine, &client));
    there.join().unwrap();
    back.join().unwrap();
}

pub async fn sudo_and_apt() {
    let machine = Machine::new("web");
    let live = machine.start().await.unwrap();
    live.boot();
    let told = ssh(&live, "sudo apt-get -qq -y purge ca-certificates 2>&1 && sudo dpkg --audit").await;
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stdout));
    assert!(live.sh("dpkg -s ca-certificates").status.code() != Some(0));
    // The box below is untouched.
    let path = machine.spec.layers[0].tree().unwrap();
    assert!(path.join("etc/ssl/certs/ca-certificates.crt").exists());
    live.keeper.kill().unwrap();
    live.end().await;
}

/// Many connections at once find their sockets.
async fn crowd() {
    let machine = Machine::new("web");
    let live = machine.start().await.unwrap();
    live.wait_for_run("sshd.pid");
    let asked =
        (0..1000).map(|index| live.keeper.socket(if index % 2 == 0 { Protocol::Tcp } else { Protocol::Udp }));
    for (index, made) in futures_util::future::join_all(asked).await.into_iter().enumerate() {
        let kind = rustix::net::sockopt::socket_type(made.unwrap()).unwrap();
        assert_eq!(kind == rustix::net::SocketType::STREAM, index % 2 == 0);
    }
    live.keeper.kill().unwrap();
    live.keeper.ended().await;
    let late = live.keeper.socket(Protocol::Tcp).await.unwrap_err();
    assert_eq!(late.kind(), std::io::ErrorKind::BrokenPipe);
    live.end().await;
}

/// Frames pass between the machine and the far end of its cable.
pub async fn has_a_cable() {
    let machine = Machine::new("web");
    let live = machine.start().await.unwrap();
    assert_eq!(live.warnings, Vec::<String>::new());
    live.boot();
    assert_eq!(live.out("ip -br -4 addr show eth0 | grep -o '10.*'").trim(), "10.0.2.15/24");
    let cable = live.cable.as_ref().expect("a cable");
    // Asks who has the gateway's address.
    live.sh("ping -c1 -W1 10.0.2.2 || (echo > /dev/udp/10.0.2.2/9) 2>/dev/null || bash -c 'echo > /dev/udp/10.0.2.2/9'");
    let mut frame = [0; 2048];
    loop {
        let mut ready = [rustix::event::PollFd::new(cable, rustix::event::PollFlags::IN)];
        let timeout = rustix::event::Timespec { tv_sec: 20, tv_nsec: 0 };
        assert_eq!(rustix::event::poll(&mut ready, Some(&timeout)).unwrap(), 1, "no frame comes");
        let length = rustix::io::read(cable, &mut frame).unwrap();
        let arp = length >= 42 && frame[12..14] == [8, 6] && frame[38..42] == management::GATEWAY.octets();
        if arp {
            assert_eq!(frame[6..12], machine.spec.id.mac(0));
            break;
        }
    }
    live.keeper.kill().unwrap();
    live.end().await;
}

async fn names() {
    let mut machine = Machine::new("db");
    machine.spec.hostname = "db.example.org".to_owned();
    let live = machine.start().await.unwrap();
    live.boot();
    let hosts = live.out("cat /etc/hosts");
    assert!(hosts.contains("127.0.1.1 db.example.org db\n10.0.2.2 host.posada.internal"), "{hosts}");
    assert_eq!(live.out("cat /etc/resolv.conf"), "nameserver 10.0.2.3");
    assert_eq!(live.out("ip -br -4 addr show eth0 | grep -o '10.*'").trim(), "10.0.2.15/24");
    assert_eq!(live.out("ip route show default | cut -d' ' -f1-5"), "default via 10.0.2.2 dev eth0");
    assert_eq!(
        live.out("cut -d: -f1-2 /proc/self/cgroup; cat /proc/1/cgroup | grep ^0:").lines().last(),
        Some("0::/init.scope")
    );
    live.out("echo 10.1.1.1 mine >> /etc/hosts; cp /etc/hosts /srv/hosts; ls -i /etc/ssh/ssh_host_ed25519_key > /srv/inode");
    live.out("systemctl poweroff");
    live.end().await;
    let live = machine.start().await.unwrap();
    live.boot();
    live.out("grep -q '^10.1.1.1 mine' /etc/hosts; test $(grep -c 127.0.1.1 /etc/hosts) = 1");
    live.out("ls -i /etc/ssh/ssh_host_ed25519_key | cmp - /srv/inode");
    live.keeper.kill().unwrap();
    live.end().await;
}

async fn host_key() {
    let machine = Machine::new("web");
    let live = machine.start().await.unwrap();
    live.boot();
    let offered = live.out("sshd -T | grep -i ^hostkey");
    assert_eq!(offered.lines().filter(|line| line.starts_with("hostkey ")).count(), 1, "{offered}");
    let public =
        live.out("cat /etc/ssh/ssh_host_ed25519_key.pub; stat -c %a%u /etc/ssh/ssh_host_ed25519_key");
    assert_eq!(public, format!("{}\n6000", machine.spec.access.host_key_public.trim()));
    live.keeper.kill().unwrap();
    live.end().await;
}
