//! The memory of a transfer: pieces of guest memory, of the host's heap, or of both, kept alive with the request.

use std::ptr::NonNull;
use std::sync::Arc;

use vm_memory::{GuestAddress, GuestMemoryBackend};

use crate::memory::GuestRam;

/// Pieces of memory that one transfer fills or empties, in order. They stay mapped as long as this value or a part
/// of it lives.
#[derive(Clone)]
pub struct Buffers {
    pieces: Vec<libc::iovec>,
    len: usize,
    ram: Option<Arc<GuestRam>>,
    heap: Vec<Arc<Heap>>,
}

// SAFETY: the pointers lead into memory that `ram` and `heap` own; it is only ever copied from and to as bytes, by
// the kernel or here, and no references are made to it.
unsafe impl Send for Buffers {}
// SAFETY: as above.
unsafe impl Sync for Buffers {}

impl Buffers {
    /// Parts of guest memory, as `(address, length)`; `None` where one of them is not all memory.
    #[must_use]
    pub fn guest(ram: &Arc<GuestRam>, parts: &[(GuestAddress, u32)]) -> Option<Self> {
        let mut pieces = Vec::with_capacity(parts.len());
        let mut len = 0;
        for &(address, size) in parts {
            for slice in GuestMemoryBackend::get_slices(&**ram, address, size as usize) {
                let slice = slice.ok()?;
                let base = slice.ptr_guard_mut().as_ptr();
                pieces.push(libc::iovec { iov_base: base.cast(), iov_len: slice.len() });
                len += slice.len();
            }
        }
        Some(Self { pieces, len, ram: Some(ram.clone()), heap: Vec::new() })
    }

    /// `len` bytes of the heap, all zero.
    #[must_use]
    pub fn zeroed(len: usize) -> Self {
        Self::from_bytes(vec![0; len])
    }

    /// These bytes.
    #[must_use]
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        let heap = Arc::new(Heap::new(bytes.into_boxed_slice()));
        let len = heap.len;
        let piece = libc::iovec { iov_base: heap.start.as_ptr().cast(), iov_len: len };
        Self { pieces: vec![piece], len, ram: None, heap: vec![heap] }
    }

    /// Nothing.
    #[must_use]
    pub fn empty() -> Self {
        Self { pieces: Vec::new(), len: 0, ram: None, heap: Vec::new() }
    }

    /// How many bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The pieces, for the kernel.
    pub(super) fn pieces(&self) -> &[libc::iovec] {
        &self.pieces
    }

    /// The part of `len` bytes from `start`; what lies behind the end is left out.
    #[must_use]
    pub fn slice(&self, start: usize, len: usize) -> Self {
        if start == 0 && len >= self.len {
            return self.clone();
        }
        let mut skip = start;
        let mut left = len;
        let mut pieces = Vec::new();
        let mut total = 0;
        for piece in &self.pieces {
            if left == 0 {
                break;
            }
            if skip >= piece.iov_len {
                skip -= piece.iov_len;
                continue;
            }
            let size = (piece.iov_len - skip).min(left);
            pieces.push(libc::iovec {
                iov_base: piece.iov_base.cast::<u8>().wrapping_add(skip).cast(),
                iov_len: size,
            });
            skip = 0;
            left -= size;
            total += size;
        }
        Self { pieces, len: total, ram: self.ram.clone(), heap: self.heap.clone() }
    }

    /// This and then `next`.
    #[must_use]
    pub fn chain(mut self, next: Self) -> Self {
        if self.is_empty() {
            return next;
        }
        self.pieces.extend(next.pieces);
        self.len += next.len;
        self.ram = self.ram.or(next.ram);
        self.heap.extend(next.heap);
        self
    }

    /// Fills the part of `len` bytes from `start` with zeros.
    pub fn zero(&self, start: usize, len: usize) {
        for piece in self.slice(start, len).pieces {
            // SAFETY: the piece lies in memory owned by `self`. A guest that uses its own buffer meanwhile spoils
            // only what it reads; these are bytes without meaning to us.
            unsafe { std::ptr::write_bytes(piece.iov_base.cast::<u8>(), 0, piece.iov_len) };
        }
    }

    /// Copies `bytes` to the front; what does not fit is left out.
    pub fn fill(&self, bytes: &[u8]) {
        let mut rest = bytes;
        for piece in &self.pieces {
            let (now, later) = rest.split_at(piece.iov_len.min(rest.len()));
            // SAFETY: the piece has room for `now`, and lies in memory owned by `self`; see `zero`.
            unsafe { std::ptr::copy_nonoverlapping(now.as_ptr(), piece.iov_base.cast::<u8>(), now.len()) };
            rest = later;
        }
    }

    /// A copy of all bytes.
    #[must_use]
    pub fn to_vec(&self) -> Vec<u8> {
        let mut bytes = vec![0_u8; self.len];
        let mut done = 0;
        for piece in &self.pieces {
            let into = &mut bytes[done..done + piece.iov_len];
            // SAFETY: `into` is as long as the piece, which lies in memory owned by `self`; see `zero`.
            unsafe {
                std::ptr::copy_nonoverlapping(piece.iov_base.cast::<u8>(), into.as_mut_ptr(), into.len());
            }
            done += piece.iov_len;
        }
        bytes
    }
}

impl std::fmt::Debug for Buffers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Buffers({} bytes in {} pieces)", self.len, self.pieces.len())
    }
}

/// Bytes that the kernel writes to behind our back, so that no reference to them may exist.
struct Heap {
    start: NonNull<u8>,
    len: usize,
}

impl Heap {
    fn new(bytes: Box<[u8]>) -> Self {
        let len = bytes.len();
        let start = NonNull::from(Box::leak(bytes)).cast();
        Self { start, len }
    }
}

impl Drop for Heap {
    fn drop(&mut self) {
        let bytes = std::ptr::slice_from_raw_parts_mut(self.start.as_ptr(), self.len);
        // SAFETY: these are pointer and length of the box that `new` leaked, and nobody else frees it.
        drop(unsafe { Box::from_raw(bytes) });
    }
}

// SAFETY: plain bytes, owned by this value alone.
unsafe impl Send for Heap {}
// SAFETY: it hands out no references.
unsafe impl Sync for Heap {}
