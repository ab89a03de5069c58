//! A driver that puts anything at all into the rings of a disk: the first bytes are its memory, with the rings at its
//! beginning. Nothing may panic or hang, and nothing may be in flight afterwards.
//!
//! Run it with `scripts/fuzz.sh 60 blk_queue`.

#![no_main]

use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use posada_vmm::block::{Engine, Image, ImageOptions};
use posada_vmm::config::DiskFormat;
use posada_vmm::virtio::blk::fuzzing::fuzz_queue;
use posada_vmm::virtio::{ActiveQueue, Interrupt};
use virtio_queue::{Queue, QueueT};
use vm_memory::{Bytes, GuestAddress};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

const RAM: usize = 64 << 10;
const DISK: u64 = 1 << 20;
const QUEUE: u16 = 16;

struct Deaf;

impl Interrupt for Deaf {
    fn queue(&self, _index: u16) {}
    fn config(&self) {}
    fn needs_reset(&self) {}
}

/// A disk that is gone from the file system as soon as it is open.
static IMAGE: LazyLock<Arc<Image>> = LazyLock::new(|| {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.as_file().set_len(DISK).expect("a file of a mebibyte");
    let options = ImageOptions { path: file.path(), format: DiskFormat::Raw, read_only: false, backing: &[] };
    let engine = Engine::new().expect("an engine");
    Arc::new(Image::open(&options, Arc::new(engine), None).expect("the image"))
});

fuzz_target!(|bytes: &[u8]| {
    let ram = Arc::new(posada_vmm::memory::allocate(&[(GuestAddress(0), RAM)]).expect("memory"));
    let _ = ram.write(&bytes[..bytes.len().min(RAM)], GuestAddress(0));
    let mut queue = Queue::new(QUEUE).expect("a queue");
    queue.set_size(QUEUE);
    queue.set_desc_table_address(Some(0), Some(0));
    queue.set_avail_ring_address(Some(0x100), Some(0));
    queue.set_used_ring_address(Some(0x140), Some(0));
    queue.set_event_idx(bytes.len().is_multiple_of(2));
    queue.set_ready(true);
    let kick = EventFd::new(EFD_NONBLOCK).expect("an event");
    let queue = ActiveQueue::new(0, queue, kick, ram.clone(), Arc::new(Deaf));
    fuzz_queue(&ram, &IMAGE, vec![queue]);
});
