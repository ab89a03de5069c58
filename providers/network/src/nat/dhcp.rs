//! The DHCP server (RFC 2131, RFC 2132): one guest, one address, always the same.

mod question;

use std::net::Ipv4Addr;

use dhcproto::v4::{DhcpOption, Flags, Message, MessageType, Opcode};
use dhcproto::{Encodable, Encoder};
use posada_provider_api::network::management::{DNS, GATEWAY, GUEST, PREFIX};

use question::Question;

pub(super) const SERVER_PORT: u16 = 67;
pub(super) const CLIENT_PORT: u16 = 68;

/// Seconds; nobody else can be given the address, a day spares the guest renewals.
const LEASE: u32 = 24 * 60 * 60;

/// What to send, and where to.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) destination: Ipv4Addr,
    pub(super) payload: Vec<u8>,
}

/// What the guest is told.
#[derive(Debug)]
pub(super) struct Server {
    guest_mac: [u8; 6],
    hostname: String,
    mtu: u16,
}

impl Server {
    pub(super) fn new(guest_mac: [u8; 6], hostname: String, mtu: u16) -> Self {
        Self { guest_mac, hostname, mtu }
    }

    /// The answer to a message of a client; `None` where it deserves none.
    pub(super) fn answer(&self, payload: &[u8]) -> Option<Answer> {
        let asked = Question::parse(payload)?;
        // Something behind the guest (a bridge of its own) is not ours to number.
        if asked.mac != self.guest_mac {
            return None;
        }
        let kind = match asked.kind {
            MessageType::Discover => MessageType::Offer,
            MessageType::Request => grant(&asked)?,
            MessageType::Inform => MessageType::Ack,
            _ => return None,
        };
        let inform = asked.kind == MessageType::Inform;
        let nak = kind == MessageType::Nak;
        let mut answer = Message::default();
        answer
            .set_opcode(Opcode::BootReply)
            .set_xid(asked.transaction)
            .set_flags(Flags::new(asked.flags))
            .set_chaddr(&asked.mac);
        if inform {
            answer.set_ciaddr(asked.client);
        } else if !nak {
            answer.set_yiaddr(GUEST);
        }
        let options = answer.opts_mut();
        options.insert(DhcpOption::MessageType(kind));
        options.insert(DhcpOption::ServerIdentifier(GATEWAY));
        if !nak {
            options.insert(DhcpOption::SubnetMask(Ipv4Addr::from_bits(u32::MAX << (32 - PREFIX))));
            options.insert(DhcpOption::Router(vec![GATEWAY]));
            options.insert(DhcpOption::DomainNameServer(vec![DNS]));
            options.insert(DhcpOption::InterfaceMtu(self.mtu));
            if !self.hostname.is_empty() {
                options.insert(DhcpOption::Hostname(self.hostname.clone()));
            }
            if !inform {
                options.insert(DhcpOption::AddressLeaseTime(LEASE));
            }
        }
        // RFC 2131, section 4.1: a client without an address may want its answer to everybody.
        let destination = if asked.client.is_unspecified() && (asked.wants_broadcast() || nak) {
            Ipv4Addr::BROADCAST
        } else {
            GUEST
        };
        let mut bytes = Vec::with_capacity(MIN_SIZE);
        answer.encode(&mut Encoder::new(&mut bytes)).ok()?;
        bytes.resize(bytes.len().max(MIN_SIZE), 0);
        Some(Answer { destination, payload: bytes })
    }
}

/// Whether a request is for what we give (RFC 2131, section 4.3.2); `None` where another server is meant.
fn grant(asked: &Question) -> Option<MessageType> {
    if asked.server.is_some_and(|server| server != GATEWAY) {
        return None;
    }
    let wanted = asked.requested.unwrap_or(asked.client);
    Some(if wanted == GUEST { MessageType::Ack } else { MessageType::Nak })
}

/// BOOTP's size, which old clients insist on (RFC 1542, section 2.1).
const MIN_SIZE: usize = 300;

#[cfg(test)]
mod tests {
    use dhcproto::v4::OptionCode;
    use dhcproto::{Decodable, Decoder};
    use proptest::prelude::*;

    use super::*;

    const MAC: [u8; 6] = [0x52, 1, 2, 3, 4, 0];

    fn server() -> Server {
        Server::new(MAC, "web".to_owned(), 65_520)
    }

    fn ask(kind: MessageType, mac: [u8; 6], change: impl FnOnce(&mut Message)) -> Vec<u8> {
        let mut message = Message::default();
        message.set_opcode(Opcode::BootRequest).set_xid(77).set_chaddr(&mac);
        message.opts_mut().insert(DhcpOption::MessageType(kind));
        change(&mut message);
        let mut bytes = Vec::new();
        message.encode(&mut Encoder::new(&mut bytes)).unwrap();
        bytes
    }

    fn read(answer: &Answer) -> Message {
        Message::decode(&mut Decoder::new(&answer.payload)).unwrap()
    }

    #[test]
    fn a_discover_gets_an_offer_of_everything() {
        let answer = server().answer(&ask(MessageType::Discover, MAC, |_| {})).unwrap();
        let offer = read(&answer);
        assert_eq!(answer.destination, GUEST);
        assert_eq!((offer.xid(), offer.yiaddr()), (77, GUEST));
        assert_eq!(offer.opts().msg_type(), Some(MessageType::Offer));
        for option in [
            DhcpOption::SubnetMask(Ipv4Addr::new(255, 255, 255, 0)),
            DhcpOption::Router(vec![GATEWAY]),
            DhcpOption::DomainNameServer(vec![DNS]),
            DhcpOption::Hostname("web".to_owned()),
            DhcpOption::InterfaceMtu(65_520),
            DhcpOption::AddressLeaseTime(LEASE),
            DhcpOption::ServerIdentifier(GATEWAY),
        ] {
            assert_eq!(offer.opts().get(OptionCode::from(&option)), Some(&option));
        }
    }

    #[test]
    fn requests_are_granted_refused_or_left_to_others() {
        let request = |address: Ipv4Addr, from: Ipv4Addr| {
            ask(MessageType::Request, MAC, |m| {
                m.opts_mut().insert(DhcpOption::RequestedIpAddress(address));
                m.opts_mut().insert(DhcpOption::ServerIdentifier(from));
            })
        };
        let kind = |bytes: &[u8]| server().answer(bytes).map(|a| read(&a).opts().msg_type().unwrap());
        assert_eq!(kind(&request(GUEST, GATEWAY)), Some(MessageType::Ack));
        assert_eq!(kind(&request(Ipv4Addr::new(192, 168, 1, 7), GATEWAY)), Some(MessageType::Nak));
        assert_eq!(kind(&request(GUEST, Ipv4Addr::new(192, 168, 1, 1))), None);
        let renewal = ask(MessageType::Request, MAC, |m| {
            m.set_ciaddr(GUEST);
        });
        assert_eq!(kind(&renewal), Some(MessageType::Ack));
        assert_eq!(kind(&ask(MessageType::Release, MAC, |_| {})), None);
        assert_eq!(kind(&ask(MessageType::Discover, [0x52, 9, 9, 9, 9, 9], |_| {})), None);
    }

    #[test]
    fn who_asks_for_a_broadcast_gets_one() {
        let asked = ask(MessageType::Discover, MAC, |m| {
            m.set_flags(Flags::default().set_broadcast());
        });
        assert_eq!(server().answer(&asked).unwrap().destination, Ipv4Addr::BROADCAST);
    }

    proptest! {
        #[test]
        fn garbage_is_survived(mut bytes in proptest::collection::vec(any::<u8>(), 0..500), shaped in any::<bool>()) {
            if shaped && bytes.len() > 240 {
                bytes[..3].copy_from_slice(&[1, 1, 6]);
                bytes[28..34].copy_from_slice(&MAC);
                bytes[236..240].copy_from_slice(&dhcproto::v4::MAGIC);
            }
            let _ = server().answer(&bytes);
        }
    }
}
