//! How long a machine's disk takes to make: `overlay IMAGE DIRECTORY ROUNDS` makes that many over the image, one after the other, and
//! prints milliseconds, one a line. For `tests/benches/box-add.sh`.

use std::io::Write as _;
use std::path::PathBuf;
use std::time::Instant;

use posada_disk::overlay;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut words = std::env::args_os().skip(1);
    let (Some(image), Some(directory), Some(rounds)) = (words.next(), words.next(), words.next()) else {
        return Err("overlay IMAGE DIRECTORY ROUNDS".into());
    };
    let (image, directory) = (PathBuf::from(image), PathBuf::from(directory));
    for round in 0..rounds.to_string_lossy().parse::<u32>()? {
        let path = directory.join(format!("{round}.qcow2"));
        let began = Instant::now();
        overlay::create(&path, &image, None)?;
        writeln!(std::io::stdout(), "{:.3}", began.elapsed().as_secs_f64() * 1000.0)?;
        std::fs::remove_file(path)?;
    }
    Ok(())
}
