//! The root file system on a disk image, as a tree.

use std::io::Read;
use std::path::Path;

use posada_disk::{Backing, Image, Node, NodeKind};

use super::pump::Pumped;
use super::sparse::Extent;
use super::tar_stream::{Entry, Kind};
use super::{Limits, Refusal, Unpacked, Writing, inspect, sparse, tree};
use crate::Digest;

/// Where a file system keeps what a check has found.
const LOST: &[u8] = b"lost+found";
/// What is mounted at boot.
pub const FSTAB: &[u8] = b"etc/fstab";
/// Most bytes of it.
pub const MAX_TEXT: u64 = 1 << 20;

/// Takes the files on the disk `image` into the new directory [`TREE`] of the current directory, and writes them to disk.
/// `user` is who logs in, where there is such an account; `seen` hears of the bytes of files. The digest is left to whoever asks.
///
/// # Errors
/// [`Refusal`] with the tree left as far as it came; the caller removes it.
pub fn tree_of_disk(
    image: &Path,
    limits: Limits,
    user: Option<&str>,
    mut seen: impl FnMut(u64),
) -> Result<Unpacked, Refusal> {
    let image = Image::open(image, Backing::Refused)?;
    let mut writing = Writing::begin(limits)?;
    posada_disk::walk(&image, &mut |node, content| {
        if node.path == LOST {
            return Ok(());
        }
        let path = tree::clean(&node.path, b"")?.unwrap_or_default();
        let mut entry = entry(node);
        if let (FSTAB, Kind::File { size, extents }) = (&path[..], &mut entry.kind) {
            let mut text = Vec::new();
            content.take(MAX_TEXT).read_to_end(&mut text).map_err(|error| Refusal::reading(&error))?;
            let text = without_disks(&text, None);
            (*size, *extents) = (text.len() as u64, sparse::whole(text.len() as u64));
            return writing.entry(&path, &entry, &mut &text[..]);
        }
        writing.entry(&path, &entry, &mut Counted { content, seen: &mut seen })
    })?;
    // The account that cloud-init would have made is not there.
    let metadata = inspect::inspect(writing.tree.root(), user)
        .or_else(|_| inspect::inspect(writing.tree.root(), None))?;
    writing.finish(metadata, &Pumped { digest: Digest::from_bytes([0; 32]), size: image.size() })
}

/// A node as an archive would have it.
pub fn entry(node: &Node) -> Entry {
    Entry {
        path: node.path.clone(),
        kind: match &node.kind {
            NodeKind::File { size, extents } => Kind::File {
                size: *size,
                extents: extents
                    .iter()
                    .map(|(offset, length)| Extent { offset: *offset, length: *length })
                    .collect(),
            },
            NodeKind::Directory => Kind::Directory,
            NodeKind::Symlink(target) => Kind::Symlink(target.clone()),
            NodeKind::Hardlink(first) => Kind::Hardlink(first.clone()),
            NodeKind::Fifo => Kind::Fifo,
            NodeKind::Device => Kind::Device,
        },
        mode: node.mode,
        uid: node.uid.into(),
        gid: node.gid.into(),
        mtime: node.mtime,
        xattrs: node.xattrs.clone(),
    }
}

/// fstab(5) without the lines about a disk's file systems and its swap, none of which is there without that disk. `kept` is how the
/// first file system of another one is named.
pub fn without_disks(text: &[u8], kept: Option<&str>) -> Vec<u8> {
    const OF_DISKS: [&[u8]; 6] = [b"UUID=", b"LABEL=", b"PARTUUID=", b"PARTLABEL=", b"ID=", b"/"];
    let stays = |line: &&[u8]| {
        let source = line.trim_ascii_start();
        let source = source.split(u8::is_ascii_whitespace).next().unwrap_or_default();
        !OF_DISKS.iter().any(|start| source.starts_with(start))
            || kept.is_some_and(|kept| kept.as_bytes() == source)
    };
    text.split_inclusive(|byte| *byte == b'\n').filter(stays).collect::<Vec<_>>().concat()
}

struct Counted<'a> {
    content: &'a mut dyn Read,
    seen: &'a mut dyn FnMut(u64),
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.content.read(buffer)?;
        (self.seen)(count as u64);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn of_fstab_stays_what_needs_no_disk() {
        let text = b"# /etc/fstab\nUUID=1-2 / ext4 defaults 0 1\n /dev/sda2 none swap sw 0 0\n/swapfile swap swap sw\n\
            tmpfs /tmp tmpfs nosuid\nnas:/srv /srv nfs ro";
        let left = super::without_disks(text, None);
        assert_eq!(
            String::from_utf8(left).unwrap(),
            "# /etc/fstab\ntmpfs /tmp tmpfs nosuid\nnas:/srv /srv nfs ro"
        );
        let ours =
            super::without_disks(b"LABEL=posada / ext4\nLABEL=other /srv ext4\n", Some("LABEL=posada"));
        assert_eq!(ours, b"LABEL=posada / ext4\n");
    }
}
