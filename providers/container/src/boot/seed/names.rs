//! Host name, hosts, name server and machine id.

use std::path::Path;

use posada_provider_api::MachineSpec;
use posada_provider_api::network::management;
use sha2::{Digest, Sha256};

use super::file::{put, text, with_block};
use crate::failure::Failure;

/// Writes them.
///
/// # Errors
/// [`Failure`] where one cannot be written.
pub fn write(spec: &MachineSpec) -> Result<(), Failure> {
    let root = (0, 0);
    put(Path::new("/etc/hostname"), &format!("{}\n", spec.hostname), 0o644, root)?;
    let hosts = Path::new("/etc/hosts");
    put(hosts, &hosts_text(&text(hosts)?, &spec.hostname), 0o644, root)?;
    put(Path::new("/etc/resolv.conf"), &format!("nameserver {}\n", management::DNS), 0o644, root)?;
    put(Path::new("/etc/machine-id"), &format!("{}\n", machine_id(spec)), 0o444, root)
}

fn hosts_text(there: &str, hostname: &str) -> String {
    let short = hostname.split('.').next().unwrap_or(hostname);
    let names = if short == hostname { hostname.to_owned() } else { format!("{hostname} {short}") };
    let mut lines =
        vec![format!("127.0.1.1 {names}"), format!("{} {}", management::GATEWAY, management::HOST_NAME)];
    if !there.lines().any(|line| line.split_whitespace().any(|word| word == "localhost")) {
        lines.insert(0, "127.0.0.1 localhost".to_owned());
        lines.insert(1, "::1 localhost ip6-localhost ip6-loopback".to_owned());
    }
    // A localhost of our own must not make the next start believe that it is the box's.
    let plain = with_block(there, &[]);
    if plain == there { with_block(there, &lines) } else { hosts_text(&plain, hostname) }
}

/// The machine's id, the same at every start; in the form of a version 4 UUID, see machine-id(5).
#[must_use]
pub fn machine_id(spec: &MachineSpec) -> String {
    let digest = Sha256::digest(format!("posada machine id of {}", spec.id));
    let mut bytes: [u8; 16] = std::array::from_fn(|index| digest[index]);
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_keep_what_users_wrote_and_settle_at_once() {
        let first = hosts_text("127.0.0.1 localhost\n10.9.9.9 db\n", "web.example.org");
        assert!(first.starts_with("127.0.0.1 localhost\n10.9.9.9 db\n"));
        assert!(first.contains("127.0.1.1 web.example.org web\n10.0.2.2 host.posada.internal\n"), "{first}");
        assert_eq!(hosts_text(&first, "web.example.org"), first);
        let renamed = hosts_text(&first, "db");
        assert!(renamed.contains("127.0.1.1 db\n") && !renamed.contains("web.example.org"), "{renamed}");
    }

    #[test]
    fn an_empty_hosts_file_gets_localhost_and_keeps_it() {
        let first = hosts_text("", "web");
        assert!(first.contains("127.0.0.1 localhost\n"));
        assert_eq!(hosts_text(&first, "web"), first);
    }
}
