//! Programs that take a kernel's place: 64-bit code, put together an instruction at a time.

use std::io::Write;

use tempfile::NamedTempFile;

/// Where the code lies in physical memory.
const ADDRESS: u64 = 0x20_0000;
/// Sizes of an ELF file's header and of a program's.
const HEADERS: u64 = 64 + 56;
/// The first serial line.
const COM1: u16 = 0x3f8;

/// How many bytes an access has.
#[derive(Debug, Clone, Copy)]
pub enum Width {
    Byte,
    Word,
    Long,
}

impl Width {
    /// The prefix of a two-byte access, and the bit that is set in the opcodes of all but a byte's.
    fn encoding(self) -> (&'static [u8], u8) {
        match self {
            Self::Byte => (&[], 0),
            Self::Word => (&[0x66], 1),
            Self::Long => (&[], 1),
        }
    }
}

/// A program.
#[derive(Debug, Default)]
pub struct Payload(Vec<u8>);

impl Payload {
    fn put(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn load(&mut self, opcode: u8, value: u32) {
        self.put(&[opcode]);
        self.put(&value.to_le_bytes());
    }

    /// `mov edi, ADDRESS; mov eax, VALUE; mov [rdi], al|ax|eax`
    pub fn write(&mut self, address: u32, value: u32, width: Width) {
        let (prefix, bit) = width.encoding();
        self.load(0xbf, address);
        self.load(0xb8, value);
        self.put(prefix);
        self.put(&[0x88 | bit, 0x07]);
    }

    /// `mov edi, ADDRESS; mov al|ax|eax, [rdi]`
    pub fn read(&mut self, address: u32, width: Width) {
        let (prefix, bit) = width.encoding();
        self.load(0xbf, address);
        self.put(prefix);
        self.put(&[0x8a | bit, 0x07]);
    }

    /// `mov edx, PORT; mov eax, VALUE; out dx, al|ax|eax`
    pub fn output(&mut self, port: u16, value: u32, width: Width) {
        let (prefix, bit) = width.encoding();
        self.load(0xba, port.into());
        self.load(0xb8, value);
        self.put(prefix);
        self.put(&[0xee | bit]);
    }

    /// `mov edx, PORT; in al|ax|eax, dx`
    pub fn input(&mut self, port: u16, width: Width) {
        let (prefix, bit) = width.encoding();
        self.load(0xba, port.into());
        self.put(prefix);
        self.put(&[0xec | bit]);
    }

    /// Prints `byte`, whatever was done to the serial line before: 8 bits, no loop back.
    pub fn print(&mut self, byte: u8) {
        for (register, value) in [(3, 3), (4, 0), (0, byte)] {
            self.output(COM1 + register, value.into(), Width::Byte);
        }
    }

    /// Prints what was read last: `mov edx, COM1; out dx, al`
    pub fn show(&mut self) {
        self.load(0xba, COM1.into());
        self.put(&[0xee]);
    }

    /// As a file that the monitor takes for a kernel; it sleeps for ever at its end.
    pub fn kernel(mut self) -> NamedTempFile {
        // hlt; jmp back to it
        self.put(&[0xf4, 0xeb, 0xfd]);
        let size = self.0.len() as u64 + HEADERS;
        // System V ABI, "ELF-64 Object File Format": an executable for x86-64 with one program header.
        let mut file = b"\x7fELF\x02\x01\x01".to_vec();
        file.resize(16, 0);
        for half in [2_u16, 62] {
            file.extend(half.to_le_bytes());
        }
        file.extend(1_u32.to_le_bytes());
        for quad in [ADDRESS + HEADERS, 64, 0] {
            file.extend(quad.to_le_bytes());
        }
        file.extend(0_u32.to_le_bytes());
        for half in [64_u16, 56, 1, 64, 0, 0] {
            file.extend(half.to_le_bytes());
        }
        // PT_LOAD, readable and executable.
        for word in [1_u32, 5] {
            file.extend(word.to_le_bytes());
        }
        for quad in [0, ADDRESS, ADDRESS, size, size, 0x1000] {
            file.extend(quad.to_le_bytes());
        }
        file.extend(&self.0);
        let mut kept = NamedTempFile::new().expect("a file");
        kept.write_all(&file).expect("written");
        kept
    }
}
