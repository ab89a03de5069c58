//! Images made and judged by `qemu-img`, and a source of numbers.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use crate::block::{Buffers, Engine, FaultSink, Image, ImageOptions, OpenError, block_on};
use crate::config::DiskFormat;

/// Runs `qemu-img`, whatever it says.
pub(crate) fn qemu_img_output(args: &[&str]) -> Output {
    Command::new("qemu-img").args(args).output().expect("qemu-img, of the package qemu-utils, is needed")
}

/// Runs `qemu-img`, which must succeed.
pub(crate) fn qemu_img(args: &[&str]) {
    let output = qemu_img_output(args);
    let said = String::from_utf8_lossy(&output.stderr);
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "qemu-img {args:?}: {said}{told}");
}

/// Checks an image; `leaks` are let pass, nothing else is.
pub(crate) fn check(path: &Path, leaks: bool) {
    let output = qemu_img_output(&["check", path.to_str().unwrap()]);
    let fine = output.status.success() || leaks && output.status.code() == Some(3);
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(fine, "qemu-img check: {} {told} {}", output.status, String::from_utf8_lossy(&output.stderr));
}

/// What the image's disk holds, in QEMU's eyes.
pub(crate) fn content(path: &Path, format: &str) -> Vec<u8> {
    let raw = path.with_extension("content");
    qemu_img(&["convert", "-f", format, "-O", "raw", path.to_str().unwrap(), raw.to_str().unwrap()]);
    fs_err::read(raw).unwrap()
}

pub(crate) fn open_with(
    path: &Path,
    format: DiskFormat,
    read_only: bool,
    backing: &[PathBuf],
    engine: Engine,
    sink: Option<FaultSink>,
) -> Result<Arc<Image>, OpenError> {
    let options = ImageOptions { path, format, read_only, backing };
    Image::open(&options, Arc::new(engine), sink).map(Arc::new)
}

pub(crate) fn open(path: &Path, format: DiskFormat, backing: &[PathBuf]) -> Result<Arc<Image>, OpenError> {
    open_with(path, format, false, backing, Engine::new().unwrap(), None)
}

pub(crate) fn read(image: &Arc<Image>, offset: u64, len: usize) -> std::io::Result<Vec<u8>> {
    let image = image.clone();
    block_on(&image.engine().clone(), async move {
        let buffers = Buffers::zeroed(len);
        image.read(offset, &buffers).await.map(|()| buffers.to_vec())
    })
}

pub(crate) fn write(image: &Arc<Image>, offset: u64, bytes: Vec<u8>) -> std::io::Result<()> {
    let image = image.clone();
    block_on(&image.engine().clone(), async move { image.write(offset, &Buffers::from_bytes(bytes)).await })
}

pub(crate) fn flush(image: &Arc<Image>) -> std::io::Result<()> {
    let image = image.clone();
    block_on(&image.engine().clone(), async move { image.flush().await })
}

pub(crate) fn settle(image: &Arc<Image>) {
    let image = image.clone();
    block_on(&image.engine().clone(), async move { image.settle().await }).unwrap();
}

/// Numbers without a pattern, the same in every run.
pub(crate) struct Numbers(u64);

impl Numbers {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// Less than `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }

    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        for chunk in bytes.chunks_mut(8) {
            let word = self.below(u64::MAX).to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
        bytes
    }
}
