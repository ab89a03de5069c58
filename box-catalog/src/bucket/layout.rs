//! Where the versions of a box lie below a prefix of a bucket.
//!
//! ```text
//! <version>/<provider>/<architecture>/vagrant.box
//!                                     SHA256SUMS            what it comes to; written first
//!                                     vagrant.box.minisig   who says so, where it is signed
//! ```

use crate::Version;

/// The file itself.
const BOX: &str = "vagrant.box";

/// One file of a box.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct File {
    pub version: Version,
    pub provider: String,
    pub architecture: String,
}

impl File {
    /// Which one lies at `key`, where it is one.
    pub fn of_key(key: &str) -> Option<Self> {
        let mut parts = key.split('/');
        let (version, provider, architecture, file) =
            (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        if file != BOX || parts.next().is_some() || provider.is_empty() || architecture.is_empty() {
            return None;
        }
        let version = Version::parse(version).ok()?;
        Some(Self { version, provider: provider.to_owned(), architecture: architecture.to_owned() })
    }

    /// Where it lies.
    pub fn key(&self) -> String {
        format!("{}/{BOX}", self.directory())
    }

    /// Where its checksum lies.
    pub fn sums_key(&self) -> String {
        format!("{}/SHA256SUMS", self.directory())
    }

    /// Where its signature lies.
    pub fn signature_key(&self) -> String {
        format!("{}/{BOX}.minisig", self.directory())
    }

    /// What its checksum is written as.
    pub fn sums(&self, digest: &crate::Digest) -> String {
        format!("{digest}  {BOX}\n")
    }

    fn directory(&self) -> String {
        format!("{}/{}/{}", self.version, self.provider, self.architecture)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_found_where_it_is_put() {
        let file = File::of_key("1.2.0/libvirt/amd64/vagrant.box").unwrap();
        assert_eq!(file.version, Version::parse("1.2.0").unwrap());
        assert_eq!(File::of_key(&file.key()), Some(file));
        for other in [
            "1.2.0/libvirt/amd64/SHA256SUMS",
            "1.2.0/libvirt/vagrant.box",
            "x/1.2.0/libvirt/amd64/vagrant.box",
            "../libvirt/amd64/vagrant.box",
            "1.2.0//amd64/vagrant.box",
        ] {
            assert_eq!(File::of_key(other), None, "{other}");
        }
    }
}
