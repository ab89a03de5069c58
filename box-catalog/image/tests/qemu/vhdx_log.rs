//! VHDX that were not shut down cleanly: their logs, replayed in memory, beside qemu-img, which replays them into the file.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use posada_image::{Backing, Extents, ImageError, ReadImage, Storage, open, open_storage};
use proptest::prelude::*;

use crate::log_entry::{Change, Entry, SECTOR, put, seal};
use crate::support::{Room, qemu_img, same, text, whole};

const MIB: usize = 1 << 20;
/// Where qemu-img puts them.
const LOG: usize = MIB;
const BAT: usize = 2 * MIB;
const METADATA: usize = 3 * MIB;
const GUID: [u8; 16] = *b"the log's own id";

/// A disk on which the host stopped: the data of all blocks is there, but half of the tables is not.
struct Dirty {
    /// The file, without a log.
    bytes: Vec<u8>,
    /// What the tables should be.
    bat: Change,
    metadata: [Change; 2],
    /// What the disk holds then.
    raw: PathBuf,
}

impl Dirty {
    fn new(room: &Room) -> Self {
        let raw = room.disk(9 << 20, &[(0, 100_000), (3 << 20, 700_000), ((8 << 20) + 70_000, 5000)]);
        let file = room.path("whole.vhdx");
        qemu_img(&["convert", "-O", "vhdx", "-o", "block_size=1M", text(&raw), text(&file)]);
        let mut bytes = fs::read(file).unwrap();
        let mut taken = |at: usize| {
            let place = &mut bytes[at..at + SECTOR];
            let change = Change::Data { at: at as u64, bytes: Box::new(*place.first_chunk().unwrap()) };
            place.fill(0x5a);
            change
        };
        let (bat, metadata) = (taken(BAT), [METADATA, METADATA + (64 << 10)].map(taken));
        Self { bytes, bat, metadata, raw }
    }

    fn entry(&self, sequence: u64, tail: usize) -> Entry {
        let length = self.bytes.len() as u64;
        let tail = (tail * SECTOR) as u32;
        Entry { guid: GUID, sequence, tail, flushed: length, last: length, padding: 0 }
    }

    /// Three entries, from a sector of the log on: what comes later counts.
    fn entries(&self, from: usize) -> Vec<Vec<u8>> {
        let wrong = Change::Data { at: BAT as u64, bytes: Box::new([7; SECTOR]) };
        let zero = Change::Zero { at: BAT as u64, length: 64 << 10 };
        vec![
            self.entry(41, from).bytes(&[wrong, self.metadata[0].clone()]),
            self.entry(42, from).bytes(&[zero]),
            self.entry(43, from).bytes(&[self.metadata[1].clone(), self.bat.clone()]),
        ]
    }

    /// The file with a log that holds `entries` from a sector on.
    fn with(&self, from: usize, entries: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        put(&mut bytes[LOG..LOG + MIB], from, &entries.concat());
        change_headers(&mut bytes, |header| header[48..64].copy_from_slice(&GUID));
        bytes
    }

    fn file(&self, room: &Room, bytes: &[u8]) -> PathBuf {
        let file = room.path("dirty.vhdx");
        fs::write(&file, bytes).unwrap();
        file
    }
}

fn change_headers(bytes: &mut [u8], change: impl Fn(&mut [u8])) {
    for at in [64 << 10, 128 << 10] {
        let header = &mut bytes[at..at + 4096];
        change(header);
        seal(header);
    }
}

/// Reads `dirty`, and has qemu-img replay a copy of it; gives what both read.
fn as_qemu_img_does(room: &Room, dirty: &Path) -> PathBuf {
    let before = fs::read(dirty).unwrap();
    let (_, image) = open(dirty, Backing::Refused).unwrap();
    let refused = Command::new("qemu-img").args(["info", text(dirty)]).output().unwrap();
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(told.contains("log that needs to be replayed"), "{told}");
    let (copy, raw) = (room.path("replayed.vhdx"), room.path("replayed.raw"));
    fs::write(&copy, &before).unwrap();
    qemu_img(&["check", "-q", "-r", "all", text(&copy)]);
    qemu_img(&["convert", "-O", "raw", text(&copy), text(&raw)]);
    same(image.as_ref(), &raw);
    assert!(fs::read(dirty).unwrap() == before, "the file is never written to");
    raw
}

fn is(image: &dyn ReadImage, raw: &Path) {
    image.check(&|| false).unwrap();
    assert!(whole(image) == fs::read(raw).unwrap());
}

/// qemu itself writes an entry of the log, and then cannot carry it out.
#[test]
fn a_disk_that_qemu_could_not_shut_down_is_read() {
    let room = Room::new();
    let raw = room.disk(40 << 20, &[(0, 5000), (30 << 20, 70_000)]);
    let file = room.path("dirty.vhdx");
    qemu_img(&["convert", "-O", "vhdx", "-o", "block_size=1M", text(&raw), text(&file)]);
    let (sector, name) = (BAT / 512, text(&file));
    let failing = format!(
        "driver=vhdx,file.driver=blkdebug,file.image.driver=file,file.image.filename={name},\
         file.inject-error.0.event=none,file.inject-error.0.iotype=write,file.inject-error.0.sector={sector}"
    );
    let output = Command::new("qemu-io").args(["-c", "write -P 7 5M 64k", "--image-opts", &failing]).output();
    let output = output.unwrap();
    assert!(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).contains("write failed"));
    let replayed = fs::read(as_qemu_img_does(&room, &file)).unwrap();
    let mut expected = fs::read(raw).unwrap();
    expected[5 << 20..][..64 << 10].fill(7);
    assert!(replayed == expected, "what was logged is there");
}

#[test]
fn logs_are_replayed_wherever_in_the_ring_they_begin() {
    let room = Room::new();
    let dirty = Dirty::new(&room);
    for from in [0, 9, 247, 250, 252, 254, 255] {
        let mut bytes = dirty.with(from, &dirty.entries(from));
        // What older sequences have left: they have another identity, or lack their tail.
        let other = Entry { guid: [9; 16], ..dirty.entry(900, 100) }.bytes(&[]);
        let cut = dirty.entry(800, 99).bytes(&[Change::Zero { at: 0, length: 1 << 20 }]);
        let old = dirty.entry(17, 102).bytes(&[Change::Zero { at: METADATA as u64, length: 1 << 20 }]);
        put(&mut bytes[LOG..LOG + MIB], 100, &[other, cut, old].concat());
        let file = dirty.file(&room, &bytes);
        is(open(&file, Backing::Refused).unwrap().1.as_ref(), &dirty.raw);
        // qemu-img does not look at tails, and takes the end of a sequence that begins behind it for all of it.
        if from <= 250 {
            let file = dirty.file(&room, &dirty.with(from, &dirty.entries(from)));
            assert!(fs::read(as_qemu_img_does(&room, &file)).unwrap() == fs::read(&dirty.raw).unwrap());
        }
    }
}

#[test]
fn what_was_being_written_last_is_ignored() {
    let room = Room::new();
    let dirty = Dirty::new(&room);
    let mut entries = dirty.entries(0);
    let mut torn =
        dirty.entry(44, 0).bytes(&[Change::Zero { at: BAT as u64, length: 4096 }, dirty.bat.clone()]);
    torn[SECTOR + 2000] ^= 1;
    entries.push(torn);
    let raw = as_qemu_img_does(&room, &dirty.file(&room, &dirty.with(0, &entries)));
    assert!(fs::read(raw).unwrap() == fs::read(&dirty.raw).unwrap());
    // One that is whole counts: there is no table of blocks then.
    entries[3] = dirty.entry(44, 0).bytes(&[Change::Zero { at: BAT as u64, length: 4096 }]);
    let raw = as_qemu_img_does(&room, &dirty.file(&room, &dirty.with(0, &entries)));
    assert!(fs::read(raw).unwrap().iter().all(|byte| *byte == 0));
    // And one that does not follow does not.
    entries[3] = dirty.entry(46, 0).bytes(&[Change::Zero { at: BAT as u64, length: 4096 }]);
    let (_, image) = open_storage(Storage::memory(dirty.with(0, &entries))).unwrap();
    is(image.as_ref(), &dirty.raw);
}

/// Entries whose descriptors fill the header's sector, and such as need another one (qemu-img reads that one over the
/// first); and entries that are followed by sectors that hold nothing, which qemu-img takes for the next one.
#[test]
fn long_entries_are_read() {
    let room = Room::new();
    let dirty = Dirty::new(&room);
    let (_, image) = {
        let [first, second, third] =
            [(41, 200, 3), (42, 200, 0), (43, 200, 15)].map(|(number, tail, padding)| {
                let changes = [dirty.metadata.as_slice(), std::slice::from_ref(&dirty.bat)].concat();
                let only = changes[number as usize - 41].clone();
                Entry { padding, ..dirty.entry(number, tail) }.bytes(&[only])
            });
        open_storage(Storage::memory(dirty.with(200, &[first, second, third]))).unwrap()
    };
    is(image.as_ref(), &dirty.raw);
    let unused = |sector: usize| Change::Data {
        at: (BAT + sector * SECTOR) as u64,
        bytes: Box::new([sector as u8; SECTOR]),
    };
    for (data, zeros) in [(113, 10), (124, 20)] {
        let mut changes: Vec<_> = (1..=data).map(unused).collect();
        changes.extend(
            (1..=zeros).map(|sector| Change::Zero { at: (BAT + sector * SECTOR) as u64, length: 4096 }),
        );
        changes.extend(dirty.metadata.clone());
        changes.push(dirty.bat.clone());
        let entry = dirty.entry(u64::from(u32::MAX) + 7, 200).bytes(&changes);
        let file = dirty.file(&room, &dirty.with(200, &[entry]));
        is(open(&file, Backing::Refused).unwrap().1.as_ref(), &dirty.raw);
        if changes.len() <= 126 {
            as_qemu_img_does(&room, &file);
        }
    }
}

/// qemu-img leaves the file too short then.
#[test]
fn a_file_that_was_not_made_longer_yet_ends_in_zeros() {
    let room = Room::new();
    let dirty = Dirty::new(&room);
    let length = dirty.bytes.len();
    let mut expected = fs::read(&dirty.raw).unwrap();
    let mut entries = dirty.entries(0);
    let flushed = (length - MIB) as u64;
    let entry = Entry { flushed, last: length as u64, ..dirty.entry(44, 0) };
    entries.push(entry.bytes(&[]));
    let mut bytes = dirty.with(0, &entries);
    assert!(expected[8 << 20..] == bytes[length - MIB..]);
    bytes.truncate(length - MIB);
    expected[8 << 20..].fill(0);
    let raw = room.path("expected.raw");
    fs::write(&raw, expected).unwrap();
    let (_, image) = open_storage(Storage::memory(bytes.clone())).unwrap();
    is(image.as_ref(), &raw);
    assert_eq!(Extents::of(image.as_ref(), &|| false).count(), 3);
    bytes.truncate(length - MIB - 1);
    let short = open_storage(Storage::memory(bytes));
    assert!(matches!(short, Err(ImageError::Truncated(what)) if what.contains("its log tells of")));
}

/// qemu gives a log its identity before it writes into it.
#[test]
fn logs_that_nothing_was_written_into_are_empty() {
    let room = Room::new();
    let mut dirty = Dirty::new(&room);
    dirty.bytes = fs::read(room.path("whole.vhdx")).unwrap();
    dirty.bytes[LOG..LOG + MIB].fill(0);
    let other = Entry { guid: [1; 16], ..dirty.entry(7, 0) }.bytes(&[dirty.bat.clone()]);
    let read = |log: &[Vec<u8>]| {
        // Two of them: the second one begins at the end.
        let mut bytes = dirty.with(255, log);
        put(&mut bytes[LOG..LOG + MIB], 100, &log.concat());
        open_storage(Storage::memory(bytes.clone())).map(|(_, image)| (image, bytes))
    };
    for log in [&[][..], std::slice::from_ref(&other)] {
        let (image, bytes) = read(log).unwrap();
        is(image.as_ref(), &dirty.raw);
        let raw = room.path("qemu.raw");
        qemu_img(&["convert", "-O", "raw", text(&dirty.file(&room, &bytes)), text(&raw)]);
        assert!(fs::read(raw).unwrap() == fs::read(&dirty.raw).unwrap());
    }
    // What is damaged may have been of this log.
    for place in [0, 5, 33, 70, SECTOR, SECTOR + 900] {
        let mut other = other.clone();
        other[place] ^= 4;
        let Err(error) = read(&[other]) else { panic!("{place}") };
        assert!(error.to_string().contains("no changes that are whole"), "{error}");
    }
}

#[test]
fn logs_that_cannot_be_replayed_are_refused() {
    let room = Room::new();
    let dirty = Dirty::new(&room);
    let far = Change::Zero { at: 1 << 60, length: 1 << 20 };
    let with = |entry: Entry, changes: &[Change]| dirty.with(0, &[entry.bytes(changes)]);
    let header = |at: usize, field: &[u8]| {
        let mut bytes = dirty.with(0, &dirty.entries(0));
        change_headers(&mut bytes, |header| header[at..at + field.len()].copy_from_slice(field));
        bytes
    };
    for (bytes, why) in [
        (with(dirty.entry(0, 0), &[]), "no changes that are whole"),
        (with(dirty.entry(1, 7), &[]), "no changes that are whole"),
        (with(Entry { flushed: 1 << 40, ..dirty.entry(1, 0) }, &[]), "its log tells of 1099511627776 bytes"),
        (with(Entry { last: 1 << 60, ..dirty.entry(1, 0) }, &[]), "places that no file has"),
        (with(dirty.entry(1, 0), &[far]), "places that no file has"),
        (header(64, &[1, 0]), "version 1 of VHDX's log"),
        (header(68, &(17_u32 << 20).to_le_bytes()), "a log of 17825792 bytes"),
        (header(68, &((1_u32 << 20) + 4096).to_le_bytes()), "at an impossible place"),
        (header(72, &0_u64.to_le_bytes()), "at an impossible place"),
        (header(72, &(1_u64 << 50).to_le_bytes()), "its log is not there"),
    ] {
        let Err(error) = open_storage(Storage::memory(bytes)) else { panic!("{why}") };
        assert!(error.to_string().contains(why), "{error} instead of {why}");
    }
}

#[test]
fn one_that_only_holds_changes_is_refused_with_its_log() {
    let room = Room::new();
    let mut dirty = Dirty::new(&room);
    // 2.6.2.1: it has a parent.
    let Change::Data { bytes, .. } = &mut dirty.metadata[1] else { unreachable!() };
    bytes[4] |= 2;
    let bytes = dirty.with(0, &dirty.entries(0));
    assert!(matches!(open_storage(Storage::memory(bytes)), Err(ImageError::Differences(_))));
}

/// Entries that would overlap, each with a checksum over a half of the log, and one chain that is looked at from each of
/// its entries.
#[test]
fn logs_made_to_take_long_do_not() {
    let room = Room::new();
    let dirty = Dirty::new(&room);
    let mut log = vec![0; MIB];
    for sector in 0..128 {
        let mut bytes = Entry { padding: 127, ..dirty.entry(1, 0) }.bytes(&[]);
        bytes[4] ^= 1;
        put(&mut log, sector, &bytes[..SECTOR]);
    }
    let mut bytes = dirty.with(0, &[]);
    bytes[LOG..LOG + MIB].copy_from_slice(&log);
    let overlapping = open_storage(Storage::memory(bytes));
    assert!(matches!(overlapping, Err(ImageError::Corrupt(what)) if what.contains("overlap")));
    let chain: Vec<_> = (0..256).map(|number| dirty.entry(number + 1, 255).bytes(&[])).collect();
    let mut chain = dirty.with(0, &chain);
    // The last one, which is the only tail, is gone.
    chain[LOG + 255 * SECTOR] = 0;
    let endless = open_storage(Storage::memory(chain));
    assert!(matches!(endless, Err(ImageError::Corrupt(what)) if what.contains("no changes")));
}

/// Whatever happens to a file with a log, its content is right, or it is refused.
#[test]
fn damaged_logs_are_noticed() {
    let room = Room::new();
    let dirty = Dirty::new(&room);
    let entries = dirty.entries(253);
    let bytes = dirty.with(253, &entries);
    let expected = fs::read(&dirty.raw).unwrap();
    // The last two entries are in the first sectors, the first one begins at the end.
    let places = (0..64_usize)
        .chain((64 << 10)..(64 << 10) + 96)
        .chain((128 << 10)..(128 << 10) + 96)
        .chain(LOG..LOG + 4 * SECTOR)
        .chain(LOG + 252 * SECTOR..LOG + MIB);
    let places: Vec<_> = places.collect();
    let check = |bytes: Vec<u8>, last: bool| -> Result<bool, TestCaseError> {
        let Ok((_, image)) = open_storage(Storage::memory(bytes)) else { return Ok(false) };
        let sound = image.check(&|| false).is_ok();
        let mut read = vec![0; image.size() as usize];
        let sound = image.read_at(&mut read, 0).is_ok() && sound;
        // Without the last entry it is as if that had been torn.
        prop_assert!(!sound || last || read == expected);
        Ok(sound)
    };
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(60));
    let flips = (0..places.len(), 0_u8..8);
    let seen = std::cell::Cell::new((0, 0));
    let result = runner.run(&flips, |(place, bit)| {
        let mut bytes = bytes.clone();
        let place = places[place];
        bytes[place] ^= 1 << bit;
        let in_last = (LOG + SECTOR..LOG + 4 * SECTOR).contains(&place);
        let sound = check(bytes, in_last)?;
        let (good, bad) = seen.get();
        seen.set(if sound { (good + 1, bad) } else { (good, bad + 1) });
        Ok(())
    });
    result.unwrap();
    assert!(seen.get().0 > 0 && seen.get().1 > 0, "{:?}", seen.get());
    for cut in [0, 70_000, 130_000, LOG, LOG + 5000, LOG + MIB - 1, BAT + 9, METADATA + 9, bytes.len() - 1] {
        assert!(open_storage(Storage::memory(bytes[..cut].to_vec())).is_err() || cut == 0, "{cut}");
    }
}
