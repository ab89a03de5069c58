//! The device as its transport sees it.

use std::io;
use std::sync::Arc;

use virtio_bindings::virtio_ids::VIRTIO_ID_FS;
use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};

use super::worker::FsWorker;
use crate::config::{ChangeListener, Folder};
use crate::fuse::watch::Watch;
use crate::fuse::{Limits, Server, Share};
use crate::virtio::{Activation, VirtioDevice};
use crate::worker::{ThreadKind, Worker};

/// Bytes of the tag in configuration space, filled up with zeroes (virtio 1.2, section 5.11.4).
const TAG: usize = 36;
/// Sizes of the queue for urgent requests and the one for all others. The guest's largest READ is as many pages as fit
/// into the latter.
const QUEUES: [u16; 2] = [128, 1024];

/// A folder of the host, shown to the guest.
pub struct Fs {
    config: [u8; TAG + 4],
    share: Arc<Share>,
    worker: Option<Worker>,
    /// Lasts from one driver to the next.
    watch: Option<Watch>,
}

impl Fs {
    /// The device for `folder`, of which a guest can make the host remember no more than `limits`.
    ///
    /// # Errors
    /// Where there is no `/proc`, or its tag is empty or longer than 36 bytes.
    pub fn new(folder: &Folder, limits: Limits) -> io::Result<Self> {
        let tag = folder.tag.as_bytes();
        if tag.is_empty() || tag.len() > TAG || tag.contains(&0) {
            let text = format!("the folder's tag {:?} is not of 1 to {TAG} bytes", folder.tag);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let mut config = [0; TAG + 4];
        config[..tag.len()].copy_from_slice(tag);
        // One queue for requests.
        config[TAG..].copy_from_slice(&1_u32.to_le_bytes());
        Ok(Self { config, share: Arc::new(Share::open(folder, limits)?), worker: None, watch: None })
    }

    /// Tells `listener` what the host changes in the folder, in at most `folders` of those in it, as long as the device
    /// is there.
    ///
    /// # Errors
    /// Where inotify or a thread cannot be had.
    pub fn watch(&mut self, listener: ChangeListener, folders: usize) -> io::Result<()> {
        let watch = Watch::start(Arc::clone(&self.share), folders, move |changes| listener.tell(&changes))?;
        self.watch = Some(watch);
        Ok(())
    }
}

impl VirtioDevice for Fs {
    fn kind(&self) -> u32 {
        VIRTIO_ID_FS
    }

    fn queues(&self) -> &[u16] {
        &QUEUES
    }

    fn features(&self) -> u64 {
        1 << VIRTIO_RING_F_EVENT_IDX | 1 << VIRTIO_RING_F_INDIRECT_DESC
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        let rest = usize::try_from(offset).ok().and_then(|offset| self.config.get(offset..)).unwrap_or(&[]);
        for (to, from) in data.iter_mut().zip(rest) {
            *to = *from;
        }
    }

    fn activate(&mut self, activation: Activation) -> io::Result<()> {
        let share = Arc::clone(&self.share);
        self.worker = Some(Worker::start_with(ThreadKind::Fs, "fs", move || {
            let owners = *share.owners();
            Ok(FsWorker::new(Server::new(share)?, owners, activation))
        })?);
        Ok(())
    }

    fn reset(&mut self) {
        // The thread's end closes all that the guest had open.
        self.worker = None;
    }
}
