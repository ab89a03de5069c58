//! All that a file system holds.

use std::collections::{HashMap, HashSet};
use std::io::Read;

use super::inode::{Inode, Kind, ROOT};
use super::{Content, Ext4, attributes, content, directory};
use crate::DiskError;
use crate::files::{Node, NodeKind};

/// Deepest directory.
const MAX_DEPTH: usize = 200;
/// Most parts of one file with holes between them.
const MAX_EXTENTS: usize = 1 << 16;
/// Most bytes of paths that are remembered.
const MAX_PATHS: usize = 256 << 20;
/// Most names in one directory.
const MAX_ENTRIES: usize = 4_000_000;

/// A directory that was entered: its path, and what in it is still to come, the next one last.
type Open = (Vec<u8>, Vec<(Vec<u8>, u32)>);

impl Ext4 {
    /// Hands over each node below `prefix`, directories before what is in them, in the order of their names.
    pub fn walk<E: From<DiskError>>(
        &self,
        prefix: &[u8],
        take: &mut dyn FnMut(&Node, &mut dyn Read) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut walk = Walk { fs: self, links: HashMap::new(), entered: HashSet::new(), paths: 0 };
        let root = self.inode(ROOT)?;
        if root.kind != Kind::Directory {
            return Err(self.blocks.corrupt("a root that is no directory").into());
        }
        let mut open: Vec<Open> = walk.node(prefix.to_vec(), &root, take)?.into_iter().collect();
        while let Some((path, left)) = open.last_mut() {
            let Some((name, number)) = left.pop() else {
                open.pop();
                continue;
            };
            let below = if path.is_empty() { name } else { [path, &b"/"[..], &name].concat() };
            if open.len() >= MAX_DEPTH {
                return Err(self
                    .blocks
                    .corrupt(format!("more than {MAX_DEPTH} directories in each other"))
                    .into());
            }
            let inode = self.inode(number)?;
            open.extend(walk.node(below, &inode, take)?);
        }
        Ok(())
    }
}

struct Walk<'a> {
    fs: &'a Ext4,
    /// Files with several names, by their inodes; and the first name.
    links: HashMap<u32, Vec<u8>>,
    /// Directories: each has one place.
    entered: HashSet<u32>,
    paths: usize,
}

impl Walk<'_> {
    fn node<E: From<DiskError>>(
        &mut self,
        path: Vec<u8>,
        inode: &Inode,
        take: &mut dyn FnMut(&Node, &mut dyn Read) -> Result<(), E>,
    ) -> Result<Option<Open>, E> {
        let Ext4 { blocks, superblock } = self.fs;
        let mut node = Node {
            path,
            kind: NodeKind::Directory,
            mode: inode.mode,
            uid: inode.uid,
            gid: inode.gid,
            mtime: inode.mtime,
            xattrs: attributes::of(blocks, superblock, inode)?,
        };
        if inode.kind != Kind::Directory && inode.links > 1 {
            if let Some(first) = self.links.get(&inode.number) {
                node.kind = NodeKind::Hardlink(first.clone());
                take(&node, &mut std::io::empty())?;
                return Ok(None);
            }
            self.remember(&node.path)?;
            self.links.insert(inode.number, node.path.clone());
        }
        match inode.kind {
            Kind::Directory => {
                if !self.entered.insert(inode.number) {
                    return Err(blocks.corrupt(format!("a directory {} in two places", inode.number)).into());
                }
                take(&node, &mut std::io::empty())?;
                return self.names(inode).map(|names| Some((node.path, names))).map_err(E::from);
            }
            Kind::File => {
                let extents = content::extents(blocks, inode, MAX_EXTENTS)?;
                // Of one that has too many, the holes come as zeros.
                let extents = extents.unwrap_or_else(|| vec![(0, inode.size)]);
                let mut content = Content::new(self.fs, inode, &extents)?;
                node.kind = NodeKind::File { size: inode.size, extents };
                take(&node, &mut content)?;
            }
            Kind::Symlink => {
                node.kind = NodeKind::Symlink(content::link(blocks, superblock, inode)?);
                take(&node, &mut std::io::empty())?;
            }
            Kind::Fifo => {
                node.kind = NodeKind::Fifo;
                take(&node, &mut std::io::empty())?;
            }
            Kind::Device => {
                node.kind = NodeKind::Device;
                take(&node, &mut std::io::empty())?;
            }
            // Made by who listens at it.
            Kind::Socket => {}
        }
        Ok(None)
    }

    /// What is in a directory, the first name last.
    fn names(&mut self, inode: &Inode) -> Result<Vec<(Vec<u8>, u32)>, DiskError> {
        let Ext4 { blocks, superblock } = self.fs;
        let mut names = Vec::new();
        let mut bytes = 0;
        directory::entries(blocks, superblock, inode, &mut |name, number| {
            bytes += name.len();
            if names.len() >= MAX_ENTRIES || bytes > MAX_PATHS {
                return Err(blocks.corrupt(format!("more than {MAX_ENTRIES} names in one directory")));
            }
            names.push((name.to_vec(), number));
            Ok(true)
        })?;
        names.sort_by(|one, other| other.cmp(one));
        Ok(names)
    }

    fn remember(&mut self, path: &[u8]) -> Result<(), DiskError> {
        self.paths += path.len();
        if self.paths > MAX_PATHS {
            return Err(self.fs.blocks.corrupt("too many files with several names"));
        }
        Ok(())
    }
}
