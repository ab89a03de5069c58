//! Writing: in place where a cluster has one of its own, else to a new one, which becomes the cluster's only after
//! all of it has been written.

use std::io;
use std::ops::Range;

use futures_util::future::join_all;

use super::entry::COPIED;
use super::read::Source;
use super::{Mapping, Meta, Qcow2, corrupt};
use crate::block::Buffers;

/// What happens to a run of bytes of the disk that are written.
#[derive(Debug, Clone, Copy)]
enum Target {
    /// They go to this offset of the file.
    InPlace(u64),
    /// They need a place first.
    New,
}

impl Qcow2 {
    /// Writes at `position`; the range must lie in the disk.
    ///
    /// # Errors
    /// What the kernel says, or `InvalidData` for an image that makes no sense. What was there before or what was
    /// to be written is read afterwards.
    pub async fn write(&self, position: u64, buffers: &Buffers) -> io::Result<()> {
        if self.meta().tables.crowded() {
            self.flush().await?;
        }
        let pass = self.meta().retired.pass();
        let targets = self.targets(&mut self.meta(), position, buffers.len())?;
        let result = match targets.as_slice() {
            [(target, _)] => self.write_run(*target, position, buffers).await,
            targets => {
                let mut done = 0;
                let runs = targets.iter().map(|&(target, len)| {
                    let start = done;
                    done += len;
                    async move {
                        let part = buffers.slice(start, len);
                        self.write_run(target, position + start as u64, &part).await
                    }
                });
                join_all(runs).await.into_iter().collect()
            }
        };
        self.meta().unsynced = true;
        drop(pass);
        result
    }

    fn targets(&self, meta: &mut Meta, position: u64, len: usize) -> io::Result<Vec<(Target, usize)>> {
        let cluster_size = self.cluster_size() as usize;
        let mut targets: Vec<(Target, usize)> = Vec::with_capacity(1);
        let mut done = 0;
        while done < len {
            let at = position + done as u64;
            let within = (at as usize) & (cluster_size - 1);
            let size = (cluster_size - within).min(len - done);
            let target = match self.mapping(meta, at >> self.cluster_bits)? {
                Mapping::Data { host, copied: true } => {
                    self.check_host(meta, host)?;
                    Target::InPlace(host + within as u64)
                }
                _ => Target::New,
            };
            done += size;
            match (targets.last_mut(), target) {
                (Some((Target::New, len)), Target::New) => *len += size,
                (Some((Target::InPlace(before), len)), Target::InPlace(now))
                    if *before + *len as u64 == now =>
                {
                    *len += size;
                }
                _ => targets.push((target, size)),
            }
        }
        Ok(targets)
    }

    /// Refuses to write data over the header and the tables that are known, where a damaged entry leads there.
    fn check_host(&self, meta: &Meta, host: u64) -> io::Result<()> {
        let end = host + u64::from(self.cluster_size());
        let (l1, l1_len) = meta.tables.l1_range();
        if host == 0 || host < l1 + l1_len && l1 < end {
            return Err(corrupt("an L2 entry leads to metadata"));
        }
        Ok(())
    }

    async fn write_run(&self, target: Target, position: u64, buffers: &Buffers) -> io::Result<()> {
        match target {
            Target::InPlace(offset) => self.engine.write(&self.file, offset, buffers).await,
            Target::New => self.write_claimed(position, buffers).await,
        }
    }

    /// Writes to clusters that need a place, unless somebody else is giving them one and is done before.
    async fn write_claimed(&self, position: u64, buffers: &Buffers) -> io::Result<()> {
        let end = position + buffers.len() as u64;
        let _claim = self.claims.claim(self.clusters(position, end)).await;
        self.write_within_claim(position, buffers).await
    }

    /// Writes to clusters that the caller has claimed.
    pub(super) async fn write_within_claim(&self, position: u64, buffers: &Buffers) -> io::Result<()> {
        let targets = self.targets(&mut self.meta(), position, buffers.len())?;
        let mut done = 0;
        for (target, len) in targets {
            match target {
                Target::InPlace(offset) => {
                    self.engine.write(&self.file, offset, &buffers.slice(done, len)).await?;
                }
                Target::New => {
                    let mut left = len;
                    while left > 0 {
                        let start = done + len - left;
                        let part = buffers.slice(start, left);
                        left -= self.write_new(position + start as u64, &part).await?;
                    }
                }
            }
            done += len;
        }
        Ok(())
    }

    /// The clusters that a range of bytes touches.
    pub(super) fn clusters(&self, start: u64, end: u64) -> Range<u64> {
        start >> self.cluster_bits..end.div_ceil(u64::from(self.cluster_size()))
    }

    /// Gives new places to as many of the clusters, claimed by the caller, as fit side by side; returns how many
    /// bytes of `buffers` are written.
    async fn write_new(&self, position: u64, buffers: &Buffers) -> io::Result<usize> {
        let wanted = self.clusters(position, position + buffers.len() as u64);
        let (host, count) = self.allocate(&wanted)?;
        let clusters = wanted.start..wanted.start + count;
        let first = clusters.start << self.cluster_bits;
        let end = (clusters.end << self.cluster_bits).min(position + buffers.len() as u64);
        let len = (end - position) as usize;

        let range = first..clusters.end << self.cluster_bits;
        if let Err(error) = self.fill_new(host, range, position, &buffers.slice(0, len)).await {
            let mut meta = self.meta();
            for number in 0..count {
                meta.retired.retire(host + (number << self.cluster_bits));
            }
            return Err(error);
        }
        let mut meta = self.meta();
        for (number, cluster) in clusters.enumerate() {
            let place = host + ((number as u64) << self.cluster_bits);
            self.replace(&mut meta, cluster, place | COPIED)?;
        }
        Ok(len)
    }

    /// Takes new clusters for at least the first of `wanted`, with a table to note them in.
    fn allocate(&self, wanted: &Range<u64>) -> io::Result<(u64, u64)> {
        let mut meta = self.meta();
        let (tables, refcounts) = meta.writable()?;
        for cluster in wanted.clone() {
            tables.prepare(&self.file, refcounts, cluster)?;
        }
        refcounts.allocate(&self.file, wanted.end - wanted.start)
    }

    /// Writes `buffers` and around them, up to the borders of the `range` of whole clusters, what the disk has there.
    async fn fill_new(
        &self,
        host: u64,
        range: Range<u64>,
        position: u64,
        buffers: &Buffers,
    ) -> io::Result<()> {
        let end = position + buffers.len() as u64;
        let (head, tail) = self.around(&range, position, end).await?;
        let offset = if head.is_some() { host } else { host + (position - range.start) };
        let mut all = head.unwrap_or_else(Buffers::empty).chain(buffers.clone());
        if let Some(tail) = tail {
            all = all.chain(tail);
        }
        self.engine.write(&self.file, offset, &all).await
    }

    /// What the disk has in a range of whole clusters before `position` and from `end` on.
    async fn around(
        &self,
        range: &Range<u64>,
        position: u64,
        end: u64,
    ) -> io::Result<(Option<Buffers>, Option<Buffers>)> {
        let one = range.end - range.start == u64::from(self.cluster_size());
        if !one || position == range.start || end == range.end {
            return Ok((self.old(range.start, position).await?, self.old(end, range.end).await?));
        }
        // One read of the whole is cheaper than two beside what is written.
        let Some(old) = self.old(range.start, range.end).await? else { return Ok((None, None)) };
        let (head, tail) = ((position - range.start) as usize, (end - range.start) as usize);
        Ok((Some(old.slice(0, head)), Some(old.slice(tail, usize::MAX))))
    }

    /// What the disk has in a range within one cluster; `None` where that is zeros, which a new cluster has already.
    async fn old(&self, start: u64, end: u64) -> io::Result<Option<Buffers>> {
        if start == end {
            return Ok(None);
        }
        let within = (start & u64::from(self.cluster_size() - 1)) as usize;
        let mapping = self.mapping(&mut self.meta(), start >> self.cluster_bits)?;
        let source = match mapping {
            Mapping::Zero { .. } => return Ok(None),
            Mapping::Unallocated if self.bare(start) => return Ok(None),
            Mapping::Unallocated => Source::Backing,
            Mapping::Data { host, .. } => Source::Data(host + within as u64),
            Mapping::Compressed { offset, len } => Source::Compressed { offset, len, within },
        };
        let old = Buffers::zeroed((end - start) as usize);
        self.read_run(source, start, &old).await?;
        Ok(Some(old))
    }

    /// Sets the entry for `cluster` and retires what it led to before.
    pub(super) fn replace(&self, meta: &mut Meta, cluster: u64, entry: u64) -> io::Result<()> {
        let old = self.mapping(meta, cluster)?;
        meta.tables.set(&self.file, cluster, entry)?;
        match old {
            Mapping::Data { host, .. } | Mapping::Zero { host: Some(host) } => meta.retired.retire(host),
            Mapping::Compressed { offset, len } => {
                // Each host cluster that compressed bytes touch counts one reference for them.
                for host in self.clusters(offset, offset + u64::from(len)) {
                    meta.retired.retire(host << self.cluster_bits);
                }
            }
            Mapping::Unallocated | Mapping::Zero { host: None } => {}
        }
        Ok(())
    }
}
