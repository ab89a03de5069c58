//! Kernels made here, small but whole, loaded into memory.

use proptest::prelude::*;

use super::*;

const MIB: u64 = 1 << 20;
const BASE: u64 = 16 * MIB;

fn machine(memory: u64) -> (GuestRam, Layout) {
    let layout = Layout::new(memory, 40).unwrap();
    (crate::memory::allocate(&layout.regions()).unwrap(), layout)
}

/// An ELF kernel with one segment of `code` at `BASE`, of which `memory` bytes are taken; with a PVH note if asked.
fn vmlinux(code: &[u8], memory: u64, pvh: Option<u32>) -> Vec<u8> {
    let mut file = vec![0u8; 0x200];
    file[..20].copy_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0");
    let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
    put(24, &(BASE + 0x10).to_le_bytes());
    put(32, &64u64.to_le_bytes());
    put(54, &56u16.to_le_bytes());
    put(56, &if pvh.is_some() { 2u16 } else { 1 }.to_le_bytes());
    put(64, &1u32.to_le_bytes());
    for (at, value) in [(72, 0x200), (88, BASE), (96, code.len() as u64), (104, memory)] {
        put(at, &u64::to_le_bytes(value));
    }
    if let Some(entry) = pvh {
        put(120, &4u32.to_le_bytes());
        put(128, &0x180u64.to_le_bytes());
        put(152, &20u64.to_le_bytes());
        for (at, word) in [(0x180, 4), (0x184, 4), (0x188, 18), (0x190, entry)] {
            put(at, &u32::to_le_bytes(word));
        }
        put(0x18c, b"Xen\0");
    }
    file.extend(code);
    file
}

/// Code of 64 bytes with three places to be changed, and their list.
fn relocatable() -> (Vec<u8>, Vec<u8>) {
    let mut code = vec![0x90u8; 64];
    code[16..24].copy_from_slice(&0xffff_ffff_8100_0000u64.to_le_bytes());
    code[24..28].copy_from_slice(&0x7000_0000u32.to_le_bytes());
    code[28..32].copy_from_slice(&0x8100_0020u32.to_le_bytes());
    let list = [0u32, 0x8100_0010, 0, 0x8100_0018, 0, 0x8100_001c];
    (code, list.iter().flat_map(|word| word.to_le_bytes()).collect())
}

/// A bzImage of protocol 2.15 around `payload`.
fn bz(payload: &[u8]) -> Vec<u8> {
    let mut file = vec![0u8; 1024];
    let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
    put(0x1f1, &[1]);
    put(0x201, &[0x6a]);
    put(0x202, b"HdrS\x0f\x02");
    put(0x22c, &0x7fff_ffffu32.to_le_bytes());
    put(0x236, &1u16.to_le_bytes());
    put(0x238, &2047u32.to_le_bytes());
    put(0x248, &0x300u32.to_le_bytes());
    put(0x24c, &(payload.len() as u32).to_le_bytes());
    put(0x258, &BASE.to_le_bytes());
    put(0x260, &(4 * MIB as u32).to_le_bytes());
    file.resize(1024 + 0x300, 0xf4);
    file.extend(payload);
    file
}

fn boot(
    memory: u64,
    kernel: &[u8],
    initrd: Option<&[u8]>,
    cmdline: &str,
) -> (GuestRam, Result<Loaded, BootError>) {
    let (ram, layout) = machine(memory);
    let payload = Payload {
        kernel: Cursor::new(kernel.to_vec()),
        initrd: initrd.map(|it| Cursor::new(it.to_vec())),
        cmdline,
    };
    let loaded = load(&ram, &layout, layout::RSDP, payload);
    (ram, loaded)
}

fn read<T: vm_memory::ByteValued>(ram: &GuestRam, address: u64) -> T {
    ram.read_obj(GuestAddress(address)).unwrap()
}

#[test]
fn an_elf_kernel_is_entered_in_64_bit_mode() {
    let initrd = vec![7u8; 5000];
    let (ram, loaded) =
        boot(64 * MIB, &vmlinux(&[0xaa; 100], 200, None), Some(&initrd), "quiet root=/dev/vda");
    let loaded = loaded.unwrap();
    assert_eq!(loaded.entry, Entry::Linux64 { rip: BASE + 0x10, boot_params: layout::ZERO_PAGE });
    assert_eq!((loaded.kernel.clone(), read::<u32>(&ram, BASE + 98)), (BASE..BASE + 200, 0xaaaa));
    let disk = loaded.initrd.unwrap();
    assert_eq!((disk.start, disk.end), (64 * MIB - 8192, 64 * MIB - 8192 + 5000));
    assert_eq!(read::<u8>(&ram, disk.end - 1), 7);
    let page = layout::ZERO_PAGE;
    assert_eq!(read::<u32>(&ram, page + 0x218), disk.start as u32);
    assert_eq!(read::<u32>(&ram, page + 0x21c), 5000);
    assert_eq!(read::<u64>(&ram, page + 0x70), layout::RSDP);
    assert_eq!(read::<u8>(&ram, page + 0x211), 1);
    assert_eq!(read::<u32>(&ram, page + 0x228), layout::CMDLINE as u32);
    assert_eq!(read::<[u8; 6]>(&ram, layout::CMDLINE), *b"quiet ");
    assert_eq!(read::<u8>(&ram, layout::CMDLINE + 19), 0);
    assert_eq!(read::<u8>(&ram, page + 0x1e8), 5);
    let third = page + 0x2d0 + 2 * 20;
    assert_eq!((read::<u64>(&ram, third), read::<u64>(&ram, third + 8)), (MIB, 63 * MIB));
}

#[test]
fn a_note_leads_to_pvh() {
    let (ram, loaded) = boot(64 * MIB, &vmlinux(&[0xaa; 100], 200, Some(0x100_0020)), Some(b"disk"), "x");
    let loaded = loaded.unwrap();
    assert_eq!(loaded.entry, Entry::Pvh { rip: 0x100_0020, start_info: layout::PVH_INFO });
    assert_eq!(read::<[u32; 4]>(&ram, layout::PVH_INFO), [0x336e_c578, 1, 0, 1]);
    let module = read::<u64>(&ram, layout::PVH_INFO + 16);
    assert_eq!(read::<[u64; 2]>(&ram, module), [loaded.initrd.unwrap().start, 4]);
    assert_eq!(read::<u64>(&ram, layout::PVH_INFO + 24), layout::CMDLINE);
    let map = read::<u64>(&ram, layout::PVH_INFO + 40);
    assert_eq!(read::<u32>(&ram, layout::PVH_INFO + 48), 5);
    assert_eq!(read::<[u64; 2]>(&ram, map), [0, layout::EBDA]);
}

#[test]
fn addresses_are_randomized_unless_told_otherwise() {
    let (code, list) = relocatable();
    let file = [vmlinux(&code, 3 * MIB, Some(0x100_0020)), list].concat();
    let mut places = std::collections::BTreeSet::new();
    for _ in 0..20 {
        let (ram, loaded) = boot(256 * MIB, &file, None, "kaslr");
        let loaded = loaded.unwrap();
        let start = loaded.kernel.start;
        assert_eq!(loaded.entry, Entry::Linux64 { rip: start + 0x10, boot_params: layout::ZERO_PAGE });
        let delta = read::<u64>(&ram, start + 16) - 0xffff_ffff_8100_0000;
        assert_eq!(read::<u32>(&ram, start + 24), 0x7000_0000 - delta as u32);
        assert_eq!(read::<u32>(&ram, start + 28), 0x8100_0020 + delta as u32);
        assert_eq!((start % kaslr::ALIGNMENT, delta % kaslr::ALIGNMENT), (0, 0));
        assert!(start >= BASE && loaded.kernel.end <= 256 * MIB && BASE + delta + 3 * MIB <= 1 << 30);
        assert_eq!(read::<u8>(&ram, layout::ZERO_PAGE + 0x211), 3);
        places.insert((start, delta));
    }
    // 20 draws of some 60,000 that are all equal mean that nothing is drawn.
    assert!(places.len() > 1);
    let (ram, loaded) = boot(256 * MIB, &file, None, "quiet nokaslr");
    assert_eq!(loaded.unwrap().kernel.start, BASE);
    assert_eq!(
        (read::<u64>(&ram, BASE + 16), read::<u8>(&ram, layout::ZERO_PAGE + 0x211)),
        (0xffff_ffff_8100_0000, 1)
    );
}

#[test]
fn lists_of_newer_kernels_are_told_apart() {
    let (code, _) = relocatable();
    let file = vmlinux(&code, 64, None);
    let elf = Elf::read(&mut Cursor::new(&file), file.len() as u64).unwrap();
    let parse = |words: &[u32]| {
        let tail: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        Relocations::parse(&tail, &elf)
    };
    let (old, new) = (parse(&[0, 0x8100_0010, 0, 0, 0x8100_001c]), parse(&[0, 0x8100_0010, 0, 0x8100_001c]));
    assert!(old.is_some() && old == new);
    for nonsense in
        [&[][..], &[0], &[1, 0], &[0, 0x8100_0039, 0], &[0, 0, 0x8000_0000], &[0, 0, 0x8100_003d], &[0; 4]]
    {
        assert_eq!(parse(nonsense), None, "{nonsense:x?}");
    }
}

#[test]
fn a_bzimage_is_unpacked() {
    let (code, list) = relocatable();
    let kernel = [vmlinux(&code, 64, None), list].concat();
    let file = bz(&liblzma::encode_all(&kernel[..], 0).unwrap());
    assert_eq!(unpack_kernel(&file).unwrap().unwrap(), kernel);
    assert_eq!(unpack_kernel(&kernel).unwrap(), None);
    let (ram, loaded) = boot(64 * MIB, &file, None, "nokaslr");
    assert_eq!(loaded.unwrap().entry, Entry::Linux64 { rip: BASE + 0x10, boot_params: layout::ZERO_PAGE });
    assert_eq!(read::<u8>(&ram, BASE), 0x90);
}

#[test]
fn a_bzimage_of_unknown_compression_unpacks_itself() {
    let (ram, loaded) = boot(64 * MIB, &bz(b"BZh9..."), None, "");
    let loaded = loaded.unwrap();
    assert_eq!(loaded.entry, Entry::Linux64 { rip: BASE + 0x200, boot_params: layout::ZERO_PAGE });
    assert_eq!((loaded.kernel.end, read::<u8>(&ram, BASE)), (BASE + 4 * MIB, 0xf4));
    assert_eq!(read::<u32>(&ram, layout::ZERO_PAGE + 0x260), 4 * MIB as u32);
    assert_eq!(read::<u8>(&ram, layout::ZERO_PAGE + 0x211), 1);
}

#[test]
fn refusals_say_why() {
    let good = vmlinux(&[0; 100], 200, None);
    let with = |at: usize, byte: u8| {
        let mut file = good.clone();
        file[at] = byte;
        file
    };
    let fails = |memory, file: &[u8], initrd: Option<&[u8]>, cmdline: &str| {
        boot(memory, file, initrd, cmdline).1.unwrap_err()
    };
    assert!(matches!(fails(64 * MIB, b"#!/bin/sh", None, ""), BootError::Unpack(UnpackError::NotAKernel)));
    assert!(matches!(fails(64 * MIB, b"", None, ""), BootError::Unpack(UnpackError::NotAKernel)));
    assert!(matches!(fails(64 * MIB, &with(4, 1), None, ""), BootError::Only32Bit));
    assert!(matches!(fails(64 * MIB, &with(18, 0xb7), None, ""), BootError::ForeignMachine(0xb7)));
    assert!(matches!(fails(64 * MIB, &good[..good.len() - 1], None, ""), BootError::Truncated));
    assert!(matches!(fails(64 * MIB, &good[..40], None, ""), BootError::Truncated));
    let big = vmlinux(&[0; 100], 49 * MIB, None);
    assert!(matches!(fails(64 * MIB, &big, None, ""), BootError::KernelTooLarge { room: 0x400_0000, .. }));
    let disk = vec![0; 50 * MIB as usize];
    assert!(matches!(fails(64 * MIB, &good, Some(&disk), ""), BootError::KernelTooLarge { .. }));
    assert!(matches!(fails(40 * MIB, &good, Some(&disk), ""), BootError::InitrdTooLarge { .. }));
    let long = "x".repeat(2048);
    assert!(matches!(
        fails(64 * MIB, &good, None, &long),
        BootError::CmdlineTooLong { length: 2048, most: 2047 }
    ));
    assert!(matches!(fails(64 * MIB, &good, None, "a\0b"), BootError::CmdlineZero));
    let mut old = bz(b"BZh9");
    old[0x236] = 0;
    assert!(matches!(fails(64 * MIB, &old, None, ""), BootError::Only32Bit));
    old[0x206] = 5;
    assert!(matches!(fails(64 * MIB, &old, None, ""), BootError::Unpack(UnpackError::Protocol(0x205))));
    let cut = bz(&liblzma::encode_all(&good[..], 0).unwrap());
    assert!(matches!(
        fails(64 * MIB, &cut[..cut.len() - 1], None, ""),
        BootError::Unpack(UnpackError::Truncated)
    ));
    let mut damaged = cut.clone();
    *damaged.last_mut().unwrap() ^= 1;
    assert!(matches!(fails(64 * MIB, &damaged, None, ""), BootError::Unpack(UnpackError::Payload(_))));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn damaged_kernels_never_panic(which in 0usize..2, changes in prop::collection::vec((0usize..0x400, any::<u8>()), 1..8)) {
        let (code, list) = relocatable();
        let elf = [vmlinux(&code, 64, Some(0x100_0020)), list].concat();
        let mut file = [elf.clone(), bz(&zstd::encode_all(&elf[..], 1).unwrap())][which].clone();
        for (at, byte) in changes {
            let at = at % file.len();
            file[at] = byte;
        }
        if let Ok(loaded) = boot(64 * MIB, &file, Some(b"disk"), "quiet").1 {
            prop_assert!(loaded.kernel.start >= MIB && loaded.kernel.end <= 64 * MIB);
        }
        let _ = unpack_kernel(&file);
    }
}
