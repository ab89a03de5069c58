//! Machines with their files: what an OVA, an XVA, a box of Vagrant's or a directory holds, and which of it is the
//! system's disk.

mod ovf;
mod parallels;
mod xml;
mod xva;

use crate::error::unsupported;
use crate::read::{open_with, plain_name};
use crate::{Format, ImageError, ReadImage, Result, Storage};
use xml::text;

/// Most files that are no pieces.
const MAX_FILES: usize = 4096;
/// Longest name of a file.
const MAX_NAME: usize = 512;

/// What a file of an archive is to a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// A disk, a piece of one, or what describes them: needed.
    Needed,
    /// Something that only the hypervisor needs that made it, or a directory.
    Beside,
}

/// Tells by its path whether a file or directory can belong to a machine; what it is, only its content tells.
#[must_use]
pub fn part(path: &str, directory: bool) -> Option<Part> {
    let lower = path.to_ascii_lowercase();
    if lower.len() > MAX_NAME {
        return None;
    }
    let mut names = lower.split('/');
    let last = names.next_back().unwrap_or_default();
    let is_machines = |name: &str| {
        ["virtual hard disks", "virtual machines", "snapshots"].contains(&name)
            || [".pvm", ".hdd"].iter().any(|end| name.ends_with(end))
            || name.starts_with("ref:")
    };
    let within = names.clone().next().is_some_and(is_machines);
    if directory {
        return (within || is_machines(last)).then_some(Part::Beside);
    }
    if names.clone().next().is_some() && !within {
        return None;
    }
    if names.clone().next().is_some_and(|first| first.starts_with("ref:")) {
        let piece = last.len() <= 16 && last.bytes().all(|byte| byte.is_ascii_digit());
        return Some(if piece { Part::Needed } else { Part::Beside });
    }
    if ["ova.xml", "diskdescriptor.xml"].contains(&last) {
        return Some(Part::Needed);
    }
    match last.rsplit_once('.').map(|(_, end)| end) {
        Some("ovf" | "vmdk" | "vdi" | "vhd" | "vhdx" | "avhdx" | "hds") => Some(Part::Needed),
        Some(
            "mf" | "cert" | "vmx" | "vmxf" | "vmsd" | "nvram" | "vmcx" | "vmrs" | "vmgs" | "vbox" | "pvs",
        ) => Some(Part::Beside),
        _ => within.then_some(Part::Beside),
    }
}

/// The files of a machine, by their paths in its archive.
#[derive(Debug, Default)]
pub struct Bundle {
    files: Vec<(String, Storage)>,
}

impl Bundle {
    /// Most files, where they are pieces of disks of XenServer, of 1 MiB each.
    pub const MAX_PIECES: usize = 1 << 18;

    /// Adds a file.
    ///
    /// # Errors
    /// [`ImageError::Unsupported`] where there are too many.
    pub fn add(&mut self, path: String, content: Storage) -> Result<()> {
        let most = if path.starts_with("Ref:") { Self::MAX_PIECES } else { MAX_FILES };
        if self.files.len() >= most {
            return Err(unsupported(format!("more than {most} files")));
        }
        self.files.push((path, content));
        Ok(())
    }

    /// Opens the system's disk.
    ///
    /// # Errors
    /// All of [`ImageError`] but those of writing.
    pub fn disk(&self) -> Result<(Format, Box<dyn ReadImage>)> {
        let ending = |end: &str| self.files.iter().find(|(path, _)| path.to_ascii_lowercase().ends_with(end));
        if let Some((path, content)) = ending(".ovf") {
            let file = ovf::system_disk(&text(content)?)?;
            return self.open(path, &file).map(|(_, image)| (Format::Ova, image));
        }
        if let Some((_, content)) = self.files.iter().find(|(path, _)| path == "ova.xml") {
            return Ok((Format::Xva, xva::open(&text(content)?, &self.files)?));
        }
        if let Some((path, content)) = self.only_description()? {
            let image = parallels::open(&text(content)?, &|name| self.named(path, name).cloned())?;
            return Ok((Format::Parallels, image));
        }
        self.only()
    }

    /// The description of a disk of Parallels', if there is one: nothing says which one of several is the system's.
    fn only_description(&self) -> Result<Option<&(String, Storage)>> {
        let is_one = |path: &str| path.to_ascii_lowercase().ends_with("diskdescriptor.xml");
        let mut found = self.files.iter().filter(|(path, _)| is_one(path));
        match (found.next(), found.next()) {
            (Some((first, _)), Some((second, _))) => {
                Err(ImageError::Ambiguous(format!("those that `{first}` and `{second}` describe")))
            }
            (one, _) => Ok(one),
        }
    }

    /// The disk that is the only one.
    fn only(&self) -> Result<(Format, Box<dyn ReadImage>)> {
        // Of several, only the names are kept: images take memory while they are open.
        let (mut names, mut found) = (Vec::new(), None);
        let mut last = ImageError::Unknown("none of its files is a disk".to_owned());
        for (path, content) in &self.files {
            if crate::probe::probe_storage(content)? == Format::Raw {
                continue;
            }
            match open_with(content.clone(), &|name| Ok(self.beside(path, name).cloned())) {
                Ok(image) => {
                    names.push(format!("`{path}`"));
                    found = Some(image);
                }
                Err(error) => last = error,
            }
            if names.len() == 8 {
                break;
            }
        }
        if names.len() > 1 {
            return Err(ImageError::Ambiguous(names.join(", ")));
        }
        found.ok_or(last)
    }

    /// The file `name` in the directory of `path`.
    fn beside(&self, path: &str, name: &str) -> Option<&Storage> {
        let directory = path.rfind('/').map_or("", |end| &path[..=end]);
        let wanted = format!("{directory}{name}");
        self.files.iter().find(|(path, _)| *path == wanted).map(|(_, content)| content)
    }

    /// The same, where it has to be there.
    fn named(&self, path: &str, name: &str) -> Result<&Storage> {
        let missing = || ImageError::File { name: name.to_owned(), why: "which is not there" };
        self.beside(path, plain_name(name)?).ok_or_else(missing)
    }

    fn open(&self, path: &str, name: &str) -> Result<(Format, Box<dyn ReadImage>)> {
        let content = self.named(path, name)?;
        open_with(content.clone(), &|name| Ok(self.beside(path, name).cloned()))
    }
}

/// The disks that a text describes, for whatever names it gives: those that begin with `p` are of files with 4 KiB of data, and
/// others of `expanding`.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn read_descriptions(text: &str, expanding: &[u8]) -> Vec<Box<dyn ReadImage>> {
    let _ = ovf::system_disk(text);
    let find = |name: &str| {
        let name = plain_name(name)?;
        Ok(Storage::memory(if name.starts_with('p') { vec![1; 4096] } else { expanding.to_vec() }))
    };
    let pieces = [("Ref:1/00000000".to_owned(), Storage::memory(vec![1; 512]))];
    [parallels::open(text, &find), xva::open(text, &pieces)].into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_told_by_their_paths() {
        for needed in [
            "box.ovf",
            "Box-disk001.vmdk",
            "Virtual Hard Disks/a b.vhdx",
            "box.pvm/harddisk.hdd/harddisk.hdd.0.{5fbaabe3}.hds",
            "box.pvm/harddisk.hdd/DiskDescriptor.xml",
            "Ref:7/00000012",
            "ova.xml",
        ] {
            assert_eq!(part(needed, false), Some(Part::Needed), "{needed}");
        }
        for beside in ["a.vmx", "Virtual Machines/1.vmcx", "Ref:7/00000012.xxhash", "box.pvm/config.pvs"] {
            assert_eq!(part(beside, false), Some(Part::Beside), "{beside}");
        }
        assert_eq!(part("Virtual Hard Disks", true), Some(Part::Beside));
        for other in ["etc/passwd", "var/lib/a.vmdk", "box.img", "rootfs.tar.gz", "metadata.json"] {
            assert_eq!(part(other, false), None, "{other}");
        }
        assert_eq!(part("etc", true), None);
    }
}
