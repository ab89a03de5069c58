//! The header of each packet (`struct virtio_vsock_hdr`, virtio 1.2, section 5.10.6).

/// Its length, bytes.
pub(super) const LENGTH: usize = 44;

/// The host's context id.
pub(super) const HOST: u64 = 2;

/// The type of stream sockets.
pub(super) const STREAM: u16 = 1;

/// Flag of a shutdown: its sender receives no more.
pub(super) const NO_RECEIVE: u32 = 1;
/// Flag of a shutdown: its sender sends no more.
pub(super) const NO_SEND: u32 = 2;
/// Both.
pub(super) const NEITHER: u32 = NO_RECEIVE | NO_SEND;

/// What a packet is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub(super) enum Operation {
    Request = 1,
    Response = 2,
    Reset = 3,
    Shutdown = 4,
    Data = 5,
    CreditUpdate = 6,
    CreditRequest = 7,
}

impl Operation {
    const ALL: [Self; 7] = [
        Self::Request,
        Self::Response,
        Self::Reset,
        Self::Shutdown,
        Self::Data,
        Self::CreditUpdate,
        Self::CreditRequest,
    ];

    /// `None` where the specification knows no such operation.
    pub(super) fn parse(raw: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|operation| *operation as u16 == raw)
    }
}

/// A connection's name: a port at either end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Ports {
    pub(super) host: u32,
    pub(super) guest: u32,
}

/// A header, of whatever sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Header {
    pub(super) source_cid: u64,
    pub(super) destination_cid: u64,
    pub(super) source_port: u32,
    pub(super) destination_port: u32,
    pub(super) length: u32,
    pub(super) kind: u16,
    pub(super) operation: u16,
    pub(super) flags: u32,
    /// How much its sender has room for, bytes (section 5.10.6.3).
    pub(super) buf_alloc: u32,
    /// How much of what it got has left that room, bytes, counted modulo 2^32.
    pub(super) fwd_cnt: u32,
}

impl Header {
    pub(super) fn parse(raw: &[u8; LENGTH]) -> Self {
        let short = |at: usize| u16::from_le_bytes(raw[at..at + 2].try_into().expect("two bytes"));
        let word = |at: usize| u32::from_le_bytes(raw[at..at + 4].try_into().expect("four bytes"));
        let long = |at: usize| u64::from_le_bytes(raw[at..at + 8].try_into().expect("eight bytes"));
        Self {
            source_cid: long(0),
            destination_cid: long(8),
            source_port: word(16),
            destination_port: word(20),
            length: word(24),
            kind: short(28),
            operation: short(30),
            flags: word(32),
            buf_alloc: word(36),
            fwd_cnt: word(40),
        }
    }

    pub(super) fn bytes(&self) -> [u8; LENGTH] {
        let mut raw = [0; LENGTH];
        raw[..8].copy_from_slice(&self.source_cid.to_le_bytes());
        raw[8..16].copy_from_slice(&self.destination_cid.to_le_bytes());
        raw[16..20].copy_from_slice(&self.source_port.to_le_bytes());
        raw[20..24].copy_from_slice(&self.destination_port.to_le_bytes());
        raw[24..28].copy_from_slice(&self.length.to_le_bytes());
        raw[28..30].copy_from_slice(&self.kind.to_le_bytes());
        raw[30..32].copy_from_slice(&self.operation.to_le_bytes());
        raw[32..36].copy_from_slice(&self.flags.to_le_bytes());
        raw[36..40].copy_from_slice(&self.buf_alloc.to_le_bytes());
        raw[40..].copy_from_slice(&self.fwd_cnt.to_le_bytes());
        raw
    }

    /// The ports of a packet from the guest.
    pub(super) fn ports(&self) -> Ports {
        Ports { host: self.destination_port, guest: self.source_port }
    }

    /// A packet from the host to the guest `cid`.
    pub(super) fn to_guest(cid: u64, ports: Ports, operation: Operation) -> Self {
        Self {
            source_cid: HOST,
            destination_cid: cid,
            source_port: ports.host,
            destination_port: ports.guest,
            kind: STREAM,
            operation: operation as u16,
            ..Self::default()
        }
    }

    /// What refuses this packet.
    pub(super) fn refusal(&self) -> Self {
        Self {
            source_cid: self.destination_cid,
            destination_cid: self.source_cid,
            source_port: self.destination_port,
            destination_port: self.source_port,
            kind: self.kind,
            operation: Operation::Reset as u16,
            ..Self::default()
        }
    }
}
