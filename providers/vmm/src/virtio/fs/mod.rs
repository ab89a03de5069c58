//! The file system device (virtio 1.2, section 5.11): carries FUSE messages between the guest and a
//! [`fuse::Server`](crate::fuse::Server).
//!
//! Queue 0 is for what must not wait behind other requests (`hiprio`), queue 1 for all others. One thread serves both,
//! in order but for requests that wait for a lock.

mod device;
mod worker;

pub use device::Fs;

#[cfg(test)]
mod tests;
