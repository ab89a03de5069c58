//! Reading: a range is cut into runs that lie side by side, which are read at once.

use std::io;

use futures_util::future::join_all;

use super::{Mapping, Qcow2};
use crate::block::Buffers;

/// Where a run of bytes of the disk comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    Zero,
    /// The backing file, at the same offset.
    Backing,
    /// This file, at an offset.
    Data(u64),
    Compressed {
        offset: u64,
        len: u32,
        /// Where in the cluster the run begins.
        within: usize,
    },
}

impl Qcow2 {
    /// Reads from `position`; the range must lie in the disk.
    ///
    /// # Errors
    /// What the kernel says, or `InvalidData` for an image that makes no sense.
    pub async fn read(&self, position: u64, buffers: &Buffers) -> io::Result<()> {
        let pass = self.meta().retired.pass();
        let result = match self.sources(position, buffers.len())?.as_slice() {
            [(source, _)] => self.read_run(*source, position, buffers).await,
            sources => {
                let mut done = 0;
                let runs =
                    sources.iter().map(|&(source, len)| {
                        let start = done;
                        done += len;
                        async move {
                            self.read_run(source, position + start as u64, &buffers.slice(start, len)).await
                        }
                    });
                join_all(runs).await.into_iter().collect()
            }
        };
        drop(pass);
        result
    }

    /// The runs that make up a range.
    fn sources(&self, position: u64, len: usize) -> io::Result<Vec<(Source, usize)>> {
        let mut meta = self.meta();
        let cluster_size = self.cluster_size() as usize;
        let mut sources: Vec<(Source, usize)> = Vec::with_capacity(1);
        let mut done = 0;
        while done < len {
            let at = position + done as u64;
            let within = (at as usize) & (cluster_size - 1);
            let size = (cluster_size - within).min(len - done);
            let source = match self.mapping(&mut meta, at >> self.cluster_bits)? {
                Mapping::Zero { .. } => Source::Zero,
                Mapping::Unallocated if self.backing.is_none() => Source::Zero,
                Mapping::Unallocated => Source::Backing,
                Mapping::Data { host, .. } => Source::Data(host + within as u64),
                Mapping::Compressed { offset, len } => Source::Compressed { offset, len, within },
            };
            done += size;
            match sources.last_mut() {
                Some((last, len)) if source.follows(*last, *len) => *len += size,
                _ => sources.push((source, size)),
            }
        }
        Ok(sources)
    }

    /// Reads one run.
    pub(super) async fn read_run(&self, source: Source, position: u64, buffers: &Buffers) -> io::Result<()> {
        match (source, &self.backing) {
            (Source::Data(offset), _) => self.engine.read(&self.file, offset, buffers).await,
            (Source::Backing, Some(backing)) => backing.read_backing(position, buffers).await,
            (Source::Zero | Source::Backing, _) => {
                buffers.zero(0, buffers.len());
                Ok(())
            }
            (Source::Compressed { offset, len, within }, _) => {
                let cluster = match self.inflater.kept(offset) {
                    Some(cluster) => cluster,
                    None => {
                        let compressed = Buffers::zeroed(len as usize);
                        self.engine.read(&self.file, offset, &compressed).await?;
                        self.inflater.inflate(offset, &compressed.to_vec(), self.cluster_size() as usize)?
                    }
                };
                buffers.fill(&cluster[within..within + buffers.len()]);
                Ok(())
            }
        }
    }
}

impl Source {
    /// Whether this is what comes `len` bytes after `last`.
    fn follows(self, last: Self, len: usize) -> bool {
        match (last, self) {
            (Self::Zero, Self::Zero) | (Self::Backing, Self::Backing) => true,
            (Self::Data(before), Self::Data(now)) => before + len as u64 == now,
            _ => false,
        }
    }
}
