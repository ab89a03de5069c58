//! Taps and the configuration of interfaces, in network namespaces of their own.

mod common;

use std::fs::Permissions;
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use common::{in_fresh_netns, output, run};
use posada_network::link::{self, Interface, LinkError};
use posada_network::{packet, tap};
use posada_provider_api::network::management;

const MAC: [u8; 6] = [0x52, 0x3f, 0x9a, 0x1c, 0x20, 0];

#[test]
fn a_management_interface_has_address_routes_and_mac() {
    in_fresh_netns(|| {
        link::up_loopback().unwrap();
        let _tap = tap::create("eth0", MAC).expect("make a tap: needs /dev/net/tun");
        link::configure(&Interface::management("eth0", MAC)).unwrap();

        let shown = run("ip link show eth0");
        assert!(shown.contains("52:3f:9a:1c:20:00"), "{shown}");
        assert!(shown.contains(&format!("mtu {}", management::MTU)), "{shown}");
        assert!(shown.contains("UP"), "{shown}");
        let address = run("ip -4 address show eth0");
        assert!(address.contains("inet 10.0.2.15/24 brd 10.0.2.255 scope global"), "{address}");
        let routes = run("ip -4 route show");
        assert!(routes.contains("default via 10.0.2.2 dev eth0"), "{routes}");
        assert!(routes.contains("10.0.2.0/24 dev eth0"), "{routes}");
        assert_eq!(routes.lines().count(), 2, "{routes}");
        let local = run("ip -4 route show table local");
        let own = local.lines().find(|l| l.starts_with("local 10.0.2.15")).expect("a local route");
        assert!(own.contains("quickack 1"), "{own}");
        assert!(run("ip route get 10.0.2.15").contains("dev lo"));
        assert!(run("ip link show lo").contains("LOOPBACK,UP"));
    });
}

#[test]
fn configuring_twice_is_the_same_as_once() {
    in_fresh_netns(|| {
        let _tap = tap::create("eth0", MAC).unwrap();
        let wanted = Interface::management("eth0", MAC);
        link::configure(&Interface { gateway: None, ..wanted.clone() }).unwrap();
        run("ip link set eth0 down");
        link::configure(&wanted).unwrap();
        let first = run("ip -4 route show table all");
        run("ip link set eth0 down");
        link::configure(&wanted).unwrap();
        assert_eq!(run("ip -4 route show table all"), first);
    });
}

#[test]
fn the_interface_ends_with_its_descriptor() {
    in_fresh_netns(|| {
        drop(tap::create("eth0", MAC).unwrap());
        assert!(matches!(
            link::configure(&Interface::management("eth0", MAC)),
            Err(LinkError::Missing(name)) if name == "eth0"
        ));
    });
}

#[test]
fn a_taken_name_is_an_error_that_names_it() {
    in_fresh_netns(|| {
        let _tap = tap::create("eth0", MAC).unwrap();
        let error = tap::create("eth0", MAC).unwrap_err();
        assert_eq!(error.to_string(), "cannot make the network interface `eth0`");
    });
}

#[test]
fn a_cable_without_a_tap_carries_whole_frames_and_ends_with_its_descriptor() {
    in_fresh_netns(|| {
        let socket = packet::create("eth0", MAC).unwrap();
        link::configure(&Interface::management("eth0", MAC)).unwrap();
        let shown = run("ip -d link show eth0");
        assert!(shown.contains("52:3f:9a:1c:20:00") && shown.contains("veth"), "{shown}");
        assert_eq!(run("ip -o link show").lines().count(), 2, "the far end is not seen here");

        // A static neighbour, so that the very first frame is the datagram.
        run("ip neighbour add 10.0.2.2 lladdr 52:55:0a:00:02:02 dev eth0 nud permanent");
        let sender = UdpSocket::bind("10.0.2.15:0").unwrap();
        let payload = vec![0xa5; 30_001];
        sender.send_to(&payload, "10.0.2.2:7").unwrap();
        rustix::io::ioctl_fionbio(&socket, false).unwrap();
        let mut frame = vec![0; 70_000];
        let udp = loop {
            let length = rustix::io::read(&socket, &mut frame[..]).unwrap();
            // The kernel announces the interface to IPv6 routers in between.
            if frame[12..14] == [8, 0] && frame[23] == 17 {
                break &frame[14..length];
            }
        };
        let packet = smoltcp::wire::Ipv4Packet::new_checked(udp).unwrap();
        let datagram = smoltcp::wire::UdpPacket::new_checked(packet.payload()).unwrap();
        assert_eq!(datagram.payload(), payload);
        let (from, to) = (packet.src_addr().into(), packet.dst_addr().into());
        assert!(datagram.verify_checksum(&from, &to), "the checksum is filled in");

        drop(socket);
        // The kernel takes namespaces apart in the background.
        let deadline = Instant::now() + Duration::from_secs(10);
        while output("ip link show eth0").status.success() {
            assert!(Instant::now() < deadline, "the interface outlives its cable");
        }
    });
}

/// Runs itself again as an ordinary user does: in a user namespace, with no right outside of it.
#[test]
fn a_cable_without_a_tap_needs_no_rights_on_the_host() {
    const INSIDE: &str = "POSADA_TEST_INSIDE";
    if std::env::var_os(INSIDE).is_some() {
        // One thread, in the namespaces that `unshare` has made.
        link::up_loopback().unwrap();
        let _socket = packet::create("eth0", MAC).unwrap();
        link::configure(&Interface::management("eth0", MAC)).unwrap();
        assert!(run("ip -4 address show eth0").contains("10.0.2.15/24"));
        return;
    }
    // Wherever this program lies, another user may not get there.
    let dir = tempfile::tempdir().unwrap();
    fs_err::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
    let test = dir.path().join("test");
    fs_err::copy(std::env::current_exe().unwrap(), &test).unwrap();
    let name = "a_cable_without_a_tap_needs_no_rights_on_the_host";
    let nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    let drop = if nix::unistd::geteuid().is_root() { &nobody[..] } else { &["env"] };
    let shown = std::process::Command::new(drop[0])
        .args(&drop[1..])
        .args(["unshare", "--user", "--map-root-user", "--net"])
        .arg(&test)
        .args(["--exact", name, "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&shown.stdout);
    assert!(
        shown.status.success() && text.contains("1 passed"),
        "{text}{}",
        String::from_utf8_lossy(&shown.stderr)
    );
}
