//! `networks`: forwards, private and bridged networks.

use std::net::{IpAddr, Ipv4Addr};

use posada_provider_api::{BridgedNetwork, Forward, Network, PrivateNetwork, Protocol, network::management};

use super::{Decoder, Fields, Given, Located};
use crate::vmfile::node::{Value, shorten};
use crate::vmfile::shape::Shape;
use crate::vmfile::table;

/// Prefix length of a private network that says none.
const PREFIX: u8 = 24;
/// Name of a private network that says none.
const PRIVATE: &str = "private";

impl Decoder<'_> {
    /// The networks given, each with the place of what can collide: a host port, an address.
    pub(super) fn networks(&mut self, given: Given<'_>) -> Vec<Located<Network>> {
        let Shape::List(shape) = given.shape else { return Vec::new() };
        self.list(given, shape).into_iter().filter_map(|entry| self.network(entry)).collect()
    }

    fn network(&mut self, entry: Given<'_>) -> Option<Located<Network>> {
        let Value::Map(keys) = &entry.node.value else {
            self.not_a_network(&entry);
            return None;
        };
        if keys.iter().any(|key| key.key.text == "forward") {
            let fields = self.table(entry.node, &entry.node.span, &table::FORWARD_SHORT);
            return self.short_forward(&fields);
        }
        let kinds =
            [("forward", &table::FORWARD), ("private", &table::PRIVATE), ("bridged", &table::BRIDGED)];
        let kind = self.kind(&entry, &kinds)?;
        let fields = self.table(entry.node, &entry.node.span, kind);
        if std::ptr::eq(kind, &table::FORWARD) {
            self.long_forward(&fields)
        } else if std::ptr::eq(kind, &table::PRIVATE) {
            self.private(&fields, &entry)
        } else {
            self.bridged(&fields, &entry)
        }
    }

    fn not_a_network(&mut self, entry: &Given<'_>) {
        match &entry.node.value {
            Value::Scalar(scalar) if forward(&scalar.text).is_ok() => {
                let message = format!("{} must be a map, not `{}`", entry.label(), shorten(&scalar.text));
                self.faults
                    .push(entry.span(), message)
                    .hint(format!("write `- forward: \"{}\"`", scalar.text));
            }
            _ => self.mismatch(entry),
        }
    }

    fn short_forward(&mut self, fields: &Fields<'_>) -> Option<Located<Network>> {
        let auto_correct = fields.get("auto_correct").and_then(|given| self.truth(&given)).unwrap_or(false);
        let name = fields.get("name").and_then(|given| self.text(&given)).map(|word| word.text.into_owned());
        let given = fields.get("forward")?;
        let word = self.text(&given)?;
        match forward(&word.text) {
            Ok(spec) => Some(Located {
                value: Network::Forward(Forward { auto_correct, name, ..spec }),
                span: given.node.span.clone(),
            }),
            Err(why) => {
                self.reject(
                    &given,
                    &word,
                    &why,
                    format!("write {}, {}", given.shape.describe(), given.such_as()),
                );
                None
            }
        }
    }

    fn long_forward(&mut self, fields: &Fields<'_>) -> Option<Located<Network>> {
        let guest = fields.get("guest").and_then(|given| self.port(&given));
        let (host, span) = match fields.get("host") {
            Some(given) => (self.host_port(&given), given.node.span.clone()),
            None => (Some(0), fields.span.clone()),
        };
        let host_ip = match fields.get("host_ip") {
            Some(given) => self.parsed(&given, |text| {
                text.parse::<IpAddr>().map_err(|_| format!("`{}` is no IP address", shorten(text)))
            }),
            None => Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        };
        let protocol = match fields.get("protocol") {
            Some(given) => self.choice(&given).map(|index| [Protocol::Tcp, Protocol::Udp][index]),
            None => Some(Protocol::Tcp),
        };
        let auto_correct = fields.get("auto_correct").and_then(|given| self.truth(&given)).unwrap_or(false);
        let name = fields.get("name").and_then(|given| self.text(&given)).map(|word| word.text.into_owned());
        let (guest, host, host_ip, protocol) = (guest?, host?, host_ip?, protocol?);
        Some(Located {
            value: Network::Forward(Forward { guest, host, host_ip, protocol, auto_correct, name }),
            span,
        })
    }

    fn host_port(&mut self, given: &Given<'_>) -> Option<u16> {
        if let Value::Scalar(scalar) = &given.node.value
            && !scalar.is_null()
        {
            let word = self.word(given)?;
            if word.text == "auto" {
                return Some(0);
            }
            if word.text == "0" {
                self.reject(given, &word, "is no port", "write `host: auto` for a free one".to_owned());
                return None;
            }
        }
        self.port(given)
    }

    fn private(&mut self, fields: &Fields<'_>, entry: &Given<'_>) -> Option<Located<Network>> {
        let name = match fields.get("name") {
            Some(given) => {
                self.parsed(&given, |text| posada_provider_api::MachineName::new(text).map(String::from))
            }
            None => Some(PRIVATE.to_owned()),
        };
        let Some(given) = fields.get("ip") else {
            let value = Network::Private(PrivateNetwork { name: name?, ip: None, prefix: PREFIX });
            return Some(Located { value, span: entry.node.span.clone() });
        };
        let (ip, prefix) = self.parsed(&given, |text| {
            let (ip, prefix) = address(text)?;
            let prefix = prefix.unwrap_or(PREFIX);
            host_address(ip, prefix, 8..=30)?;
            if subnet(ip, prefix.min(management::PREFIX))
                == subnet(management::GUEST, prefix.min(management::PREFIX))
            {
                let taken = subnet(management::GUEST, management::PREFIX);
                return Err(format!(
                    "`{text}` lies in {taken}/{}, where each machine reaches the outside",
                    management::PREFIX
                ));
            }
            Ok((ip, prefix))
        })?;
        let value = Network::Private(PrivateNetwork { name: name?, ip: Some(ip), prefix });
        Some(Located { value, span: given.node.span.clone() })
    }

    fn bridged(&mut self, fields: &Fields<'_>, entry: &Given<'_>) -> Option<Located<Network>> {
        let interface = match fields.get("interface") {
            Some(given) => Some(self.parsed(&given, |text| {
                let good =
                    text.len() <= 15 && !text.contains(|c: char| c == '/' || c == ':' || c.is_whitespace());
                if good {
                    Ok(text.to_owned())
                } else {
                    Err(format!("`{}` is no interface name", shorten(text)))
                }
            })?),
            None => None,
        };
        let ip = match fields.get("ip") {
            Some(given) => Some(self.parsed(&given, |text| {
                let (ip, prefix) = address(text)?;
                let prefix = prefix.ok_or_else(|| format!("`{text}` lacks the network's prefix length"))?;
                host_address(ip, prefix, 8..=30)?;
                Ok::<_, String>((ip, prefix))
            })?),
            None => None,
        };
        let span = fields.get("ip").map_or_else(|| entry.node.span.clone(), |given| given.node.span.clone());
        Some(Located { value: Network::Bridged(BridgedNetwork { interface, ip }), span })
    }
}

/// The network that an address lies in.
pub(in crate::vmfile) fn subnet(ip: Ipv4Addr, prefix: u8) -> Ipv4Addr {
    let mask = u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0);
    Ipv4Addr::from_bits(ip.to_bits() & mask)
}

/// Reads `[address:][host:]guest[/protocol]`.
fn forward(text: &str) -> Result<Forward, String> {
    let (ports, protocol) = match text.split_once('/') {
        None | Some((_, "tcp")) => (text.split('/').next().unwrap_or(text), Protocol::Tcp),
        Some((ports, "udp")) => (ports, Protocol::Udp),
        Some((_, other)) => {
            return Err(format!("names a protocol `{}` that is neither tcp nor udp", shorten(other)));
        }
    };
    let port = |text: &str| match text.parse::<u16>() {
        Ok(port) if port > 0 && !text.starts_with('+') => Ok(port),
        _ => Err(format!("holds `{}`, which is no port from 1 to 65535", shorten(text))),
    };
    let (rest, guest) = ports.rsplit_once(':').map_or((None, ports), |(rest, guest)| (Some(rest), guest));
    let guest = port(guest)?;
    let (address, host) = match rest {
        None => (None, "auto"),
        Some(rest) if rest.ends_with(']') => (Some(rest), "auto"),
        Some(rest) => match rest.rsplit_once(':') {
            Some((address, host)) => (Some(address), host),
            None if rest.contains('.') => (Some(rest), "auto"),
            None => (None, rest),
        },
    };
    let host = if matches!(host, "" | "auto") { 0 } else { port(host)? };
    let host_ip = match address {
        None => IpAddr::V4(Ipv4Addr::LOCALHOST),
        Some(address) => {
            let bare = address.strip_prefix('[').and_then(|a| a.strip_suffix(']'));
            let parsed = match bare {
                Some(bare) => bare.parse().map(IpAddr::V6).ok(),
                None => address.parse().map(IpAddr::V4).ok(),
            };
            parsed.ok_or_else(|| format!("holds `{}`, which is no IP address", shorten(address)))?
        }
    };
    Ok(Forward { guest, host, host_ip, protocol, auto_correct: false, name: None })
}

/// Reads `address[/prefix]`.
fn address(text: &str) -> Result<(Ipv4Addr, Option<u8>), String> {
    let (ip, prefix) = text.split_once('/').map_or((text, None), |(ip, prefix)| (ip, Some(prefix)));
    let ip = ip.parse::<Ipv4Addr>().map_err(|_| format!("`{}` is no IPv4 address", shorten(text)))?;
    let prefix = prefix
        .map(|prefix| {
            prefix.parse::<u8>().ok().filter(|_| prefix.bytes().all(|b| b.is_ascii_digit())).ok_or(prefix)
        })
        .transpose()
        .map_err(|prefix| format!("`{}` is no prefix length", shorten(prefix)))?;
    Ok((ip, prefix))
}

/// Checks that an address can be a machine's.
fn host_address(ip: Ipv4Addr, prefix: u8, prefixes: std::ops::RangeInclusive<u8>) -> Result<(), String> {
    if !prefixes.contains(&prefix) {
        return Err(format!(
            "the prefix length {prefix} is out of range, it must be {} to {}",
            prefixes.start(),
            prefixes.end()
        ));
    }
    let network = subnet(ip, prefix);
    let broadcast = Ipv4Addr::from_bits(network.to_bits() | (u32::MAX >> prefix));
    if ip.is_loopback()
        || ip.is_multicast()
        || ip.is_unspecified()
        || ip.octets()[0] == 0
        || ip.octets()[0] >= 224
    {
        Err(format!("`{ip}` cannot be a machine's address"))
    } else if ip == network {
        Err(format!("`{ip}` is the address of the network {network}/{prefix} itself"))
    } else if ip == broadcast {
        Err(format!("`{ip}` is the broadcast address of the network {network}/{prefix}"))
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn short_forwards_are_read() {
        let read = |text: &str| {
            forward(text).map(|f| (f.host_ip.to_string(), f.host, f.guest, f.protocol == Protocol::Udp))
        };
        let local = || "127.0.0.1".to_owned();
        for (text, expected) in [
            ("8080:80", (local(), 8080, 80, false)),
            ("8080:80/udp", (local(), 8080, 80, true)),
            ("80", (local(), 0, 80, false)),
            ("auto:80/tcp", (local(), 0, 80, false)),
            ("0.0.0.0:8080:80", ("0.0.0.0".to_owned(), 8080, 80, false)),
            ("10.1.2.3::80", ("10.1.2.3".to_owned(), 0, 80, false)),
            ("10.1.2.3:80", ("10.1.2.3".to_owned(), 0, 80, false)),
            ("[::1]:8080:80", ("::1".to_owned(), 8080, 80, false)),
            ("[::1]:80", ("::1".to_owned(), 0, 80, false)),
        ] {
            assert_eq!(read(text), Ok(expected), "{text}");
        }
        for text in [
            "",
            "0:80",
            "80:0",
            "65536:80",
            "8080:80/sctp",
            "x:80",
            "1:2:3",
            "[::1:80",
            "::1:80",
            "+1:2",
            "80:",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn addresses_must_be_a_machines() {
        let check = |text: &str| {
            let (ip, prefix) = address(text)?;
            host_address(ip, prefix.unwrap_or(24), 8..=30)
        };
        for good in ["192.168.56.10/24", "10.0.0.1", "172.16.0.0/12", "192.168.56.255/16"] {
            if good.starts_with("172") {
                assert!(check(good).is_err(), "{good}");
            } else {
                assert_eq!(check(good), Ok(()), "{good}");
            }
        }
        for bad in [
            "192.168.56.0",
            "192.168.56.255",
            "127.0.0.1",
            "224.0.0.1",
            "10.0.0.1/31",
            "10.0.0.1/+8",
            "1.2.3",
            "::1",
        ] {
            assert!(check(bad).is_err(), "{bad}");
        }
        assert_eq!(subnet(Ipv4Addr::new(10, 1, 2, 3), 0), Ipv4Addr::UNSPECIFIED);
        assert_eq!(subnet(Ipv4Addr::new(10, 1, 2, 3), 16), Ipv4Addr::new(10, 1, 0, 0));
    }

    proptest! {
        #[test]
        fn anything_may_be_read(text in "[0-9a-f:./\\[\\]]{0,24}") {
            let _ = (forward(&text), address(&text));
        }
    }
}
