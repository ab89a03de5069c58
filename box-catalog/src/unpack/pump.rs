//! Reading ahead: one thread reads the archive and hashes it while another decompresses and writes.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use sha2::{Digest as _, Sha256};

use crate::Digest;

/// Bytes read at once.
const CHUNK: usize = 512 * 1024;
/// Chunks that may wait to be taken.
const AHEAD: usize = 8;

/// What the pump has seen of its input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pumped {
    /// SHA-256 of all of it.
    pub digest: Digest,
    /// Its length, bytes.
    pub size: u64,
}

/// Reads `input` to its end in a thread of its own. The reader that comes back gives the same bytes; the handle
/// gives what they were, once the reader is read to its end. `seen` hears of every chunk's length.
pub fn pump(
    input: impl Read + Send + 'static,
    seen: impl FnMut(u64) + Send + 'static,
) -> (impl Read + Send, JoinHandle<io::Result<Pumped>>) {
    let (sender, receiver) = sync_channel(AHEAD);
    let thread = std::thread::spawn(move || drive(input, seen, &sender));
    (Ahead { receiver, chunk: Vec::new(), taken: 0 }, thread)
}

fn drive(
    mut input: impl Read,
    mut seen: impl FnMut(u64),
    sender: &SyncSender<io::Result<Vec<u8>>>,
) -> io::Result<Pumped> {
    let mut hasher = Sha256::new();
    let mut size = 0;
    loop {
        let mut chunk = Vec::with_capacity(CHUNK);
        if let Err(error) = input.by_ref().take(CHUNK as u64).read_to_end(&mut chunk) {
            // The other side may be gone, having found fault with the archive; its error is then the one told.
            let _ = sender.send(Err(io::Error::new(error.kind(), error.to_string())));
            return Err(error);
        }
        if chunk.is_empty() {
            return Ok(Pumped { digest: Digest::from_bytes(hasher.finalize().into()), size });
        }
        hasher.update(&chunk);
        size += chunk.len() as u64;
        seen(chunk.len() as u64);
        if sender.send(Ok(chunk)).is_err() {
            return Err(io::Error::from(io::ErrorKind::BrokenPipe));
        }
    }
}

struct Ahead {
    receiver: Receiver<io::Result<Vec<u8>>>,
    chunk: Vec<u8>,
    taken: usize,
}

impl Read for Ahead {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.taken == self.chunk.len() {
            match self.receiver.recv() {
                Ok(chunk) => {
                    self.chunk = chunk?;
                    self.taken = 0;
                }
                Err(_) => return Ok(0),
            }
        }
        let rest = &self.chunk[self.taken..];
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        self.taken += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[test]
    fn gives_the_same_bytes_and_their_digest() {
        let bytes: Vec<u8> = (0..3_000_000u32).map(|i| (i % 251) as u8).collect();
        let seen = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&seen);
        let (mut reader, thread) = pump(io::Cursor::new(bytes.clone()), move |n| {
            counter.fetch_add(n, Ordering::Relaxed);
        });
        let mut out = Vec::new();
        reader.read_to_end(&mut out).unwrap();
        assert!(out == bytes);
        let pumped = thread.join().unwrap().unwrap();
        assert_eq!(pumped.size, 3_000_000);
        assert_eq!(seen.load(Ordering::Relaxed), 3_000_000);
        assert_eq!(pumped.digest, Digest::from_bytes(Sha256::digest(&bytes).into()));
    }

    #[test]
    fn a_reader_that_is_dropped_ends_the_thread() {
        let (reader, thread) = pump(io::repeat(7), |_| {});
        drop(reader);
        assert_eq!(thread.join().unwrap().unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn an_error_of_the_input_reaches_the_reader() {
        struct Bad;
        impl Read for Bad {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("bad disk"))
            }
        }
        let (mut reader, thread) = pump(Bad, |_| {});
        assert_eq!(reader.read(&mut [0; 8]).unwrap_err().to_string(), "bad disk");
        assert!(thread.join().unwrap().is_err());
    }
}
