//! A process killed in the middle of writing: the image is whole, and holds all that was flushed.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;

use super::support::*;
use crate::block::{Buffers, Image, Tasks};
use crate::config::DiskFormat::Qcow2;

const SIZE: u64 = 64 << 20;
const BLOCK: u64 = 4096;
const BATCH: u64 = 32;
const IMAGE: &str = "POSADA_TEST_CRASH_IMAGE";

/// The block that is written as the `number`th: each once, in no order.
fn place(number: u64) -> u64 {
    number * 7919 % (SIZE / BLOCK) * BLOCK
}

fn bytes(number: u64) -> Vec<u8> {
    number.to_le_bytes().repeat(BLOCK as usize / 8)
}

fn batch(image: &Arc<Image>, numbers: std::ops::Range<u64>) {
    let mut tasks = Tasks::new();
    for number in numbers {
        let image = image.clone();
        tasks.spawn(async move {
            image.write(place(number), &Buffers::from_bytes(bytes(number))).await.unwrap();
            if number % 5 == 0 {
                // What is given back and used again is what a crash could mix up.
                image.discard(place(number) & !0xffff, 65536).await.unwrap();
                image.write(place(number), &Buffers::from_bytes(bytes(number))).await.unwrap();
            }
        });
    }
    while !tasks.is_empty() {
        tasks.run(drop);
        image.engine().wait();
    }
}

/// Not a test of its own: writes until it is killed, and says how far it has flushed.
#[test]
#[ignore = "run by the test below, in a process that is killed"]
fn writes_until_killed() {
    let Some(path) = std::env::var_os(IMAGE).map(PathBuf::from) else { return };
    let base = path.with_file_name("base.raw");
    let image = open(&path, Qcow2, &[base]).unwrap();
    let mut output = std::io::stderr();
    for number in (0..SIZE / BLOCK).step_by(BATCH as usize) {
        batch(&image, number..number + BATCH);
        flush(&image).unwrap();
        writeln!(output, "flushed {}", number + BATCH).unwrap();
    }
}

#[test]
fn killed_in_mid_write_the_image_is_whole_and_has_what_was_flushed() {
    for round in 1..=4 {
        let folder = tempfile::tempdir().unwrap();
        let (base, path) = (folder.path().join("base.raw"), folder.path().join("disk.qcow2"));
        fs_err::write(&base, Numbers::new(9).bytes(SIZE as usize)).unwrap();
        let (from, to) = (base.to_str().unwrap(), path.to_str().unwrap());
        qemu_img(&["create", "-q", "-f", "qcow2", "-b", from, "-F", "raw", to]);

        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--ignored", "--nocapture", "block::tests::crash::writes_until_killed"])
            .env(IMAGE, &path)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut flushed = 0;
        for line in lines.by_ref().take(round * 7) {
            flushed = number(&line.unwrap());
        }
        child.kill().unwrap();
        child.wait().unwrap();
        flushed = lines.map(|line| number(&line.unwrap())).last().unwrap_or(flushed);
        assert!(flushed > 0 && flushed < SIZE / BLOCK, "killed neither before nor after: {flushed}");

        check(&path, true);
        let now = content(&path, "qcow2");
        let mut compared = 0;
        for written in 0..flushed {
            let at = place(written);
            // A discard of the same batch or a later one takes its neighbours in the cluster along.
            let discards = (written - written % BATCH..flushed + BATCH).filter(|later| later % 5 == 0);
            if discards.filter(|&later| later != written).any(|later| place(later) >> 16 == at >> 16) {
                continue;
            }
            compared += 1;
            assert!(now[at as usize..][..BLOCK as usize] == bytes(written), "write {written} of {flushed}");
        }
        assert!(compared > 0, "nothing could be compared");
        // And it can be used again.
        let image = open(&path, Qcow2, &[base]).unwrap();
        batch(&image, flushed..flushed + BATCH);
        settle(&image);
        drop(image);
        check(&path, true);
    }
}

fn number(line: &str) -> u64 {
    line.strip_prefix("flushed ").and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("{line}"))
}
