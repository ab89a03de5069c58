//! Bringing changes to disk in the order that the module's head tells.

use std::io;

use futures_util::future::join_all;

use super::claims::FLUSH;
use super::refcounts::{Patch, RefcountPlan};
use super::tables::TablePlan;
use super::{Meta, Qcow2};
use crate::block::Buffers;

struct Plan {
    refcounts: RefcountPlan,
    tables: TablePlan,
    retired: Vec<u64>,
    number: u64,
}

impl Qcow2 {
    /// Makes durable all writes that have ended.
    ///
    /// # Errors
    /// What the kernel says. Nothing is lost in memory; another flush tries again.
    pub async fn flush(&self) -> io::Result<()> {
        let begun = self.meta().flushes_begun;
        let _claim = self.claims.claim(FLUSH..FLUSH + 1).await;
        let Some(plan) = self.plan(begun)? else { return Ok(()) };
        let result = self.carry_out(&plan).await;
        let over = {
            let mut meta = self.meta();
            let Meta { tables, refcounts, retired, .. } = &mut *meta;
            if let Err(error) = result {
                tables.undo(&plan.tables);
                if let Some(refcounts) = refcounts {
                    refcounts.undo(&plan.refcounts);
                }
                retired.put_back(plan.retired);
                meta.unsynced = true;
                return Err(error);
            }
            tables.settle(&plan.tables);
            retired.know(plan.retired);
            let over = retired.over();
            meta.flushed = plan.number;
            over
        };
        self.give_back(over).await
    }

    /// Flushes until nothing is left to do, also of what one flush leaves for the next: the last before the end.
    ///
    /// # Errors
    /// As for [`flush`](Self::flush).
    pub async fn settle(&self) -> io::Result<()> {
        // Retired clusters become known with the first, their counts with the second.
        for _ in 0..2 {
            self.flush().await?;
        }
        Ok(())
    }

    /// What a flush that begins now has to do; `None` for nothing, as for one that waited for another that began
    /// after it was asked for (`begun` are those that had begun then).
    fn plan(&self, begun: u64) -> io::Result<Option<Plan>> {
        let mut meta = self.meta();
        let dirty = meta.unsynced
            || meta.tables.dirty()
            || meta.retired.any()
            || meta.refcounts.as_ref().is_some_and(|refcounts| refcounts.dirty());
        if meta.flushed > begun || !dirty {
            return Ok(None);
        }
        let len = meta.writable()?.1.end();
        if meta.file_len < len {
            // A new table may be all hole. Nothing is ever written behind `len`, so that this never cuts off.
            self.file.set_len(len)?;
            meta.file_len = len;
        }
        meta.flushes_begun += 1;
        meta.unsynced = false;
        let (number, retired) = (meta.flushes_begun, meta.retired.take());
        let (tables, refcounts) = meta.writable()?;
        let (tables, refcounts) = (tables.plan(), refcounts.plan());
        Ok(Some(Plan { refcounts, tables, retired, number }))
    }

    async fn carry_out(&self, plan: &Plan) -> io::Result<()> {
        if !plan.refcounts.blocks.is_empty() {
            self.patch(&plan.refcounts.blocks).await?;
            self.engine.sync(&self.file).await?;
        }
        self.patch(&plan.refcounts.rest).await?;
        self.patch(&plan.tables.unreachable).await?;
        if !plan.tables.rest.is_empty() {
            self.engine.sync(&self.file).await?;
            self.patch(&plan.tables.rest).await?;
        }
        self.engine.sync(&self.file).await
    }

    async fn patch(&self, patches: &[Patch]) -> io::Result<()> {
        let writes = patches.iter().map(|(offset, bytes)| async move {
            self.engine.write(&self.file, *offset, &Buffers::from_bytes(bytes.clone())).await
        });
        join_all(writes).await.into_iter().collect()
    }

    /// Takes the references away from clusters that nothing leads to any more. Those without any give their space
    /// back and may then be used again.
    async fn give_back(&self, offsets: Vec<u64>) -> io::Result<()> {
        let size = u64::from(self.cluster_size());
        for offset in offsets {
            let last = {
                let mut meta = self.meta();
                let (_, refcounts) = meta.writable()?;
                refcounts.release(&self.file, offset)?
            };
            // Where the file system cannot punch holes the cluster stays unused: it would not read as zeros.
            if last && self.engine.punch(&self.file, offset, size).await.is_ok() {
                self.inflater.forget(offset, size);
                let mut meta = self.meta();
                let (_, refcounts) = meta.writable()?;
                refcounts.reuse(offset);
            }
        }
        Ok(())
    }
}
