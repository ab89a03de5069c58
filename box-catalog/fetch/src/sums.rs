//! Files such as `SHA256SUMS`, which distributions lay beside what they publish.

use crate::{Algorithm, Checksum};

/// The checksums of such a file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sums(Vec<(String, Checksum)>);

impl Sums {
    /// Takes the lines that hold a checksum, in the form of coreutils (`HEX  NAME`, `HEX *NAME`) or of BSD
    /// (`SHA256 (NAME) = HEX`); all others, signatures among them, are passed over. A file that holds nothing but one
    /// checksum is of any name.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut sums: Vec<(String, Checksum)> = text.lines().filter_map(line).collect();
        if sums.is_empty()
            && let Some(alone) = of_any(text.trim())
        {
            sums.push((String::new(), alone));
        }
        Self(sums)
    }

    /// The strongest checksum there is of the file called `name`.
    #[must_use]
    pub fn of(&self, name: &str) -> Option<&Checksum> {
        self.0
            .iter()
            .filter(|(there, _)| there.is_empty() || there.trim_start_matches("./") == name)
            .map(|(_, checksum)| checksum)
            .max_by_key(|checksum| checksum.algorithm())
    }
}

fn line(line: &str) -> Option<(String, Checksum)> {
    let line = line.trim_end();
    if let Some((head, hex)) = line.rsplit_once(") = ") {
        let (algorithm, name) = head.split_once(" (").filter(|(_, name)| !name.is_empty())?;
        return Some((name.to_owned(), Checksum::new(algorithm.parse().ok()?, hex).ok()?));
    }
    let (hex, name) = line.split_once([' ', '\t'])?;
    let name = name.strip_prefix([' ', '*', '\t']).unwrap_or(name);
    (!name.is_empty()).then_some(())?;
    Some((name.to_owned(), of_any(hex)?))
}

/// By how many digits it has.
fn of_any(hex: &str) -> Option<Checksum> {
    Algorithm::ALL.into_iter().find_map(|algorithm| Checksum::new(algorithm, hex).ok())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_form_in_use_is_read() {
        let (md5, sha) = (
            "900150983cd24fb0d6963f7d28e17f72",
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        );
        let text = format!(
            "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\n{sha}  a.qcow2\n{sha} *./b c.box\r\nSHA256 (d (1).ova) = {sha}\n{md5}  a.qcow2\n"
        );
        let sums = Sums::parse(&text);
        for name in ["a.qcow2", "b c.box", "d (1).ova"] {
            assert_eq!(sums.of(name).map(ToString::to_string), Some(format!("sha256:{sha}")), "{name}");
        }
        assert_eq!(sums.of("e"), None);
        assert_eq!(Sums::parse(&format!("{md5}\n")).of("anything").unwrap().algorithm(), Algorithm::Md5);
        assert_eq!(Sums::parse("<html>404</html>"), Sums::default());
        // What is of no file is not of all.
        assert_eq!(Sums::parse(&format!("SHA256 () = {sha}\n")).of("a.qcow2"), None);
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_harm(text in ".{0,200}|(MD5 \\([ab.ox]{0,5}\\) = [0-9a]{32}\n|[0-9]{32} [ *]?[ab.ox]{0,5}\n){0,3}") {
            crate::fuzzing::sums(text.as_bytes());
        }
    }
}
