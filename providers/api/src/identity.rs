//! Names and identities of machines.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The longest machine name: it becomes a host name label (RFC 1123, section 2.1).
pub const MAX_NAME: usize = 63;

/// A name that is no host name label.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a name: use 1 to 63 letters, digits and inner hyphens")]
pub struct InvalidName(pub String);

/// The name a Vmfile gives a machine; a valid host name label.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MachineName(String);

impl MachineName {
    /// Takes a name.
    ///
    /// # Errors
    /// [`InvalidName`] where it is no host name label.
    pub fn new(name: impl Into<String>) -> Result<Self, InvalidName> {
        let name = name.into();
        if is_label(&name) { Ok(Self(name)) } else { Err(InvalidName(name)) }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Identity of one machine on this host: its name and eight hexadecimal digits, `web-3f9a1c20`.
/// It never changes and is never used twice; directories, cgroups and MAC addresses are named after it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MachineId(String);

impl MachineId {
    /// Makes the identity of a machine named `name` from random bits.
    #[must_use]
    pub fn from_parts(name: &MachineName, random: u32) -> Self {
        Self(format!("{name}-{random:08x}"))
    }

    /// Takes an identity as it was written.
    ///
    /// # Errors
    /// [`InvalidName`] where it does not have the form of one.
    pub fn parse(text: impl Into<String>) -> Result<Self, InvalidName> {
        let text = text.into();
        let well_formed = text.rsplit_once('-').is_some_and(|(name, tail)| {
            is_label(name) && tail.len() == 8 && tail.bytes().all(|b| b.is_ascii_hexdigit())
        });
        if well_formed { Ok(Self(text)) } else { Err(InvalidName(text)) }
    }

    /// The identity as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A locally administered unicast MAC address for this machine's network interface number `index`.
    /// Derived, not random: a stale neighbour entry then never points at another machine.
    #[must_use]
    pub fn mac(&self, index: u8) -> [u8; 6] {
        let digits = &self.0[self.0.len() - 8..];
        let random = u32::from_str_radix(digits, 16).unwrap_or_default().to_be_bytes();
        [0x52, random[0], random[1], random[2], random[3], index]
    }
}

fn is_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    !bytes.is_empty()
        && bytes.len() <= MAX_NAME
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-')
        && bytes[0] != b'-'
        && bytes[bytes.len() - 1] != b'-'
}

macro_rules! text_like {
    ($name:ident, $parse:path) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
        impl TryFrom<String> for $name {
            type Error = InvalidName;
            fn try_from(text: String) -> Result<Self, InvalidName> {
                $parse(text)
            }
        }
        impl From<$name> for String {
            fn from(value: $name) -> String {
                value.0
            }
        }
    };
}
text_like!(MachineName, MachineName::new);
text_like!(MachineId, MachineId::parse);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_host_name_labels() {
        for good in ["web", "db-1", "A", &"x".repeat(63)] {
            assert!(MachineName::new(good).is_ok(), "{good}");
        }
        for bad in ["", "-web", "web-", "a_b", "a.b", "a b", "ü", &"x".repeat(64)] {
            assert_eq!(MachineName::new(bad), Err(InvalidName(bad.to_owned())));
        }
    }

    #[test]
    fn identities_round_trip_and_give_unicast_macs() {
        let id = MachineId::from_parts(&MachineName::new("web").unwrap(), 0x3f9a_1c20);
        assert_eq!(id.as_str(), "web-3f9a1c20");
        assert_eq!(MachineId::parse("web-3f9a1c20").unwrap(), id);
        assert!(MachineId::parse("web").is_err());
        assert!(MachineId::parse("../../etc-3f9a1c20").is_err());
        assert_eq!(id.mac(1), [0x52, 0x3f, 0x9a, 0x1c, 0x20, 1]);
        assert_eq!(id.mac(0)[0] & 0b11, 0b10, "locally administered, unicast");
    }
}
