//! Random writes, reads, discards and flushes, many at a time, against a disk in memory.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::support::*;
use crate::block::{Buffers, Engine, Image, Tasks};
use crate::config::DiskFormat;

const SIZE: usize = 4 << 20;
const BLOCK: usize = 512;

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Read,
    Write,
    Discard,
    Zero,
    ZeroUnmap,
}

struct Job {
    kind: Kind,
    start: usize,
    bytes: Vec<u8>,
}

/// Jobs of which no two touch a byte in common, though many touch one cluster.
fn jobs(numbers: &mut Numbers) -> Vec<Job> {
    let mut taken = vec![false; SIZE / BLOCK];
    let mut jobs = Vec::new();
    for _ in 0..24 {
        let most = if numbers.below(4) == 0 { 600 } else { 12 };
        let blocks = 1 + numbers.below(most) as usize;
        let first = numbers.below((SIZE / BLOCK - blocks) as u64) as usize;
        if taken[first..first + blocks].contains(&true) {
            continue;
        }
        taken[first..first + blocks].fill(true);
        let kind = match numbers.below(8) {
            0..=3 => Kind::Write,
            4 => Kind::Discard,
            5 => Kind::Zero,
            6 => Kind::ZeroUnmap,
            _ => Kind::Read,
        };
        jobs.push(Job { kind, start: first * BLOCK, bytes: numbers.bytes(blocks * BLOCK) });
    }
    jobs
}

async fn perform(image: Arc<Image>, job: Job) -> (Job, Vec<u8>) {
    let (start, len) = (job.start as u64, job.bytes.len() as u64);
    let buffers = Buffers::from_bytes(job.bytes.clone());
    match job.kind {
        Kind::Read => image.read(start, &buffers).await.unwrap(),
        Kind::Write => image.write(start, &buffers).await.unwrap(),
        Kind::Discard => {
            image.discard(start, len).await.unwrap();
            image.read(start, &buffers).await.unwrap();
        }
        Kind::Zero | Kind::ZeroUnmap => {
            image.write_zeroes(start, len, job.kind == Kind::ZeroUnmap).await.unwrap();
            image.read(start, &buffers).await.unwrap();
        }
    }
    (job, buffers.to_vec())
}

fn batch(image: &Arc<Image>, model: &mut [u8], numbers: &mut Numbers) {
    let mut tasks = Tasks::new();
    for job in jobs(numbers) {
        tasks.spawn(perform(image.clone(), job));
    }
    if numbers.below(3) == 0 {
        let image = image.clone();
        tasks.spawn(async move {
            image.flush().await.unwrap();
            (Job { kind: Kind::Read, start: 0, bytes: Vec::new() }, Vec::new())
        });
    }
    while !tasks.is_empty() {
        tasks.run(|(job, now)| {
            let model = &mut model[job.start..job.start + job.bytes.len()];
            match job.kind {
                Kind::Read => assert!(now == model, "read at {:#x}", job.start),
                Kind::Write => model.copy_from_slice(&job.bytes),
                Kind::Discard => {
                    let sound = now.iter().zip(&*model).all(|(now, old)| *now == 0 || now == old);
                    assert!(sound, "discard at {:#x}", job.start);
                    model.copy_from_slice(&now);
                }
                Kind::Zero | Kind::ZeroUnmap => {
                    assert!(now.iter().all(|&byte| byte == 0), "zero at {:#x}", job.start);
                    model.fill(0);
                }
            }
        });
        image.engine().wait();
    }
}

/// Works on the image through several openings, and lets QEMU judge each.
fn exercise(path: &Path, format: DiskFormat, backing: &[PathBuf], mut model: Vec<u8>, threads: bool) {
    let name = if format == DiskFormat::Raw { "raw" } else { "qcow2" };
    let mut numbers = Numbers::new(model.len() as u64 + backing.len() as u64);
    for _ in 0..3 {
        let engine = if threads { Engine::threaded() } else { Engine::new() };
        let image = open_with(path, format, false, backing, engine.unwrap(), None).unwrap();
        for _ in 0..12 {
            batch(&image, &mut model, &mut numbers);
        }
        assert!(read(&image, 0, SIZE).unwrap() == model, "all of it, before it is closed");
        settle(&image);
        drop(image);
        if format == DiskFormat::Qcow2 {
            check(path, false);
        }
        assert!(content(path, name) == model, "what QEMU reads");
    }
}

fn base(folder: &Path, seed: u64, len: usize) -> (PathBuf, Vec<u8>) {
    let path = folder.join("base.raw");
    let mut bytes = Numbers::new(seed).bytes(len);
    bytes[len / 2..len / 2 + len / 8].fill(0);
    fs_err::write(&path, &bytes).unwrap();
    bytes.resize(SIZE, 0);
    (path, bytes)
}

fn create(path: &Path, options: &str, backing: Option<(&Path, &str)>) {
    let size = SIZE.to_string();
    let mut args = vec!["create", "-q", "-f", "qcow2", "-o", options];
    if let Some((file, format)) = backing {
        args.extend(["-b", file.to_str().unwrap(), "-F", format]);
    }
    args.extend([path.to_str().unwrap(), &size]);
    qemu_img(&args);
}

#[test]
fn raw_is_what_was_written() {
    for threads in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let (path, bytes) = base(folder.path(), 1, SIZE);
        exercise(&path, DiskFormat::Raw, &[], bytes, threads);
    }
}

#[test]
fn qcow2_alone_is_what_was_written() {
    for options in ["compat=1.1", "compat=0.10", "cluster_size=4096", "preallocation=metadata"] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk.qcow2");
        create(&path, options, None);
        exercise(&path, DiskFormat::Qcow2, &[], vec![0; SIZE], false);
    }
}

#[test]
fn an_overlay_shows_its_raw_base_where_nothing_was_written() {
    for (options, threads) in [("compat=1.1", false), ("compat=1.1", true), ("compat=0.10", false)] {
        let folder = tempfile::tempdir().unwrap();
        // Shorter than the disk, and ending within a cluster.
        let (base, bytes) = base(folder.path(), 2, SIZE - (1 << 20) + 5 * 512);
        let path = folder.path().join("disk.qcow2");
        create(&path, options, Some((&base, "raw")));
        exercise(&path, DiskFormat::Qcow2, &[base], bytes, threads);
    }
}

#[test]
fn a_chain_over_compressed_clusters_is_read_and_written() {
    for kind in ["zlib", "zstd"] {
        let folder = tempfile::tempdir().unwrap();
        let (raw, mut bytes) = base(folder.path(), 3, SIZE);
        // Something that can be compressed.
        bytes[..SIZE / 2].iter_mut().for_each(|byte| *byte &= 3);
        fs_err::write(&raw, &bytes).unwrap();
        let packed = folder.path().join("packed.qcow2");
        let kind = format!("compression_type={kind}");
        let (from, to) = (raw.to_str().unwrap(), packed.to_str().unwrap());
        qemu_img(&["convert", "-c", "-f", "raw", "-O", "qcow2", "-o", &kind, from, to]);

        // Written to itself, and then as the end of a chain of three.
        exercise(&packed, DiskFormat::Qcow2, &[], bytes, false);
        let bytes = content(&packed, "qcow2");
        let middle = folder.path().join("middle.qcow2");
        create(&middle, "cluster_size=131072", Some((&packed, "qcow2")));
        let path = folder.path().join("disk.qcow2");
        create(&path, "compat=1.1", Some((&middle, "qcow2")));
        exercise(&path, DiskFormat::Qcow2, &[packed, middle], bytes, false);
    }
}
