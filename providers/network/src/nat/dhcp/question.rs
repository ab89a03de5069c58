//! What a client asks. Read here and not by dhcproto, whose decoder panics on some malformed options.

use std::net::Ipv4Addr;

use dhcproto::v4::{MAGIC, MessageType};

const BOOT_REQUEST: u8 = 1;
const ETHERNET: u8 = 1;
const BROADCAST_FLAG: u16 = 0x8000;

/// Options (RFC 2132).
const PAD: u8 = 0;
const REQUESTED_ADDRESS: u8 = 50;
const MESSAGE_TYPE: u8 = 53;
const SERVER_IDENTIFIER: u8 = 54;
const END: u8 = 255;

/// The parts of a client's message that matter here (RFC 2131, section 2).
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) kind: MessageType,
    pub(super) transaction: u32,
    pub(super) flags: u16,
    /// The address the client has already.
    pub(super) client: Ipv4Addr,
    pub(super) mac: [u8; 6],
    pub(super) requested: Option<Ipv4Addr>,
    pub(super) server: Option<Ipv4Addr>,
}

impl Question {
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let (header, mut options) = (bytes.get(..236)?, bytes.get(236..)?.strip_prefix(&MAGIC)?);
        if header[0] != BOOT_REQUEST || header[1] != ETHERNET || header[2] != 6 {
            return None;
        }
        let mut question = Self {
            kind: MessageType::Unknown(0),
            transaction: u32::from_be_bytes(header[4..8].try_into().ok()?),
            flags: u16::from_be_bytes(header[10..12].try_into().ok()?),
            client: address(&header[12..16])?,
            mac: header[28..34].try_into().ok()?,
            requested: None,
            server: None,
        };
        while let Some((&code, rest)) = options.split_first() {
            match code {
                PAD => options = rest,
                END => break,
                _ => {
                    let (&length, rest) = rest.split_first()?;
                    let (value, rest) = rest.split_at_checked(usize::from(length))?;
                    match code {
                        MESSAGE_TYPE => question.kind = MessageType::from(*value.first()?),
                        REQUESTED_ADDRESS => question.requested = Some(address(value)?),
                        SERVER_IDENTIFIER => question.server = Some(address(value)?),
                        _ => {}
                    }
                    options = rest;
                }
            }
        }
        Some(question)
    }

    pub(super) fn wants_broadcast(&self) -> bool {
        self.flags & BROADCAST_FLAG != 0
    }
}

fn address(bytes: &[u8]) -> Option<Ipv4Addr> {
    Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?))
}
