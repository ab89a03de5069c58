//! What a client says first: `CONNECT PORT\n`.

use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};

/// The longest greeting, `CONNECT 4294967295\n`, with a carriage return to spare.
const LONGEST: usize = 20;

/// A client that has not said yet where it wants to.
pub(super) struct Greeting {
    stream: OwnedFd,
    line: Vec<u8>,
}

/// What a client has said so far.
pub(super) enum Said {
    /// Not all.
    Some(Greeting),
    /// It wants to be connected to this port.
    Connect(OwnedFd, u32),
    /// Nothing that has a sense.
    Nonsense,
}

impl Greeting {
    pub(super) fn new(stream: OwnedFd) -> Self {
        Self { stream, line: Vec::with_capacity(LONGEST) }
    }

    pub(super) fn stream(&self) -> &OwnedFd {
        &self.stream
    }

    /// Reads on, and nothing of what follows the line.
    pub(super) fn read(mut self) -> Said {
        loop {
            let mut ahead = [0; LONGEST];
            let room = &mut ahead[..LONGEST - self.line.len()];
            if room.is_empty() {
                return Said::Nonsense;
            }
            let length = match recv(&self.stream, &mut *room, RecvFlags::PEEK) {
                Ok((length @ 1.., _)) => length,
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => return Said::Some(self),
                _ => return Said::Nonsense,
            };
            let end = room[..length].iter().position(|byte| *byte == b'\n');
            let taken = end.map_or(length, |at| at + 1);
            // They are there: they have been looked at.
            if recv(&self.stream, &mut room[..taken], RecvFlags::empty()).is_err() {
                return Said::Nonsense;
            }
            self.line.extend_from_slice(&room[..taken]);
            if end.is_some() {
                return match port(&self.line) {
                    Some(port) => Said::Connect(self.stream, port),
                    None => Said::Nonsense,
                };
            }
        }
    }
}

/// The port of a whole greeting.
fn port(line: &[u8]) -> Option<u32> {
    let line = str::from_utf8(line).ok()?.trim_end_matches(['\n', '\r']);
    let digits = line.strip_prefix("CONNECT ")?;
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::port;

    #[test]
    fn understands_ports_only() {
        assert_eq!(port(b"CONNECT 52\n"), Some(52));
        assert_eq!(port(b"CONNECT 4294967295\r\n"), Some(u32::MAX));
        for bad in
            ["", "\n", "CONNECT\n", "CONNECT \n", "CONNECT +5\n", "CONNECT 4294967296\n", "connect 5\n"]
        {
            assert_eq!(port(bad.as_bytes()), None, "{bad:?}");
        }
        assert_eq!(port(b"CONNECT \xff\n"), None);
    }
}
