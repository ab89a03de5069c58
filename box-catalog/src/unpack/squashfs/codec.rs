//! How blocks of an image are compressed.

use std::io::Read as _;

use liblzma::stream::Stream;

use super::corrupt;
use crate::unpack::refusal::Refusal;

/// Most memory that xz may ask for, bytes: dictionaries are no larger than a block, which has 1 MiB at most.
const XZ_MEMORY: u64 = 64 << 20;

/// A way of compression.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    Gzip,
    Xz,
    Zstd,
}

impl Codec {
    /// The one with this number.
    pub fn of(id: u16) -> Result<Self, Refusal> {
        let name = match id {
            1 => return Ok(Self::Gzip),
            4 => return Ok(Self::Xz),
            6 => return Ok(Self::Zstd),
            2 => "lzma",
            3 => "lzo",
            5 => "lz4",
            _ => return Err(corrupt(format!("the unknown compression {id}"))),
        };
        Err(Refusal::Disk {
            what: format!("it is a squashfs image that is compressed with {name}, which is not read"),
            hint: Some("make it again with `mksquashfs -comp zstd`, xz or gzip".to_owned()),
        })
    }

    /// What is in `packed`: `most` bytes at most.
    pub fn unpack(self, packed: &[u8], most: usize) -> Result<Vec<u8>, Refusal> {
        let limit = most as u64 + 1;
        let mut bytes = Vec::new();
        let unpacked = match self {
            Self::Gzip => flate2::read::ZlibDecoder::new(packed).take(limit).read_to_end(&mut bytes),
            Self::Xz => {
                Stream::new_stream_decoder(XZ_MEMORY, 0).map_err(std::io::Error::other).and_then(|stream| {
                    liblzma::read::XzDecoder::new_stream(packed, stream).take(limit).read_to_end(&mut bytes)
                })
            }
            Self::Zstd => {
                zstd::Decoder::new(packed).and_then(|decoder| decoder.take(limit).read_to_end(&mut bytes))
            }
        };
        unpacked.map_err(|error| corrupt(format!("a block that cannot be unpacked: {error}")))?;
        if bytes.len() > most {
            return Err(corrupt(format!("a block that unpacks to more than {most} bytes")));
        }
        Ok(bytes)
    }
}
