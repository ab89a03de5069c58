//! Giving space back, and making ranges read as zeros without writing them.

use std::io;

use super::entry::ZERO;
use super::{Mapping, Qcow2};
use crate::block::Buffers;

/// How many clusters are claimed at a time.
const BATCH: u64 = 1024;

/// What a whole cluster is to become.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wish {
    /// Anything, best without space.
    Discarded,
    /// Zeros, best without space.
    Zero,
    /// Zeros, with the space it has.
    ZeroKept,
}

impl Qcow2 {
    /// Gives back the space of the clusters that lie in the range.
    ///
    /// # Errors
    /// As for [`write`](Self::write).
    pub async fn discard(&self, position: u64, len: u64) -> io::Result<()> {
        let (first, last) = self.whole(position, len);
        self.each(first, last, Wish::Discarded).await
    }

    /// Makes the range read as zeros.
    ///
    /// # Errors
    /// As for [`write`](Self::write).
    pub async fn write_zeroes(&self, position: u64, len: u64, unmap: bool) -> io::Result<()> {
        let (first, last) = self.whole(position, len);
        let end = position + len;
        if first >= last {
            return self.write_zeros(position, end).await;
        }
        self.write_zeros(position, first << self.cluster_bits).await?;
        self.each(first, last, if unmap { Wish::Zero } else { Wish::ZeroKept }).await?;
        self.write_zeros((last << self.cluster_bits).min(end), end).await
    }

    /// The first cluster that lies in the range, and the first behind it that does not. The disk's last may be cut
    /// off, and is whole all the same.
    fn whole(&self, position: u64, len: u64) -> (u64, u64) {
        let cluster = u64::from(self.cluster_size());
        let end = position + len;
        let last = if end >= self.size { end.div_ceil(cluster) } else { end / cluster };
        (position.div_ceil(cluster), last)
    }

    async fn write_zeros(&self, mut position: u64, end: u64) -> io::Result<()> {
        const STEP: u64 = 1 << 20;
        while position < end {
            let step = STEP.min(end - position);
            self.write(position, &Buffers::zeroed(step as usize)).await?;
            position += step;
        }
        Ok(())
    }

    async fn each(&self, first: u64, last: u64, wish: Wish) -> io::Result<()> {
        let mut cluster = first;
        while cluster < last {
            if self.meta().tables.crowded() {
                self.flush().await?;
            }
            let untabled = self.meta().tables.untabled(cluster)?;
            if untabled > 0 && (wish == Wish::Discarded || self.bare(cluster << self.cluster_bits)) {
                cluster += untabled;
                continue;
            }
            let end = last.min(cluster + BATCH);
            self.batch(cluster, end, wish).await?;
            cluster = end;
        }
        Ok(())
    }

    async fn batch(&self, first: u64, last: u64, wish: Wish) -> io::Result<()> {
        let _claim = self.claims.claim(first..last).await;
        let pass = self.meta().retired.pass();
        for cluster in first..last {
            match self.unmap(cluster, wish)? {
                Rest::Done => {}
                Rest::ZeroHost(host) => {
                    let len = u64::from(self.cluster_size());
                    self.engine.zero(&self.file, host, len).await?;
                    self.meta().unsynced = true;
                }
                Rest::WriteZeros => {
                    let start = cluster << self.cluster_bits;
                    let len = u64::from(self.cluster_size()).min(self.size - start) as usize;
                    self.write_within_claim(start, &Buffers::zeroed(len)).await?;
                    self.meta().unsynced = true;
                }
            }
        }
        drop(pass);
        Ok(())
    }

    /// Does what can be done in the tables for one cluster, claimed by the caller.
    fn unmap(&self, cluster: u64, wish: Wish) -> io::Result<Rest> {
        let mut meta = self.meta();
        let bare = self.bare(cluster << self.cluster_bits);
        let has_zero = self.version >= 3;
        let entry = match (self.mapping(&mut meta, cluster)?, wish) {
            (Mapping::Unallocated, Wish::Discarded) | (Mapping::Zero { host: None }, _) => {
                return Ok(Rest::Done);
            }
            (Mapping::Zero { host: Some(_) }, Wish::ZeroKept) => return Ok(Rest::Done),
            (Mapping::Unallocated, _) if bare => return Ok(Rest::Done),
            (Mapping::Data { host, copied: true }, Wish::ZeroKept) => return Ok(Rest::ZeroHost(host)),
            _ if has_zero => ZERO,
            _ if bare => 0,
            (_, Wish::Discarded) => return Ok(Rest::Done),
            _ => return Ok(Rest::WriteZeros),
        };
        let (tables, refcounts) = meta.writable()?;
        tables.prepare(&self.file, refcounts, cluster)?;
        self.replace(&mut meta, cluster, entry)?;
        Ok(Rest::Done)
    }
}

/// What is left to do for a cluster.
enum Rest {
    Done,
    /// The host cluster at this offset must become zeros.
    ZeroHost(u64),
    /// Zeros must be written like any data.
    WriteZeros,
}
