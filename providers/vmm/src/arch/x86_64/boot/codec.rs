//! The compressions that kernels and initial RAM disks come in, told by their first bytes.

use std::io::{BufRead, Read};

use flate2::bufread::GzDecoder;
use liblzma::bufread::XzDecoder;
use liblzma::stream::Stream;

use super::lz4;

/// What can be wrong with compressed data.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// It is damaged.
    #[error("the {0} data is damaged: {1}")]
    Corrupt(&'static str, String),
    /// It unpacks to more than is taken.
    #[error("it unpacks to more than {0} bytes")]
    TooLarge(usize),
}

/// A compression.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    /// gzip (RFC 1952).
    Gzip,
    /// xz.
    Xz,
    /// LZMA alone.
    Lzma,
    /// Zstandard (RFC 8878).
    Zstd,
    /// LZ4 in legacy frames.
    Lz4,
}

/// Memory that unpacking xz or LZMA may take, bytes: above what their strongest presets need.
const LZMA_MEMORY: u64 = 192 << 20;
/// Zstandard's window, as a power of two: what `--ultra` uses.
const ZSTD_WINDOW: u32 = 27;

impl Codec {
    /// The compression of data that begins so; `None` where it is none that is known here.
    #[must_use]
    pub fn detect(data: &[u8]) -> Option<Self> {
        const MAGIC: [(&[u8], Codec); 6] = [
            (&[0x1f, 0x8b], Codec::Gzip),
            (&[0x1f, 0x9e], Codec::Gzip),
            (&[0xfd, b'7', b'z', b'X', b'Z', 0], Codec::Xz),
            (&[0x5d, 0, 0], Codec::Lzma),
            (&[0x28, 0xb5, 0x2f, 0xfd], Codec::Zstd),
            (&lz4::MAGIC, Codec::Lz4),
        ];
        MAGIC.into_iter().find(|(magic, _)| data.starts_with(magic)).map(|(_, codec)| codec)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Xz => "xz",
            Self::Lzma => "LZMA",
            Self::Zstd => "Zstandard",
            Self::Lz4 => "LZ4",
        }
    }

    /// Unpacks one stream, at most `limit` bytes of it, to the end of `output`; takes what was read off `input`.
    ///
    /// # Errors
    /// [`CodecError`]; `output` then holds what came before.
    pub fn decode(self, input: &mut &[u8], limit: usize, output: &mut Vec<u8>) -> Result<(), CodecError> {
        let corrupt = |error: std::io::Error| CodecError::Corrupt(self.name(), error.to_string());
        let lzma = |stream: Result<Stream, liblzma::stream::Error>| {
            stream.map_err(|error| CodecError::Corrupt(self.name(), error.to_string()))
        };
        let read = match self {
            Self::Gzip => read_all(&mut GzDecoder::new(&mut *input), limit, output),
            Self::Xz => {
                let stream = lzma(Stream::new_stream_decoder(LZMA_MEMORY, 0))?;
                read_all(&mut XzDecoder::new_stream(&mut *input, stream), limit, output)
            }
            Self::Lzma => {
                let stream = lzma(Stream::new_lzma_decoder(LZMA_MEMORY))?;
                read_all(&mut XzDecoder::new_stream(&mut *input, stream), limit, output)
            }
            Self::Zstd => {
                return zstd(input, limit, output).map_err(corrupt)?.ok_or(CodecError::TooLarge(limit));
            }
            Self::Lz4 => return lz4::decode(input, limit, output),
        };
        read.map_err(corrupt)?.ok_or(CodecError::TooLarge(limit))
    }
}

/// Reads to the end; `None` where that lies behind `limit`.
fn read_all(decoder: &mut impl Read, limit: usize, output: &mut Vec<u8>) -> std::io::Result<Option<()>> {
    let read = decoder.by_ref().take(limit as u64 + 1).read_to_end(output)?;
    Ok((read <= limit).then_some(()))
}

fn zstd(input: &mut &[u8], limit: usize, output: &mut Vec<u8>) -> std::io::Result<Option<()>> {
    /// Lets the decoder's own buffer be the input itself.
    struct Taken<'a, 'b>(&'a mut &'b [u8]);
    impl Read for Taken<'_, '_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            self.0.read(buffer)
        }
    }
    impl BufRead for Taken<'_, '_> {
        fn fill_buf(&mut self) -> std::io::Result<&[u8]> {
            self.0.fill_buf()
        }
        fn consume(&mut self, amount: usize) {
            self.0.consume(amount);
        }
    }
    let mut decoder = zstd::stream::read::Decoder::with_buffer(Taken(input))?.single_frame();
    decoder.window_log_max(ZSTD_WINDOW)?;
    read_all(&mut decoder, limit, output)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn packed(codec: Codec, data: &[u8]) -> Vec<u8> {
        match codec {
            Codec::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                encoder.write_all(data).unwrap();
                encoder.finish().unwrap()
            }
            Codec::Xz => liblzma::encode_all(data, 1).unwrap(),
            Codec::Lzma => {
                let options = liblzma::stream::LzmaOptions::new_preset(1).unwrap();
                let stream = Stream::new_lzma_encoder(&options).unwrap();
                let mut packed = Vec::new();
                liblzma::read::XzEncoder::new_stream(data, stream).read_to_end(&mut packed).unwrap();
                packed
            }
            Codec::Zstd => zstd::encode_all(data, 1).unwrap(),
            Codec::Lz4 => [&lz4::MAGIC[..], &[7, 0, 0, 0, 0x60], data].concat(),
        }
    }

    #[test]
    fn each_unpacks_and_stops_where_it_ends() {
        for codec in [Codec::Gzip, Codec::Xz, Codec::Lzma, Codec::Zstd, Codec::Lz4] {
            let mut data = packed(codec, b"kernel");
            assert_eq!(Codec::detect(&data), Some(codec));
            data.extend([0, 0, 0, 0, 9]);
            let (mut input, mut output) = (data.as_slice(), b"before ".to_vec());
            codec.decode(&mut input, 6, &mut output).unwrap();
            assert_eq!(
                (output.as_slice(), input),
                (&b"before kernel"[..], &[0, 0, 0, 0, 9][..]),
                "{codec:?}"
            );
        }
        assert_eq!(Codec::detect(b"BZh9"), None);
    }

    #[test]
    fn limits_and_damage_are_errors() {
        for codec in [Codec::Gzip, Codec::Xz, Codec::Lzma, Codec::Zstd, Codec::Lz4] {
            let data = packed(codec, b"kernel");
            let too_large = codec.decode(&mut &data[..], 5, &mut Vec::new());
            assert!(matches!(too_large, Err(CodecError::TooLarge(5))), "{codec:?} {too_large:?}");
            if codec != Codec::Lz4 {
                let cut = codec.decode(&mut &data[..data.len() - 3], 6, &mut Vec::new());
                assert!(matches!(cut, Err(CodecError::Corrupt(..))), "{codec:?} {cut:?}");
            }
        }
    }
}
