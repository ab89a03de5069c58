//! Trees as one tar archive: a machine's, without what is the machine's own, and those of boxes as they are.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read as _, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use posada_provider_api::OverlayTree;
use rustix::fs::{self, FileType, Mode, OFlags, Stat};
use serde::{Deserialize, Serialize};
use tar::{Builder, EntryType, Header};

use super::clean::{Fate, fate, unblocked};
use super::merge::{Found, Go, merge, told};

/// Where a box says who logs in.
const DECLARATION: &str = "usr/lib/posada/box.json";
const XATTR: &str = "SCHILY.xattr.";
const CAPABILITY: &[u8] = b"security.capability";
/// Most bytes of one file's extended attributes.
const MAX_XATTRS: usize = 64 * 1024;
/// Most bytes of a file that is looked into.
const MAX_TEXT: u64 = 1 << 20;
/// Revisions of a file's capabilities (capabilities(7)): the second, of 20 bytes, and the third, which adds a user id.
const REVISION_2: u32 = 0x0200_0000;
const REVISION_3: u32 = 0x0300_0000;
const REVISION: u32 = 0xff00_0000;

/// What is to be packed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Job {
    /// The lowest first.
    pub trees: Vec<OverlayTree>,
    /// What becomes of them.
    pub purpose: Purpose,
}

/// What trees are packed for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Purpose {
    /// A machine's are made a box for LXC, which `user` logs in to.
    Machine {
        /// Who logs in.
        user: String,
    },
    /// A box's are packed as they are.
    Box,
}

impl Purpose {
    /// Under which the archive has everything: Vagrant's boxes for LXC have it so.
    fn root(&self) -> &'static [u8] {
        match self {
            Self::Machine { .. } => b"./rootfs",
            Self::Box => b".",
        }
    }
}

/// Writes the archive to `out`.
///
/// # Errors
/// Those of the file system, with the path.
pub fn write(job: &Job, out: impl Write) -> io::Result<()> {
    let mut archive = Archive { job, out: Builder::new(out), links: HashMap::new() };
    merge(&job.trees, &mut |found| archive.entry(found))?;
    if let Purpose::Machine { user } = &job.purpose {
        archive.declare(user)?;
    }
    archive.out.into_inner()?.flush()
}

struct Archive<'a, W: Write> {
    job: &'a Job,
    out: Builder<W>,
    /// Files with several names, by tree, device and inode; and the first name.
    links: HashMap<(usize, u64, u64), Vec<u8>>,
}

impl<W: Write> Archive<'_, W> {
    fn entry(&mut self, found: &Found<'_>) -> io::Result<Go> {
        let kind = FileType::from_raw_mode(found.stat.st_mode);
        let fate = match self.job.purpose {
            Purpose::Box => Fate::Kept,
            Purpose::Machine { .. } if found.path == Path::new(DECLARATION) => Fate::Removed,
            Purpose::Machine { .. } => fate(found.path, kind == FileType::Directory),
        };
        if fate == Fate::Removed {
            return Ok(Go::Past);
        }
        self.add(found, kind, fate).map_err(|error| told(found.path, error))?;
        Ok(Go::Into)
    }

    fn add(&mut self, found: &Found<'_>, kind: FileType, fate: Fate) -> io::Result<()> {
        let name = found.path.file_name().unwrap_or(".".as_ref());
        let mut new = self.begin(found.path, self.header(&found.stat, found.layer)?);
        let open = |flags: OFlags| {
            fs::openat(found.parent, name, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
        };
        match kind {
            FileType::Directory => {
                new.kind(EntryType::Directory);
                new.path.push(b'/');
                new.attributes(&open(OFlags::RDONLY | OFlags::DIRECTORY)?)?;
                self.append(new, io::empty())
            }
            FileType::Symlink => {
                new.kind(EntryType::Symlink);
                new.link = Some(fs::readlinkat(found.parent, name, Vec::new())?.into_bytes());
                self.append(new, io::empty())
            }
            FileType::Fifo => {
                new.kind(EntryType::Fifo);
                self.append(new, io::empty())
            }
            FileType::RegularFile if fate == Fate::Emptied => self.append(new, io::empty()),
            FileType::RegularFile if fate == Fate::Unblocked => {
                let mut text = Vec::new();
                let file = File::from(open(OFlags::RDONLY | OFlags::NONBLOCK)?);
                file.take(MAX_TEXT).read_to_end(&mut text)?;
                let text = unblocked(&text);
                new.header.set_size(text.len() as u64);
                self.append(new, text.as_slice())
            }
            FileType::RegularFile => {
                if found.stat.st_nlink > 1 {
                    let key = (found.layer, found.stat.st_dev, found.stat.st_ino);
                    if let Some(first) = self.links.get(&key) {
                        new.kind(EntryType::Link);
                        new.link = Some(first.clone());
                        return self.append(new, io::empty());
                    }
                    self.links.insert(key, new.path.clone());
                }
                let opened = open(OFlags::RDONLY | OFlags::NONBLOCK)?;
                new.attributes(&opened)?;
                let size = u64::try_from(found.stat.st_size).unwrap_or_default();
                new.header.set_size(size);
                // One that is shorter by now ends in zeros.
                self.append(new, File::from(opened).chain(io::repeat(0)).take(size))
            }
            // Devices come from outside, and sockets from who listens at them.
            _ => Ok(()),
        }
    }

    /// What the box says of itself; what an earlier one said, which recipe it was built by, is not true any more.
    fn declare(&mut self, user: &str) -> io::Result<()> {
        let text = format!("{}\n", serde_json::json!({ "user": user }));
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Regular);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(text.len() as u64);
        self.append(self.begin(Path::new(DECLARATION), header), text.as_bytes())
    }

    fn begin(&self, path: &Path, header: Header) -> New {
        let mut whole = self.job.purpose.root().to_vec();
        if !path.as_os_str().is_empty() {
            whole.push(b'/');
            whole.extend(path.as_os_str().as_bytes());
        }
        New { header, path: whole, link: None, extensions: Vec::new() }
    }

    fn append(&mut self, mut new: New, data: impl io::Read) -> io::Result<()> {
        let header = new.header.as_gnu_mut().ok_or_else(|| io::Error::other("no header of GNU tar"))?;
        // What a header has no room for stands before it.
        if !fill(&mut header.name, &new.path) {
            new.extensions.push(("path".to_owned(), new.path));
        }
        if let Some(link) = new.link.take_if(|link| !fill(&mut header.linkname, link)) {
            new.extensions.push(("linkpath".to_owned(), link));
        }
        if !new.extensions.is_empty() {
            let extensions = new.extensions.iter().map(|(key, value)| (key.as_str(), value.as_slice()));
            self.out.append_pax_extensions(extensions)?;
        }
        new.header.set_cksum();
        self.out.append(&new.header, data)
    }

    fn header(&self, stat: &Stat, layer: usize) -> io::Result<Header> {
        let tree = &self.job.trees[layer];
        let (Some(uid), Some(gid)) =
            (stat.st_uid.checked_sub(tree.first_uid), stat.st_gid.checked_sub(tree.first_gid))
        else {
            return Err(io::Error::other(format!(
                "its owner {}:{} is none of the machine's",
                stat.st_uid, stat.st_gid
            )));
        };
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Regular);
        header.set_mode(stat.st_mode & 0o7777);
        header.set_uid(uid.into());
        header.set_gid(gid.into());
        header.set_mtime(u64::try_from(stat.st_mtime).unwrap_or_default());
        header.set_size(0);
        Ok(header)
    }
}

/// An entry in the making. Names are kept as they are written, with the dot before them that others count on.
struct New {
    header: Header,
    path: Vec<u8>,
    link: Option<Vec<u8>>,
    /// Records of a PAX header (pax(1), "pax Extended Header").
    extensions: Vec<(String, Vec<u8>)>,
}

impl New {
    fn kind(&mut self, kind: EntryType) {
        self.header.set_entry_type(kind);
    }

    /// Takes the extended attributes; the overlay's own are left out.
    fn attributes(&mut self, opened: &OwnedFd) -> io::Result<()> {
        let mut names = vec![0; MAX_XATTRS];
        let length = match fs::flistxattr(opened, &mut names) {
            Err(rustix::io::Errno::NOTSUP) => return Ok(()),
            length => length?,
        };
        for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
            let wanted =
                name == CAPABILITY || (name.starts_with(b"user.") && !name.starts_with(b"user.overlay."));
            let (true, Ok(text)) = (wanted, str::from_utf8(name)) else { continue };
            let mut value = vec![0; MAX_XATTRS];
            let length = fs::fgetxattr(opened, text, &mut value)?;
            value.truncate(length);
            let value = if name == CAPABILITY { of_no_namespace(value) } else { value };
            self.extensions.push((format!("{XATTR}{text}"), value));
        }
        self.extensions.sort();
        Ok(())
    }
}

/// Puts `text` into a field of a header, where it has room for it.
fn fill(field: &mut [u8; 100], text: &[u8]) -> bool {
    let length = text.len().min(field.len());
    field[..length].copy_from_slice(&text[..length]);
    text.len() <= field.len()
}

/// Capabilities that are bound to a user namespace, as those that are not.
fn of_no_namespace(value: Vec<u8>) -> Vec<u8> {
    let Some((magic, rest)) = value.split_first_chunk::<4>() else { return value };
    let magic = u32::from_le_bytes(*magic);
    if magic & REVISION != REVISION_3 || rest.len() != 20 {
        return value;
    }
    let mut plain = ((magic & !REVISION) | REVISION_2).to_le_bytes().to_vec();
    plain.extend(&rest[..16]);
    plain
}
