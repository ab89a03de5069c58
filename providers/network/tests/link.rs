//! Taps and the configuration of interfaces, in network namespaces of their own.

mod common;

use common::{in_fresh_netns, run};
use posada_network::link::{self, Interface, LinkError};
use posada_network::tap;
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
