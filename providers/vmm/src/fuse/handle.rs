//! The files and directories the guest has open.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::io::Errno;

/// Something open.
#[derive(Debug)]
pub enum Handle {
    /// A regular file.
    File(Arc<OwnedFd>),
    /// A directory, and the place in it that will be read next.
    Dir(OwnedFd, u64),
}

/// All of them, by number. Numbers are never used twice.
#[derive(Debug)]
pub struct Handles {
    open: HashMap<u64, Handle>,
    next: u64,
    most: usize,
}

impl Handles {
    /// None, with room for `most`.
    pub fn new(most: usize) -> Self {
        Self { open: HashMap::new(), next: 1, most }
    }

    /// Whether there is room for one more.
    pub fn room(&self) -> Result<(), Errno> {
        if self.open.len() < self.most { Ok(()) } else { Err(Errno::NFILE) }
    }

    /// Adds one and returns its number.
    pub fn add(&mut self, handle: Handle) -> Result<u64, Errno> {
        self.room()?;
        let number = self.next;
        self.next += 1;
        self.open.insert(number, handle);
        Ok(number)
    }

    /// The file with this number.
    pub fn file(&self, number: u64) -> Result<&Arc<OwnedFd>, Errno> {
        match self.open.get(&number) {
            Some(Handle::File(file)) => Ok(file),
            Some(Handle::Dir(..)) => Err(Errno::ISDIR),
            None => Err(Errno::BADF),
        }
    }

    /// The directory with this number, and its place.
    pub fn dir(&mut self, number: u64) -> Result<(&OwnedFd, &mut u64), Errno> {
        match self.open.get_mut(&number) {
            Some(Handle::Dir(fd, at)) => Ok((fd, at)),
            Some(Handle::File(_)) => Err(Errno::NOTDIR),
            None => Err(Errno::BADF),
        }
    }

    /// Closes one.
    pub fn close(&mut self, number: u64) {
        self.open.remove(&number);
    }

    /// Closes all.
    pub fn clear(&mut self) {
        self.open.clear();
    }
}
