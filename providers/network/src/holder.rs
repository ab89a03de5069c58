//! Who holds a port of this host, as far as the caller may see (`proc_pid_net(5)`, `proc_pid_fd(5)`).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use posada_provider_api::Protocol;

/// State of a socket that listens (TCP) or is bound without a peer (UDP), in the `st` column.
const LISTENING: &str = "0A";
const UNCONNECTED: &str = "07";

/// What holds a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holder {
    /// A process whose descriptors the caller may see.
    Process {
        /// Its id.
        pid: u32,
        /// Its command name, at most 15 bytes.
        command: String,
    },
    /// A process of another user, or in another process namespace.
    Hidden,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process { pid, command } => write!(f, "{command} (pid {pid})"),
            Self::Hidden => f.write_str("another process (not visible to this user)"),
        }
    }
}

/// Finds what keeps `address` from being bound; `None` where nothing seems to hold it any more.
#[must_use]
pub fn holder_of(address: SocketAddr, protocol: Protocol) -> Option<Holder> {
    let proc = Path::new("/proc");
    let tables = match protocol {
        Protocol::Tcp => [("tcp", LISTENING), ("tcp6", LISTENING)],
        Protocol::Udp => [("udp", UNCONNECTED), ("udp6", UNCONNECTED)],
    };
    let inode = tables.into_iter().find_map(|(table, state)| {
        let text = fs_err::read_to_string(proc.join("self/net").join(table)).ok()?;
        text.lines()
            .skip(1)
            .filter_map(parse)
            .find(|e| e.state == state && e.blocks(address))
            .map(|e| e.inode)
    })?;
    Some(owner(proc, inode).unwrap_or(Holder::Hidden))
}

/// One line of a socket table.
struct Entry<'a> {
    local: SocketAddr,
    state: &'a str,
    inode: u64,
}

impl Entry<'_> {
    fn blocks(&self, wanted: SocketAddr) -> bool {
        let (held, asked) = (self.local.ip().to_canonical(), wanted.ip().to_canonical());
        self.local.port() == wanted.port()
            && (held == asked || held.is_unspecified() || asked.is_unspecified())
    }
}

fn parse(line: &str) -> Option<Entry<'_>> {
    let mut columns = line.split_ascii_whitespace();
    let local = columns.nth(1)?;
    let state = columns.nth(1)?;
    let inode = columns.nth(5)?.parse().ok()?;
    let (address, port) = local.split_once(':')?;
    Some(Entry {
        local: SocketAddr::new(parse_ip(address)?, u16::from_str_radix(port, 16).ok()?),
        state,
        inode,
    })
}

/// Addresses are printed as words in the host's byte order.
fn parse_ip(text: &str) -> Option<IpAddr> {
    let word = |at: usize| Some(u32::from_str_radix(text.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    match text.len() {
        8 => Some(IpAddr::V4(Ipv4Addr::from(word(0)?))),
        32 => {
            let mut bytes = [0; 16];
            for (index, chunk) in bytes.chunks_exact_mut(4).enumerate() {
                chunk.copy_from_slice(&word(index * 8)?);
            }
            Some(IpAddr::V6(Ipv6Addr::from(bytes)))
        }
        _ => None,
    }
}

fn owner(proc: &Path, inode: u64) -> Option<Holder> {
    let wanted = format!("socket:[{inode}]");
    for process in fs_err::read_dir(proc).ok()?.flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let Ok(descriptors) = fs_err::read_dir(process.path().join("fd")) else { continue };
        let holds = descriptors
            .flatten()
            .any(|fd| fs_err::read_link(fd.path()).is_ok_and(|to| to.as_os_str() == &*wanted));
        if holds {
            let command = fs_err::read_to_string(process.path().join("comm")).ok()?;
            return Some(Holder::Process { pid, command: command.trim_end().to_owned() });
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use super::*;

    #[test]
    fn sees_what_this_process_holds() {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let any = TcpListener::bind("[::]:0").unwrap();
        let on_loopback = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), any.local_addr().unwrap().port());
        for (address, protocol) in [
            (tcp.local_addr().unwrap(), Protocol::Tcp),
            (udp.local_addr().unwrap(), Protocol::Udp),
            (on_loopback, Protocol::Tcp),
        ] {
            let Some(Holder::Process { pid, command }) = holder_of(address, protocol) else {
                panic!("{address}/{protocol} is held by this process")
            };
            assert_eq!(pid, std::process::id());
            assert!(!command.is_empty());
        }
    }

    #[test]
    fn sees_nothing_where_nothing_is() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        assert_eq!(holder_of(address, Protocol::Tcp), None);
    }

    #[test]
    fn is_told_in_words() {
        let nginx = Holder::Process { pid: 812, command: "nginx".to_owned() };
        assert_eq!(nginx.to_string(), "nginx (pid 812)");
        assert_eq!(Holder::Hidden.to_string(), "another process (not visible to this user)");
    }

    #[test]
    fn foreign_lines_are_skipped() {
        for line in ["", "0:", "  0: 0100007F 0 0A 0 0 0 0 0 x", "0: XX:YY 0 0A 0 0 0 0 0 1"] {
            assert!(parse(line).is_none(), "{line:?}");
        }
    }
}
