//! What a second version of an image costs, for several sizes of chunks: `sizes FIRST SECOND`.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::File;
use std::time::Instant;

use posada_chunks::{Cutter, Digest, Found, Piece, feed_file};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// Chunks by digest: how long each is, and how long once it is compressed.
fn chunks(path: &str, average: usize) -> Outcome<HashMap<Digest, (usize, usize)>> {
    let mut chunks = HashMap::new();
    let mut sink = |piece: Piece<'_>| -> Outcome<()> {
        if let Piece::Chunk(bytes) = piece
            && let Entry::Vacant(new) = chunks.entry(Digest::of(bytes))
        {
            new.insert((bytes.len(), zstd::bulk::compress(bytes, 3)?.len()));
        }
        Ok(())
    };
    let mut cutter = Cutter::sized(average / 4, average, average * 4);
    feed_file(&File::open(path)?, Into::into, |found| match found {
        Found::Data(bytes) => cutter.push(bytes, &mut sink),
        Found::Hole(length) => cutter.push_hole(length, &mut sink),
    })?;
    cutter.finish(&mut sink)?;
    Ok(chunks)
}

#[expect(clippy::print_stdout, reason = "the table is what it is for")]
fn main() -> Outcome<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [first, second] = &args[..] else { return Err("two images, please".into()) };
    println!("average KiB  chunks  first MB  second, new MB  share %  seconds");
    for average in [8, 16, 32, 64, 128, 256].map(|kib| kib << 10) {
        let began = Instant::now();
        let (a, b) = (chunks(first, average)?, chunks(second, average)?);
        let megabytes = |sum: usize| sum as f64 / 1e6;
        let whole: usize = b.values().map(|(_, packed)| packed).sum();
        let first: usize = a.values().map(|(_, packed)| packed).sum();
        let new: usize = b.iter().filter(|(digest, _)| !a.contains_key(digest)).map(|(_, (_, p))| p).sum();
        println!(
            "{:>11}  {:>6}  {:>8.1}  {:>14.1}  {:>7.1}  {:>7.1}",
            average >> 10,
            b.len(),
            megabytes(first),
            megabytes(new),
            100.0 * new as f64 / whole as f64,
            began.elapsed().as_secs_f64()
        );
    }
    Ok(())
}
