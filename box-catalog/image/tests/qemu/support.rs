//! Disks made for tests, and the programs that make and judge images of them.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use posada_image::ReadImage;
use tempfile::TempDir;

pub fn qemu_img(args: &[&str]) -> String {
    run("qemu-img", args)
}

pub fn run(program: &str, args: &[&str]) -> String {
    let output =
        Command::new(program).args(args).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{program} {args:?}: {}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

pub struct Room(TempDir);

impl Room {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn directory(&self) -> &Path {
        self.0.path()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A raw disk with `runs` of bytes, which differ everywhere, at places.
    pub fn disk(&self, size: u64, runs: &[(u64, usize)]) -> PathBuf {
        let path = self.path("disk.raw");
        let file = File::create(&path).unwrap();
        file.set_len(size).unwrap();
        for (number, (at, length)) in runs.iter().enumerate() {
            let length = (*length as u64).min(size - at) as usize;
            let mut state = *at ^ (number as u64) << 56 | 1;
            let bytes: Vec<u8> = (0..length)
                .map(|_| {
                    state =
                        state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    // Half of it can be packed.
                    if state >> 40 & 1 == 0 { 0x55 } else { (state >> 32) as u8 }
                })
                .collect();
            file.write_all_at(&bytes, *at).unwrap();
        }
        path
    }

    /// One that has all that is special: short and long runs, at the start, over borders, at the very end.
    pub fn usual(&self) -> PathBuf {
        self.disk(
            70 << 20,
            &[
                (0, 100_000),
                (5 << 20, 512),
                ((32 << 20) - 70_000, 200_000),
                (40 << 20, 5 << 20),
                ((70 << 20) - 3000, 3000),
            ],
        )
    }
}

pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

pub fn whole(image: &dyn ReadImage) -> Vec<u8> {
    let mut bytes = vec![0; image.size() as usize];
    image.read_at(&mut bytes, 0).unwrap();
    bytes
}

pub fn same(image: &dyn ReadImage, raw: &Path) {
    image.check(&|| false).unwrap();
    let expected = std::fs::read(raw).unwrap();
    assert_eq!(image.size(), expected.len() as u64);
    assert!(whole(image) == expected, "the disks differ");
    // What is said to be a hole is one.
    let (zeros, mut at) = (vec![0; 1 << 20], 0);
    while at < image.size() {
        let extent = image.extent(at).unwrap();
        let part = &expected[at as usize..(at + extent.length) as usize];
        // Comparing with zeros is much faster than looking at each byte.
        assert!(
            extent.data || part.chunks(zeros.len()).all(|piece| *piece == zeros[..piece.len()]),
            "{extent:?}"
        );
        at += extent.length;
    }
    // Small pieces at odd places.
    for at in (0..image.size()).step_by(1_234_567) {
        let mut piece = vec![0; 1000.min((image.size() - at) as usize)];
        image.read_at(&mut piece, at).unwrap();
        assert!(piece == expected[at as usize..at as usize + piece.len()]);
    }
    assert!(image.read_at(&mut [0; 2], image.size() - 1).is_err());
}
