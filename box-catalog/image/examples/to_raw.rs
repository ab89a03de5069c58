//! Makes a raw image with holes: `to_raw FILE NEW`. To be timed beside `qemu-img convert -O raw FILE NEW`.

use std::path::PathBuf;

use posada_image::{Backing, Format, Machine, Options, Told, open, write};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args_os().skip(1).map(PathBuf::from);
    let (Some(from), Some(to)) = (args.next(), args.next()) else {
        return Err("usage: to_raw FILE NEW".into());
    };
    let (_, image) = open(&from, Backing::Refused)?;
    image.check(&|| false)?;
    let machine = Machine { name: "machine".to_owned(), cpus: 1, memory: 1024 };
    let told = Told { progress: &|_| {}, cancelled: &|| false };
    write(Format::Raw, image.as_ref(), &to, &Options { stream_optimized: false, machine }, told)?;
    Ok(())
}
