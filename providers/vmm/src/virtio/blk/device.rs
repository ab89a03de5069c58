//! The device as its driver sees it: features, configuration space, life.

use std::io;
use std::sync::Arc;

use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_F_BLK_SIZE, VIRTIO_BLK_F_DISCARD, VIRTIO_BLK_F_FLUSH, VIRTIO_BLK_F_MQ, VIRTIO_BLK_F_RO,
    VIRTIO_BLK_F_SEG_MAX, VIRTIO_BLK_F_WRITE_ZEROES,
};
use virtio_bindings::virtio_ids::VIRTIO_ID_BLOCK;
use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};

use super::request::{MAX_RANGE_SECTORS, MAX_RANGES, SECTOR, SERIAL};
use super::worker::BlkWorker;
use crate::block::{Engine, FaultSink, Image, ImageOptions, OpenError};
use crate::config::Disk;
use crate::virtio::{Activation, VirtioDevice};
use crate::worker::{ThreadKind, Worker};

/// Descriptors of a queue.
const QUEUE_SIZE: u16 = 256;
/// The most queues that are of use.
const MAX_QUEUES: usize = 4;
/// Bytes of the configuration space up to `secure_erase` (virtio 1.2, section 5.2.4).
const CONFIG_LEN: usize = 60;

/// Why there can be no such disk.
#[derive(Debug, thiserror::Error)]
pub enum BlkError {
    /// The image cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The serial number is too long or not ASCII.
    #[error("the serial number {serial:?} of the disk {disk} is not at most 20 bytes of ASCII")]
    Serial {
        /// The serial number.
        serial: String,
        /// The image.
        disk: String,
    },
}

/// A disk of the guest.
pub struct Blk {
    image: Arc<Image>,
    serial: [u8; SERIAL],
    name: String,
    queues: Vec<u16>,
    worker: Option<Worker>,
}

impl Blk {
    /// Opens the image, and all behind it. `cpus` are those of the guest: there is a queue for each, up to four.
    /// Faults at run time are told to `sink`, the first of each kind. `name` is for the thread's name.
    ///
    /// # Errors
    /// Where the image cannot be had; the disk's description says which.
    pub fn open(disk: &Disk, name: &str, cpus: u8, sink: Option<FaultSink>) -> Result<Self, BlkError> {
        let engine = Engine::new().map_err(OpenError::Engine)?;
        let mut serial = [0; SERIAL];
        let bytes = disk.serial.as_bytes();
        match serial.get_mut(..bytes.len()) {
            Some(field) if disk.serial.is_ascii() => field.copy_from_slice(bytes),
            _ => {
                let disk_path = disk.path.display().to_string();
                return Err(BlkError::Serial { serial: disk.serial.clone(), disk: disk_path });
            }
        }
        let options = ImageOptions {
            path: &disk.path,
            format: disk.format,
            read_only: disk.read_only,
            backing: &disk.backing,
        };
        let image = Image::open(&options, Arc::new(engine), sink)?;
        Ok(Self::new(Arc::new(image), serial, name, cpus))
    }

    fn new(image: Arc<Image>, serial: [u8; SERIAL], name: &str, cpus: u8) -> Self {
        let queues = vec![QUEUE_SIZE; usize::from(cpus).clamp(1, MAX_QUEUES)];
        Self { image, serial, name: name.to_owned(), queues, worker: None }
    }

    /// The configuration space (virtio 1.2, section 5.2.4).
    fn config(&self) -> [u8; CONFIG_LEN] {
        let mut config = [0; CONFIG_LEN];
        let mut put = |at: usize, bytes: &[u8]| config[at..at + bytes.len()].copy_from_slice(bytes);
        let alignment = self.image.granularity() / SECTOR as u32;
        put(0, &(self.image.size() / SECTOR).to_le_bytes());
        put(12, &u32::from(QUEUE_SIZE - 2).to_le_bytes());
        put(20, &(SECTOR as u32).to_le_bytes());
        put(34, &(self.queues.len() as u16).to_le_bytes());
        put(36, &MAX_RANGE_SECTORS.to_le_bytes());
        put(40, &MAX_RANGES.to_le_bytes());
        put(44, &alignment.to_le_bytes());
        put(48, &MAX_RANGE_SECTORS.to_le_bytes());
        put(52, &MAX_RANGES.to_le_bytes());
        put(56, &[1]);
        config
    }
}

impl VirtioDevice for Blk {
    fn kind(&self) -> u32 {
        VIRTIO_ID_BLOCK
    }

    fn queues(&self) -> &[u16] {
        &self.queues
    }

    fn features(&self) -> u64 {
        let mut features = 1 << VIRTIO_BLK_F_SEG_MAX
            | 1 << VIRTIO_BLK_F_BLK_SIZE
            | 1 << VIRTIO_BLK_F_FLUSH
            | 1 << VIRTIO_RING_F_EVENT_IDX
            | 1 << VIRTIO_RING_F_INDIRECT_DESC;
        if self.queues.len() > 1 {
            features |= 1 << VIRTIO_BLK_F_MQ;
        }
        if self.image.read_only() {
            features |= 1 << VIRTIO_BLK_F_RO;
        } else {
            features |= 1 << VIRTIO_BLK_F_DISCARD | 1 << VIRTIO_BLK_F_WRITE_ZEROES;
        }
        features
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        let config = self.config();
        let rest = usize::try_from(offset).ok().and_then(|offset| config.get(offset..)).unwrap_or(&[]);
        let len = rest.len().min(data.len());
        data[..len].copy_from_slice(&rest[..len]);
    }

    fn activate(&mut self, activation: Activation) -> io::Result<()> {
        let through = activation.features & 1 << VIRTIO_BLK_F_FLUSH == 0;
        let Activation { ram, queues, .. } = activation;
        let worker = BlkWorker::new(ram, self.image.clone(), queues, self.serial, through);
        self.worker = Some(Worker::start(ThreadKind::Block, &self.name, worker)?);
        Ok(())
    }

    fn reset(&mut self) {
        self.worker = None;
    }
}

impl std::fmt::Debug for Blk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Blk").field("image", &self.image).field("queues", &self.queues.len()).finish()
    }
}
