//! What is known of a box.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Digest;

/// What is known of a box.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoxMetadata {
    /// The user one logs in as.
    pub user: String,
    /// `amd64`, `arm64` and the like, as Debian and Vagrant's catalogs name them; `None` where it cannot be seen.
    pub architecture: Option<String>,
    /// The operating system.
    pub os: Os,
    /// What the box holds.
    pub provides: BTreeSet<Form>,
    /// The recipe it was built by, where Posada built it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipe: Option<Digest>,
}

/// A form that a machine can be made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Form {
    /// A root file system, for containers.
    Rootfs,
    /// A disk image, for virtual machines.
    Disk,
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Rootfs => "root file system",
            Self::Disk => "disk image",
        })
    }
}

/// An operating system, as os-release(5) tells it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Os {
    /// `ID`: `debian`.
    pub id: String,
    /// `VERSION_ID`: `12`.
    pub version: String,
    /// `PRETTY_NAME`: `Debian GNU/Linux 12 (bookworm)`.
    pub name: String,
}

impl Os {
    /// Reads an os-release file; what is missing stays empty.
    #[must_use]
    pub(crate) fn from_release(text: &str) -> Self {
        let field = |key: &str| {
            text.lines()
                .filter_map(|line| line.trim().split_once('='))
                .find(|(name, _)| *name == key)
                .map(|(_, value)| unquoted(value.trim()))
                .unwrap_or_default()
        };
        let id = field("ID");
        Self {
            id: if id.is_empty() { "linux".to_owned() } else { id },
            version: field("VERSION_ID"),
            name: field("PRETTY_NAME"),
        }
    }
}

/// A value of os-release: bare, or in quotes with backslashes, as a shell would read it.
fn unquoted(value: &str) -> String {
    let quote = value.chars().next().filter(|c| matches!(c, '"' | '\''));
    let inner = quote.and_then(|quote| value[1..].strip_suffix(quote)).unwrap_or(value);
    if quote == Some('\'') {
        return inner.to_owned();
    }
    let mut text = String::new();
    let mut characters = inner.chars();
    while let Some(character) = characters.next() {
        text.extend(if character == '\\' { characters.next() } else { Some(character) });
    }
    text
}

/// A line of passwd(5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Account {
    /// Login name.
    pub name: String,
    /// Numeric id.
    pub uid: u32,
}

pub(crate) fn accounts(passwd: &str) -> Vec<Account> {
    let account = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?.to_owned();
        Some(Account { name, uid: fields.nth(1)?.parse().ok()? })
    };
    passwd.lines().filter_map(account).collect()
}

/// The user with the id 1000, who is the first person of a system; else root.
pub(crate) fn login_user(accounts: &[Account]) -> String {
    accounts
        .iter()
        .find(|account| account.uid == 1000)
        .map_or_else(|| "root".to_owned(), |first| first.name.clone())
}

/// By `e_machine` of an ELF header (System V ABI, chapter 4).
pub(crate) fn architecture_of_elf(header: &[u8; 20]) -> Option<&'static str> {
    if !header.starts_with(b"\x7fELF") {
        return None;
    }
    let little_endian = header[5] == 1;
    let bytes = [header[18], header[19]];
    let machine = if little_endian { u16::from_le_bytes(bytes) } else { u16::from_be_bytes(bytes) };
    match (machine, little_endian) {
        (3, true) => Some("i386"),
        (40, true) => Some("armhf"),
        (62, true) => Some("amd64"),
        (183, true) => Some("arm64"),
        (243, true) => Some("riscv64"),
        (258, true) => Some("loong64"),
        (21, true) => Some("ppc64el"),
        (22, false) => Some("s390x"),
        _ => None,
    }
}

/// This host's architecture, by the same names.
#[must_use]
pub fn host_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "i386",
        "arm" => "armhf",
        "powerpc64" => "ppc64el",
        "loongarch64" => "loong64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn os_release_is_read_as_a_shell_would() {
        let os = Os::from_release("NAME=x\nID=debian\nVERSION_ID=\"12\"\nPRETTY_NAME='A \"b\"'\n");
        assert_eq!(os, Os { id: "debian".into(), version: "12".into(), name: "A \"b\"".into() });
        assert_eq!(Os::from_release("PRETTY_NAME=\"a \\\"b\\\" \\$c\"").name, "a \"b\" $c");
        assert_eq!(Os::from_release("").id, "linux");
    }

    #[test]
    fn the_first_person_logs_in() {
        let debian = "root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534::/:/x\nposada:x:1000:1000::/home/posada:/bin/bash\n";
        assert_eq!(login_user(&accounts(debian)), "posada");
        assert_eq!(login_user(&accounts("root:x:0:0:root:/root:/bin/sh\nbroken\n:x:1000:\n")), "root");
    }

    #[test]
    fn architectures_are_named_as_debian_does() {
        let mut header = *b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x03\0\x3e\0";
        assert_eq!(architecture_of_elf(&header), Some("amd64"));
        header[18] = 183;
        assert_eq!(architecture_of_elf(&header), Some("arm64"));
        assert_eq!(architecture_of_elf(b"#!/bin/sh\n          "), None);
    }
}
