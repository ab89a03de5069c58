//! The host's list of name servers (`resolv.conf(5)`).

use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};

const PORT: u16 = 53;

/// The name servers that `text` lists, in its order.
pub(super) fn parse(text: &str) -> Vec<SocketAddr> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split_ascii_whitespace();
            (words.next() == Some("nameserver")).then(|| words.next()).flatten().and_then(server)
        })
        .collect()
}

fn server(word: &str) -> Option<SocketAddr> {
    if let Some((address, interface)) = word.split_once('%') {
        // A link-local address is one of an interface, given by name or by index.
        let address: Ipv6Addr = address.parse().ok()?;
        let index = match interface.parse() {
            Ok(index) => index,
            Err(_) => nix::net::if_::if_nametoindex(interface).ok()?,
        };
        return Some(SocketAddrV6::new(address, PORT, 0, index).into());
    }
    word.parse::<IpAddr>().ok().map(|address| SocketAddr::new(address, PORT))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lists_servers_of_both_families_in_order() {
        let text = "# made by something\nsearch example.org\nnameserver 127.0.0.53\n nameserver\t2001:db8::1 # two\n\
                    nameserver fe80::1%1\nnameserver fe80::1%no-such-interface\nnameserver nonsense\nnameserver\n\
                    #nameserver 192.0.2.1\noptions edns0";
        let scoped = SocketAddrV6::new("fe80::1".parse().unwrap(), 53, 0, 1);
        assert_eq!(
            parse(text),
            ["127.0.0.53:53".parse().unwrap(), "[2001:db8::1]:53".parse().unwrap(), SocketAddr::V6(scoped)]
        );
    }

    proptest! {
        #[test]
        fn garbage_is_survived(text in ".{0,200}") {
            let _ = parse(&format!("nameserver {text}"));
        }
    }
}
